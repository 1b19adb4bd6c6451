"""The run of `jax-interp evaluate`: it lets the networks generate, scores what came out, and writes the report."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp._version import __version__
from jax_interp.cli.options.requests import OURS, EvaluateRequest, clip_name
from jax_interp.cli.runs.generate import OnTerminal
from jax_interp.cli.terminal.console import Cell, show_table
from jax_interp.cli.terminal.progress import progress
from jax_interp.errors import UsageError
from jax_interp.evaluation.compare.page import NamedClip, PageSettings, PageTooLarge, write_page
from jax_interp.evaluation.lpips import Lpips, find_lpips
from jax_interp.evaluation.metrics import MOVING
from jax_interp.evaluation.plot import plot_png
from jax_interp.evaluation.scoring import (
    BLEND,
    TRUTH,
    blended_source,
    check_made,
    count_pairs,
    pairs_across,
    resized_source,
    score_clip,
)
from jax_interp.files.atomic import write_atomically
from jax_interp.files.overlap import Input
from jax_interp.media.destination import check_destination, clip_files, locked_result
from jax_interp.media.output import as_media_error
from jax_interp.media.pairs import iterate_pairs
from jax_interp.media.reader import open_frames
from jax_interp.media.source import FrameSource, Picture
from jax_interp.media.timeline.plan import settled_cuts
from jax_interp.media.timeline.scene_cuts import check_cuts, find_cuts
from jax_interp.media.timeline.settings import Timeline
from jax_interp.media.writer import PngWriter
from jax_interp.pipeline.jobs.generate import generate
from jax_interp.pipeline.requests.request import GenerateRequest
from jax_interp.runtime.compile_cache import enable_compile_cache
from jax_interp.terminal import show

logger = logging.getLogger("jax_interp")

VERSION = 1
"""The version of report.json. Keys may be added under the same version; none is removed or changes."""


@dataclass(frozen=True)
class _Clip:
    """A clip that is evaluated."""

    path: Path
    source: FrameSource
    pairs: int
    cuts: tuple[int, ...] = ()
    """The numbers of the frames that begin a scene."""
    across_cuts: tuple[int, ...] = ()
    """The pairs that lie across one."""

    @property
    def name(self) -> str:
        return clip_name(self.path)


def run(request: EvaluateRequest) -> None:
    """Evaluate the clips of `request`; raises what `pipeline.jobs.generate.generate` does, before anything is loaded
    where that is possible."""
    _check_extra()
    clips = [_open(path, request) for path in request.clips]
    against = {clip_name(path): open_frames([path]) for path in request.against}
    for name, source in against.items():
        check_made(source, name, request.stride, clips[0].pairs)
    report, plot = request.output_dir / "report.json", request.output_dir / "plot.png"
    read = clip_files([*request.clips, *request.against], "an input")
    read += [Input(request.scene_cuts, "--scene-cuts")] if isinstance(request.scene_cuts, Path) else []
    pages = {clip.name: request.output_dir / f"{clip.name}.html" for clip in clips}
    for path in (report, plot, *pages.values()):
        check_destination(path, "--output-dir", read, overwrite=request.overwrite)
    clips = [_with_cuts(clip, request) for clip in clips]
    _save_keyframes(request, clips)
    if request.generate is not None:
        generate(_between_cuts(request.generate, clips), OnTerminal(show_seconds=False))
    enable_compile_cache()
    with locked_result(report):
        lpips = find_lpips()
        scores = {clip.name: _score(clip, request, against, lpips) for clip in clips}
        _write(report, (json.dumps(_report(request, clips, scores), indent=2, allow_nan=False) + "\n").encode())
        _write(plot, plot_png(_title(clips), _joined([found["frame_psnr"] for found in scores.values()])))
        for clip in clips:
            _write_page(pages[clip.name], clip, request, against)
    _show_scores(scores)
    show(f"{report}: the scores, also of single frames; {plot}", report=str(report), plot=str(plot))


def _check_extra() -> None:
    if missing := [name for name in ("dm_pix", "matplotlib") if find_spec(name) is None]:
        raise UsageError(f'evaluate needs {" and ".join(missing)}: pip install -e ".[evaluate]" in the clone')


def _open(path: Path, request: EvaluateRequest) -> _Clip:
    source = open_frames([path])
    return _Clip(path, source, count_pairs(source, request.stride, request.num_frame_pairs))


def _with_cuts(clip: _Clip, request: EvaluateRequest) -> _Clip:
    """Return the clip with its scene cuts, after looking for them if that is asked for, and say what they leave out."""
    cuts = settled_cuts(request.scene_cuts, clip.source, by_default=True)
    if isinstance(cuts, tuple):
        check_cuts(cuts, clip.source.num_frames)
    elif cuts == "auto":
        num_frames = clip.pairs * request.stride + 1
        with progress(f"looking for cuts in {clip.name}", num_frames) as task:
            cuts = find_cuts(_counted(islice(clip.source, num_frames), task.update))
    found = cuts if isinstance(cuts, tuple) else ()
    across = pairs_across(found, request.stride, clip.pairs)
    if len(across) == clip.pairs:
        raise UsageError(f"{clip.path}: every pair lies across a scene cut; --scene-cuts off scores them all the same")
    if across:
        logger.info("%s: %d of %d pairs lie across scene cuts and are left out", clip.path, len(across), clip.pairs)
    return replace(clip, cuts=found, across_cuts=across)


def _counted(frames: Iterable[Picture], update: Callable[[int], Any]) -> Iterator[Picture]:
    for number, frame in enumerate(frames, 1):
        update(number)
        yield frame


def _between_cuts(request: GenerateRequest, clips: list[_Clip]) -> GenerateRequest:
    """Return the request with the cuts of its clips, across which nothing is generated."""
    jobs = zip(request.jobs, clips, strict=True)
    return replace(
        request,
        jobs=tuple(replace(job, timeline=Timeline(scene_cuts=clip.cuts)) if clip.cuts else job for job, clip in jobs),
    )


def _save_keyframes(request: EvaluateRequest, clips: list[_Clip]) -> None:
    """Write the keyframes of the only clip for other tools, if that was asked for."""
    if request.save_keyframes is None:
        return
    [clip] = clips
    with PngWriter(request.save_keyframes, overwrite=request.overwrite) as writer:
        for index, first, last in iterate_pairs(clip.source, request.stride, 0, clip.pairs):
            writer.write(np.stack([last] if index else [first, last]))
    show(f"{request.save_keyframes}: {writer.num_frames} keyframes", keyframes=str(request.save_keyframes))


def _score(
    clip: _Clip, request: EvaluateRequest, against: Mapping[str, FrameSource], lpips: Lpips | None
) -> dict[str, Any]:
    made = _generated(clip, request)
    with progress(f"scoring {clip.name}", clip.pairs) as task:
        return score_clip(
            clip.source,
            {**made, **against},
            pairs=clip.pairs,
            stride=request.stride,
            height=request.height,
            width=request.width,
            across_cuts=clip.across_cuts,
            lpips=lpips,
            advance=task.update,
        ).summary()


def _generated(clip: _Clip, request: EvaluateRequest) -> dict[str, FrameSource]:
    """Return what the networks made of the clip, if they did."""
    return {OURS: open_frames([request.output_dir / f"{clip.name}.mkv"])} if request.generate else {}


def _write_page(path: Path, clip: _Clip, request: EvaluateRequest, against: Mapping[str, FrameSource]) -> None:
    """Write the page that compares the truth with what was made of it; one that would be too large is left out."""
    size = request.height, request.width
    num_frames = clip.pairs * request.stride + 1
    sources = {
        TRUTH: clip.source,
        **_generated(clip, request),
        **against,
        BLEND: blended_source(clip.source, clip.pairs, request.stride, *size),
    }
    # All at one rate, so that frames of one number are shown together.
    shown = [
        NamedClip(name, replace(resized_source(source, *size, num_frames), fps=clip.source.fps))
        for name, source in islice(sources.items(), 3)
    ]
    try:
        with progress(f"writing {path.name}", num_frames) as task:
            write_page(path, f"{clip.name}, evaluated", shown, PageSettings(), task.update)
    except PageTooLarge as error:
        path.unlink(missing_ok=True)  # one of an earlier report would show something else
        logger.warning("%s; it is left out, and jax-interp compare makes one of a part", error)


def _report(request: EvaluateRequest, clips: list[_Clip], scores: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    records = {clip.name: f"{clip.name}.json" if request.generate else None for clip in clips}
    return {
        "version": VERSION,
        "jax_interp": __version__,
        "moving_threshold": MOVING,
        "against": {clip_name(path): str(path) for path in request.against},
        "clips": [
            {"clip": str(clip.path), "input": dict(clip.source.description), "record": records[clip.name]}
            | {"scene_cuts": list(clip.cuts)}
            | scores[clip.name]
            for clip in clips
        ],
    }


def _show_scores(scores: Mapping[str, dict[str, Any]]) -> None:
    """Print a table: a row for each method of each clip."""
    rows: list[list[Cell]] = []
    for clip, found in scores.items():
        rows += [[clip, name, *_cells(values)] for name, values in found["methods"].items()]
    numbers = ["PSNR", "moving", "still", "SSIM", "moving ", "still ", "LPIPS", "seam", "between", "keyframes"]
    show_table(rows, ["clip", "method", *numbers], numbers=numbers)


def _cells(values: Mapping[str, Any]) -> list[Cell]:
    def cell(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    nothing = dict.fromkeys(("all", "moving", "still"))
    psnr, ssim, seam = values.get("psnr", nothing), values.get("ssim", nothing), values["seam"]
    return [
        *(cell(psnr[part], 2) for part in nothing),
        *(cell(ssim[part], 4) for part in nothing),
        cell(values.get("lpips"), 4),
        cell(seam["at_keyframes"], 2),
        cell(seam["between"], 2),
        "-" if "psnr" not in values else cell(values["keyframes_psnr"], 2).replace("-", "exact"),
    ]


def _title(clips: list[_Clip]) -> str:
    return clips[0].name if len(clips) == 1 else f"{len(clips)} clips, one after the other"


def _joined(of_clips: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """Return the pairs of all clips, one after the other, by method."""
    return {name: [pair for found in of_clips for pair in found[name]] for name in of_clips[0]}


def _write(path: Path, content: bytes) -> None:
    with as_media_error(path):
        write_atomically(path, content)
