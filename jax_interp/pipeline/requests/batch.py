"""Reading a batch: a file of JSON lines, of which each line is one clip with its own output."""

import dataclasses
from pathlib import Path
from typing import Any

from jax_interp.errors import UsageError
from jax_interp.files.names import check_text
from jax_interp.media.pictures.suffixes import PICTURE_SUFFIXES
from jax_interp.media.video.codecs import MUXERS, default_suffix
from jax_interp.pipeline.requests.json_lines import read_json_lines
from jax_interp.pipeline.requests.request import GenerateRequest, Job

_KEYS = {"prompt", "visual_input", "name"}
_MAX_FAULTS_SHOWN = 50
"""The largest number of faults that the message lists; it counts the others."""


def read_batch(path: Path, request: GenerateRequest) -> GenerateRequest:
    """Return `request` with one job for each line of `path`; the request's own first job is their template.

    A line is `{"visual_input": "clip.mp4" or ["a.png", "b.png"], "prompt": "...", "name": "..."}`. `prompt` and `name`
    are optional: a line's output is named after its `name`, else after the template's video and the line's number from
    0. Paths are relative to the current folder. Everything else comes from `request`.

    Raises:
        UsageError: a line cannot work; the message lists every such line with the reason.
    """
    template = request.jobs[0]
    try:
        lines = read_json_lines(path)
    except FileNotFoundError as error:
        raise UsageError(f"--batch-input-path {path}: no such file; expected a file of JSON lines") from error
    except OSError as error:
        raise UsageError(
            f"--batch-input-path {path}: cannot be read ({error.strerror or error}); expected a file of JSON lines"
        ) from error
    except ValueError as error:
        raise UsageError(f"--batch-input-path {path}: {error}") from error
    jobs: dict[int, Job] = {}
    faults = lines.faults
    for number, line in lines.objects.items():
        try:
            jobs[number] = _job(line, number, template)
        except ValueError as error:
            faults[number] = str(error)
    listed = [f"line {number + 1}: {faults[number]}" for number in sorted(faults)] + _shared_outputs(jobs)
    if len(listed) > _MAX_FAULTS_SHOWN:
        listed[_MAX_FAULTS_SHOWN:] = [f"and {len(listed) - _MAX_FAULTS_SHOWN} more"]
    if listed or not jobs:
        raise UsageError(f"--batch-input-path {path}: " + ("; ".join(listed) or "has no lines"))
    return dataclasses.replace(request, jobs=tuple(jobs.values()), batch=path)


def _shared_outputs(jobs: dict[int, Job]) -> list[str]:
    """Return a fault for each output that more than one line would write, with the lines' numbers."""
    by_name: dict[str, list[int]] = {}
    for number, job in jobs.items():
        by_name.setdefault(job.video.name, []).append(number + 1)
    return [
        f"{name} is the output of several lines: {', '.join(map(str, numbers))}"
        for name, numbers in sorted(by_name.items())
        if len(numbers) > 1
    ]


def _job(line: dict[str, Any], number: int, template: Job) -> Job:
    unknown = sorted(line.keys() - _KEYS)
    if "visual_input" not in line or unknown:
        what = f"; {_shown(', '.join(unknown))} is unknown" if unknown else ""
        raise ValueError(f"expected an object with visual_input, and optionally prompt and name{what}")
    prompt = line.get("prompt", template.settings.prompt)
    if not isinstance(prompt, str):
        raise ValueError("prompt is not a text")
    check_text("prompt", prompt)
    inputs = _inputs(line["visual_input"])
    suffix = template.video.suffix
    name = plain_name(line.get("name", f"{template.video.stem}_{number:04d}"), "name", suffix)
    folder = template.frames_folder
    return dataclasses.replace(
        template,
        inputs=inputs,
        video=template.video.with_name(name + suffix),
        frames_folder=None if folder is None else folder / name,
        settings=dataclasses.replace(template.settings, prompt=prompt),
        upsampler=None if "prompt" in line else template.upsampler,
    )


def _inputs(value: Any) -> tuple[Path, ...]:
    """Return the paths of `visual_input`; raise `ValueError` if one does not exist."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(isinstance(item, str) and item for item in items):
        raise ValueError("visual_input is neither a path nor a list of paths")
    for item in items:
        check_text("visual_input", item)
    missing = [item for item in items if not _exists(item)]
    if missing:
        raise ValueError(f"no such file: {', '.join(map(_shown, missing[:3]))}{', …' if len(missing) > 3 else ''}")
    return tuple(Path(item) for item in items)


def _exists(item: str) -> bool:
    try:
        return Path(item).exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ValueError(f"{_shown(item)}: {error.strerror}") from error


def _shown(text: str) -> str:
    """Return text of the file for a message: on one line, and shortened to a readable length."""
    plain = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return plain if len(plain) <= 200 else f"{plain[:200]}…"


def result_suffix(name: str, codec: str | None) -> str:
    """Return the suffix of a result that is called `name`: its own if a container has it, else that of `codec`."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in MUXERS else default_suffix(codec)


def plain_name(name: Any, flag: str, suffix: str = ".mp4") -> str:
    """Return `name` without its `suffix`; raise a `UsageError` that names `flag` if it is no file name without folders.

    A name that ends in the suffix of another kind of file is refused too.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
        raise UsageError(f"{flag} {name!r}: expected a plain file name; give folders with --video-save-folder")
    check_text(flag, name)
    stem, own = name[: -len(suffix)] if name.lower().endswith(suffix) else name, Path(name).suffix.lower()
    if own in _SUFFIXES - {suffix}:
        raise UsageError(
            f"{flag} {name!r}: results are {suffix[1:]} here; leave {own} out, or end the name in {suffix}"
            " (--video-save-name takes .mp4, .mkv, .mov, .gif and .webp)"
        )
    if not stem:
        raise UsageError(f"{flag} {name!r}: has nothing before its {suffix}; give the video a name")
    return stem


_SUFFIXES = frozenset(
    (
        *(
            ".mp4",
            ".mkv",
            ".mov",
            ".qt",
            ".webm",
            ".avi",
            ".m4v",
            ".mpg",
            ".mpeg",
            ".ts",
            ".mts",
            ".m2ts",
            ".wmv",
            ".asf",
        ),
        *(".flv", ".f4v", ".ogv", ".ogg", ".3gp", ".3g2", ".mxf", ".nut", ".vob", ".dv", ".y4m", ".ivf", ".h264"),
        *(".h265", ".hevc", ".av1", ".gif", ".apng", ".avif", ".jxl", ".heic", ".tga", ".exr", ".dpx", ".npy", ".npz"),
        *(".mp3", ".m4a", ".aac", ".wav", ".flac", ".opus", ".json", ".jsonl", ".txt", *PICTURE_SUFFIXES),
    )
)
"""The suffixes of files of known kinds. Other dots are part of a name: "take.2", "v1.0"."""
