"""Many clips from a JSON-lines file, one output a line."""

import dataclasses
from pathlib import Path
from typing import Any

from jax_interp.errors import UsageError
from jax_interp.files.json_file import parse_json
from jax_interp.files.names import check_text
from jax_interp.media.picture_reader import PICTURE_SUFFIXES
from jax_interp.pipeline.jobs.request import Job

_KEYS = {"prompt", "visual_input", "name"}


def read_batch(path: Path, template: Job) -> list[Job]:
    """One job a line of `path`: `{"visual_input": "clip.mp4" or ["a.png", "b.png"], "prompt": "...", "name": "..."}`.

    `prompt` and `name` are optional: a line's output is called after its `name`, else after the template's video and
    the line's number from 0. Paths are relative to the current folder. Everything else comes from `template`.

    Raises:
        UsageError: lists every line that cannot work and why.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--batch-input-path {path}: cannot be read ({error}); expected a file of JSON lines"
        ) from error
    jobs, faults = [], []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            jobs.append(_job(parse_json(line), number, template))
        except ValueError as error:
            faults.append(f"line {number + 1}: {error}")
    names = [job.video.name for job in jobs]
    faults += [f"{name} is the output of several lines" for name in sorted({n for n in names if names.count(n) > 1})]
    if faults or not jobs:
        raise UsageError(f"--batch-input-path {path}: " + ("; ".join(faults) or "has no lines"))
    return jobs


def _job(line: Any, number: int, template: Job) -> Job:
    if not isinstance(line, dict) or "visual_input" not in line or line.keys() - _KEYS:
        unknown = (
            f"; {', '.join(sorted(line.keys() - _KEYS)) or 'nothing'} is unknown" if isinstance(line, dict) else ""
        )
        raise ValueError(f"expected an object with visual_input, and optionally prompt and name{unknown}")
    inputs = [line["visual_input"]] if isinstance(line["visual_input"], str) else line["visual_input"]
    prompt = line.get("prompt", template.settings.prompt)
    if not isinstance(inputs, list) or not inputs or not all(isinstance(item, str) for item in inputs):
        raise ValueError("visual_input is neither a path nor a list of paths")
    if not isinstance(prompt, str):
        raise ValueError("prompt is not a text")
    check_text("prompt", prompt)
    for item in inputs:
        check_text("visual_input", item)
    if "" in inputs:
        raise ValueError("visual_input is an empty path")
    missing = [item for item in inputs if not _exists(Path(item))]
    if missing:
        raise ValueError(f"no such file: {', '.join(missing)}")
    name = plain_name(line.get("name", f"{template.video.stem}_{number:04d}"), "name")
    folder = template.frames_folder
    return dataclasses.replace(
        template,
        inputs=tuple(Path(item) for item in inputs),
        video=template.video.with_name(name + template.video.suffix),
        frames_folder=None if folder is None else folder / name,
        settings=dataclasses.replace(template.settings, prompt=prompt),
        upsampler=None if "prompt" in line else template.upsampler,
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no file can have that name
        return False


def plain_name(name: Any, flag: str) -> str:
    """`name` if it is a file name without folders, its .mp4 dropped, else `UsageError` naming `flag`."""
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
        raise UsageError(f"{flag} {name!r}: expected a plain file name; give folders with --video-save-folder")
    check_text(flag, name)
    stem, suffix = name[:-4] if name.lower().endswith(".mp4") else name, Path(name).suffix.lower()
    if suffix in _OTHER_SUFFIXES:
        raise UsageError(f"{flag} {name!r}: results are mp4; leave {suffix} out, or end the name in .mp4")
    if not stem:
        raise UsageError(f"{flag} {name!r}: has nothing before its .mp4; give the video a name")
    return stem


_OTHER_SUFFIXES = frozenset(
    (
        *(".mkv", ".mov", ".qt", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf"),
        *(".flv", ".f4v", ".ogv", ".ogg", ".3gp", ".3g2", ".mxf", ".nut", ".vob", ".dv", ".y4m", ".ivf", ".h264"),
        *(".h265", ".hevc", ".av1", ".gif", ".apng", ".avif", ".jxl", ".heic", ".tga", ".exr", ".dpx", ".npy", ".npz"),
        *(".mp3", ".m4a", ".aac", ".wav", ".flac", ".opus", ".json", ".jsonl", ".txt", *PICTURE_SUFFIXES),
    )
)
"""Of files that nobody would call mp4. Other dots are part of a name: "take.2", "v1.0"."""
