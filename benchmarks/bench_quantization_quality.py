"""How exact networks in 8 bits are: errors against float32, beside those of bfloat16.

```
python -m benchmarks.bench_quantization_quality converted --input clip.mp4 --height 192 --width 320
python -m benchmarks.bench_quantization_quality WORK/dit-7b --steps 0      # random weights: block by block
python -m benchmarks.bench_quantization_quality converted --plant-outliers # a few channels 64 times as large
python -m benchmarks.bench_quantization_quality converted --calibrate clip.mp4          # int8-smoothed too
```

Of the same input float32, bfloat16, int8, int8-rotated and, where there is a clip to calibrate on, int8-smoothed (with
bfloat16 around them) give: the residual stream after every block, each block by itself where all of them get float32's
stream, evaluations at several noise levels, and latents that were sampled from the same noise. With `--input`, a clip,
both ends of its first pair are encoded, and the frames are decoded too. The clip to calibrate on is that of
`--calibrate`, or else of `--input`. Errors are relative L2; a block's own is relative to what the block adds to the
stream. One JSON line for each dtype and quantisation, and a table of the blocks' own errors on stderr. "over_bfloat16"
is the largest ratio of a block's or an evaluation's error to bfloat16's.

On a GPU with little memory pass `--placement streamed`: float32 takes twice as much as bfloat16.
"""

import argparse
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from benchmarks.measure import FPS, HEIGHT, WIDTH, emit, forward_inputs
from benchmarks.planted_outliers import FACTOR, plant_outliers
from jax_interp import Interpolator
from jax_interp.config import Precision, Quantization
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.evaluation.metrics import decibels, squared_error
from jax_interp.media.pairs import iterate_pairs
from jax_interp.media.reader import open_frames
from jax_interp.parity.findings import relative_error
from jax_interp.pipeline.calibration.calibrator import Calibrator, calibrate_on_clip
from jax_interp.pipeline.calibration.recording import RecordingDenoiser
from jax_interp.pipeline.stages import cells
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.block_stream import PartCall, PartResult
from jax_interp.runtime.placement import Kind

VARIANTS: tuple[tuple[Precision, Quantization], ...] = (
    ("bfloat16", "none"),
    ("bfloat16", "int8"),
    ("bfloat16", "int8-rotated"),
    ("bfloat16", "int8-smoothed"),
)
NOISE_LEVELS = (-1.5, -0.5, 0.25, 1.0)
"""Values of ln(sigma)/4, from nearly clean latents to nearly noise."""


class Results(NamedTuple):
    """What one variant gave."""

    streams: list[np.ndarray]
    """The residual stream before the first block and after every block."""
    alone: list[np.ndarray]
    """The same where every block gets float32's stream."""
    evaluations: list[np.ndarray]
    latents: np.ndarray | None
    frames: np.ndarray | None


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help="folder of converted networks")
    arguments.add_argument("--input", type=Path, help="a clip whose first pair is interpolated")
    arguments.add_argument("--calibrate", type=Path, help="the clip for int8-smoothed; by default that of --input")
    arguments.add_argument("--height", type=int, default=HEIGHT)
    arguments.add_argument("--width", type=int, default=WIDTH)
    arguments.add_argument("--steps", type=int, default=12, help="solver steps of the samples; 0 for none")
    arguments.add_argument("--placement", choices=get_args(Kind), default="resident")
    arguments.add_argument("--only", nargs="*", choices=[name for _, name in VARIANTS[1:]], help="some quantisations")
    arguments.add_argument(
        "--plant-outliers", action="store_true", help="make a few channels of the transformer 64 times as large"
    )
    options = arguments.parse_args()
    options.calibrate = options.calibrate or options.input
    reference = results(options, "float32", "none", None)
    halves: Results | None = None
    table: dict[str, dict[str, Any]] = {}
    for precision, quantization in VARIANTS[: None if options.calibrate else -1]:
        if options.only and quantization not in ("none", *options.only):
            continue
        ours = results(options, precision, quantization, reference.streams)
        halves = halves or ours
        found = errors(ours, reference)
        table[precision if quantization == "none" else quantization] = found
        emit(
            "quantization_quality",
            config={"folder": options.folder.name, "height": options.height, "width": options.width}
            | {"steps": options.steps, "input": options.input.name if options.input else None}
            | ({"planted_outliers": FACTOR} if options.plant_outliers else {})
            | ({"calibrated_on": options.calibrate.name} if quantization == "int8-smoothed" else {}),
            dtype=precision,
            quantization=quantization,
            **found,
            over_bfloat16=ratios(found, table["bfloat16"]),
            frames_psnr_to_bfloat16=psnr(ours.frames, halves.frames),
        )
    print(block_table(table), file=sys.stderr)


def results(
    options: argparse.Namespace, precision: Precision, quantization: Quantization, streams: list[np.ndarray] | None
) -> Results:
    """Run everything in one variant; `streams` are those of float32, None to make them."""
    smoothed = quantization == "int8-smoothed"
    interpolator = Interpolator.from_pretrained(
        options.folder, dtype=precision, quantization="none" if smoothed else quantization, embedding_cache=False
    )
    if smoothed:
        interpolator.denoiser = calibrated(
            options.calibrate, options.height, options.width, interpolator, outliers=options.plant_outliers
        )
    if options.plant_outliers:
        plant_outliers(interpolator.denoiser)
    interpolator.place({"diffusion_transformer": options.placement})
    denoiser = interpolator.denoiser
    inputs: dict[str, Any] = forward_inputs(denoiser.config, 1, options.height, options.width)
    with denoiser.numerics():
        after = through_blocks(denoiser, inputs, None)
        alone = after if streams is None else through_blocks(denoiser, inputs, streams)
    evaluations = [
        np.asarray(denoiser.net(**{**inputs, "c_noise": np.full(1, level, np.float32)}, fps=FPS), np.float32)
        for level in NOISE_LEVELS
    ]
    latents = frames = None
    if options.steps:
        latents, frames = sample(interpolator, options, inputs["x"])
    interpolator.unload()
    return Results(after, alone, evaluations, latents, frames)


def calibrated(clip: Path, height: int, width: int, interpolator: Interpolator, *, outliers: bool = False) -> Denoiser:
    """Return the transformer of `interpolator` with the factors of a calibration, which saw `outliers` if planted."""
    plain, encoder = interpolator.denoiser.converted, interpolator.text_encoder
    stage = RecordingDenoiser(plain)
    if outliers:
        plant_outliers(stage)
    network = encoder.network if encoder else None
    calibrator = Calibrator(clip, height, width)
    text_network = network.converted if network else None
    found = calibrate_on_clip(calibrator, stage, interpolator.codec.converted, text_network)
    return Denoiser(
        replace(plain, quantization="int8-smoothed", factors=found.factors), interpolator.denoiser.precision
    )


def through_blocks(
    denoiser: Denoiser, inputs: dict[str, np.ndarray], given: list[np.ndarray] | None
) -> list[np.ndarray]:
    """Return the residual stream before the first block and after each; with `given` each block gets its stream."""
    angles = denoiser.angles(inputs["x"].shape, FPS)
    names = ("x", "c_noise", "text", "mask", "padding_mask")
    stream, shared = denoiser._embed(denoiser.outer, *denoiser.devices.put((*(inputs[name] for name in names), angles)))
    num_cells = cells.num_cells(inputs["x"].shape, denoiser.config.patch_size)
    streams = [np.array(stream.astype(np.float32))]

    def apply(call: PartCall, stream: Any) -> PartResult[Any]:
        if call.part == 0:
            if given is not None:
                stream = jax.numpy.asarray(given[call.block]).astype(denoiser.dtype)
            return denoiser._attend(call.params, stream, shared, call.ahead, cells=num_cells)
        result = denoiser._transform(call.params, stream, shared, call.ahead)
        streams.append(np.array(result.state.astype(np.float32)))
        return result

    denoiser.run_blocks(apply, stream)
    return streams


def sample(
    interpolator: Interpolator, options: argparse.Namespace, latents: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Sample between the first two frames of the input, or between random latents; the text is all zeros."""
    settings = SampleSettings(num_steps=options.steps)
    if options.input is None:
        return np.asarray(interpolator.denoiser.sample(latents, None, None, settings)), None
    source = open_frames((options.input,), at_least=2)
    _, first, last = next(iter(iterate_pairs(source, 1, 0, 1)))
    condition = interpolator.encode_pair(first, last, options.height, options.width)
    made = interpolator.denoiser.sample(condition[None], None, None, settings)
    return np.asarray(made), interpolator.decode(made[0])


def errors(ours: Results, reference: Results) -> dict[str, Any]:
    """Return every error of `ours`."""
    added = [np.linalg.norm(after - before) for before, after in pairwise(reference.streams)]
    alone = zip(ours.alone[1:], reference.alone[1:], added, strict=True)
    levels = zip(NOISE_LEVELS, ours.evaluations, reference.evaluations, strict=True)
    found: dict[str, Any] = {
        "block_errors": [float(np.linalg.norm(mine - right) / size) for mine, right, size in alone],
        "stream_errors": [relative_error(*both) for both in zip(ours.streams, reference.streams, strict=True)],
        "evaluation_errors": {str(level): relative_error(mine, right) for level, mine, right in levels},
    }
    if ours.latents is not None and reference.latents is not None:
        found["latents_error"] = relative_error(ours.latents[:, 1:-1], reference.latents[:, 1:-1])
    return found | {"frames_psnr": psnr(ours.frames, reference.frames)}


def ratios(ours: dict[str, Any], halves: dict[str, Any]) -> dict[str, float]:
    """Return the largest ratio of errors of blocks, and of evaluations, to those of bfloat16."""
    blocks = zip(ours["block_errors"], halves["block_errors"], strict=True)
    levels = [(ours["evaluation_errors"][level], error) for level, error in halves["evaluation_errors"].items()]
    return {"block": max(mine / half for mine, half in blocks), "evaluation": max(mine / half for mine, half in levels)}


def block_table(found: dict[str, dict[str, Any]]) -> str:
    """Return a table of the errors of every block by itself, in per cent, with a column for each of `found`."""
    rows = [("block", *found)]
    columns = zip(*(each["block_errors"] for each in found.values()), strict=True)
    rows += [(str(index), *(f"{100 * error:.2f} %" for error in row)) for index, row in enumerate(columns)]
    return "\n".join("".join(f"{cell:>14}" for cell in row) for row in rows)


def psnr(ours: np.ndarray | None, reference: np.ndarray | None) -> float | None:
    """Return the PSNR of uint8 frames in dB; None if there are none, or if all are equal."""
    if ours is None or reference is None:
        return None
    return decibels(squared_error(ours, reference))


if __name__ == "__main__":
    main()
