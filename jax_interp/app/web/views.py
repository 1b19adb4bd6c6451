"""The parts of the page that are HTML: whatever a user or a file says reaches them escaped, as text."""

import html
import re
from typing import Any

from jax_interp.app.asked import Asked
from jax_interp.app.estimate import in_words
from jax_interp.app.results import MOST_PREVIEWS
from jax_interp.app.store import JobEntry

SHOWN_PREVIEWS = 12
_CODE = re.compile(r"`([^`]+)`")

_WORDS = {
    "queued": "waiting",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "blocked": "blocked by the guardrails",
}


def heading(is_demo: bool) -> str:
    """Return the top of the page."""
    note = (
        "<p class='note'>These are the demo's toy networks: they show how it works, not how good the real ones are.</p>"
        if is_demo
        else ""
    )
    return f"<h1>jax-interp</h1><p>The frames between frames, generated on this machine.</p>{note}"


def alert(message: str) -> str:
    """Return an error's message."""
    return f"<p role='alert' class='alert'>{html.escape(message)}</p>"


def plan(lines: list[str]) -> str:
    """Return what a job will take, or nothing."""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h2>What it will take</h2><ul class='plan'>{items}</ul>" if lines else ""


def status(entry: JobEntry, progress: dict[str, Any]) -> str:
    """Return how far a job is, with pictures of the latest pairs."""
    name, state = html.escape(entry.name), _WORDS[entry.state]
    lines = [f"<h2>{name}: {state}</h2>"]
    if entry.state == "queued":
        ahead = progress["jobs_ahead"]
        lines.append(f"<p>{ahead} job(s) come before this one.</p>" if ahead else "<p>It is the next one.</p>")
    elif entry.state == "running":
        lines += _running(entry, progress)
    elif entry.state == "blocked":
        lines.append(f"<p class='alert'>Nothing of it is shown: {html.escape(entry.message)}.</p>")
    elif entry.message:
        lines.append(f"<p class='alert'>{html.escape(entry.message)}</p>")
    if entry.state in ("running", "done"):
        lines.append(_previews(entry))
    return f"<section role='status' aria-live='polite' data-state='{entry.state}'>{''.join(lines)}</section>"


def _running(entry: JobEntry, progress: dict[str, Any]) -> list[str]:
    if progress["is_being_cancelled"]:
        return ["<p>It is being cancelled.</p>"]
    if entry.message:
        return ["<p>All frames are there; the files are being packed.</p>"]
    if not entry.pairs:
        return ["<p>The networks are being loaded and compiled.</p>"]
    left = progress["seconds_left"]
    about = "" if left is None else f", about {in_words(left)} left"
    label = f"{entry.pair} of {entry.pairs} pairs{about}"
    return [
        f"<p id='progress-label'>{html.escape(label)}</p>",
        f"<progress max='1' value='{entry.share:.3f}' aria-labelledby='progress-label'></progress>",
    ]


def _previews(entry: JobEntry) -> str:
    first = max(1, entry.previews - min(SHOWN_PREVIEWS, MOST_PREVIEWS) + 1)
    pictures = "".join(
        f"<img src='/results/{entry.id}/{number}.webp' alt='the middle of pair {number}' loading='lazy'>"
        for number in range(first, entry.previews + 1)
    )
    return f"<div class='previews'>{pictures}</div>" if pictures else ""


def result(entry: JobEntry, addresses: dict[str, str]) -> str:
    """Return the result of a finished job beside its source, the comparison below it, and what can be downloaded."""
    if not addresses:
        return ""
    facts, name = entry.known, html.escape(entry.name)
    source = entry.input_names[0]
    address = f"/results/{entry.id}/source.{source.rpartition('.')[2]}"
    is_video = source.rpartition(".")[2] in ("mp4", "m4v", "mov", "webm", "mkv", "avi", "ts")
    shown = (
        f"<video controls playsinline preload='metadata' src='{address}' aria-label='the source'></video>"
        if is_video
        else f"<img src='{address}' alt='the source, its first picture'>"
    )
    about = f"{facts.get('frames', '?')} frames, {facts.get('rate', '?')} a second, {facts.get('size', '?')}"
    parts = [
        "<section aria-label='result'><div class='pair'>",
        f"<figure>{shown}<figcaption>Source: {name}</figcaption></figure>",
        f"<figure><video id='result-video' controls playsinline preload='metadata' src='{addresses['video']}'"
        f" aria-label='the result'></video><figcaption>Result: {html.escape(about)}</figcaption></figure></div>",
        f"<p class='downloads'><span>Download</span> {_downloads(entry.name, addresses)}</p>",
    ]
    if "comparison" in addresses:
        parts.append(
            f"<iframe class='comparison' src='{addresses['comparison']}' sandbox='allow-scripts'"
            " title='source and result, frame by frame, with a slider between them'></iframe>"
        )
    if why := facts.get("comparison"):
        parts.append(f"<p>{html.escape(str(why))}</p>")
    return "".join([*parts, "</section>"])


def _downloads(clip: str, addresses: dict[str, str]) -> str:
    """Return a link for each file, which is saved under the clip's name: results of several jobs are told apart."""
    stem = html.escape(clip.rpartition(".")[0] or clip)
    words = {"video": "Video", "frames": "Frames as PNG (zip)", "record": "Run record", "comparison": "Comparison"}
    return " ".join(
        f"<a class='download' href='{address}' download='{stem}-{address.rpartition('/')[2]}'>{words[name]}</a>"
        for name, address in addresses.items()
    )


def jobs(entries: list[JobEntry], current: str) -> str:
    """Return the list of a user's jobs, each a link that shows it."""
    if not entries:
        return "<p class='note'>You have no jobs yet.</p>"
    items = "".join(
        f"<li><a href='?job={entry.id}'{_current(entry, current)}>{html.escape(entry.name)}</a>"
        f" <span class='note'>{html.escape(_choices(entry.settings))}</span> <span>{_WORDS[entry.state]}</span></li>"
        for entry in entries
    )
    return f"<nav aria-label='your jobs'><h2>Your jobs</h2><ul class='jobs'>{items}</ul></nav>"


def _choices(asked: Asked) -> str:
    """Return in a few words what was asked, which tells jobs of one clip apart."""
    if asked.pipeline == "continue":
        words = [f"continued to {asked.length} frames"]
    elif asked.rate:
        words = [asked.rate if asked.rate.endswith("x") else f"{asked.rate} frames a second"]
    else:
        words = [] if asked.slow_motion != "1" else ["ten frames for every pair"]
    words += [f"slow motion {asked.slow_motion}"] if asked.slow_motion != "1" else []
    return ", ".join([*words, f"{asked.steps} step(s)", f"seed {asked.seed}"])


def _current(entry: JobEntry, current: str) -> str:
    return " aria-current='true'" if entry.id == current else ""


def table(caption: str, names: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table with a heading above it."""
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_with_code(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<div class='scrolled'><table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def paragraphs(lines: list[str]) -> str:
    """Return a paragraph for each line; what stands between backticks is code."""
    return "".join(f"<p>{_with_code(line)}</p>" for line in lines)


def _with_code(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text))
