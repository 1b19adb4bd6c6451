"""The levels of a recording: what each kind of file holds, and how the same is computed with converted networks."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp.config import Precision
from jax_interp.evaluation.metrics import decibels
from jax_interp.parity.findings import GoldenFinding, error_ratio, relative_error
from jax_interp.parity.golden.recording import CLIP_FILE, TEXT_FILE, Arrays, Recording, channels_last
from jax_interp.parity.tolerances import BF16_RATIO, FRAMES_BF16_PSNR, FRAMES_WITHIN_ONE, NETWORK_F32, SAMPLE_F32
from jax_interp.pipeline.interpolator import Interpolator

_PROMPT, _NEGATIVE = 0, 5
"""The numbers of the runs' prompt and negative prompt among the recorded texts."""

_NETWORK = NETWORK_F32, "NETWORK_F32"
_SAMPLE = SAMPLE_F32, "SAMPLE_F32"


@dataclass(frozen=True)
class Run:
    """A recording and the pipeline that replays it in one dtype."""

    recording: Recording
    pipeline: Interpolator
    precision: Precision

    @property
    def size(self) -> dict[str, int]:
        """The height and width of the runs' frames."""
        return {name: self.recording.setting("spec", name) for name in ("height", "width")}

    @property
    def clip(self) -> np.ndarray:
        """The clip of the runs, uint8 [F, Y, X, 3]."""
        return self.recording.load(CLIP_FILE)["frames"]

    def finding(
        self, name: str, output: str, ours: Any, recorded: Mapping[str, np.ndarray], limit: tuple[float, str]
    ) -> GoldenFinding:
        """Return how near `ours` is to what both precisions `recorded`: an error in float32, a ratio in bfloat16."""
        error = relative_error(ours, recorded["float32"])
        if self.precision == "float32":
            return GoldenFinding(name, output, "float32", error, "relative error", *limit)
        theirs = relative_error(recorded["bfloat16"], recorded["float32"])
        ratio = error_ratio(error, theirs)
        return GoldenFinding(name, output, "bfloat16", ratio, "error over upstream's", BF16_RATIO, "BF16_RATIO")

    def frames(self, name: str, ours: np.ndarray, upstreams: np.ndarray) -> GoldenFinding:
        """Return how near frames are: the share within a level of upstream's in float32, in bfloat16 the PSNR."""
        found = {"file": name, "output": "frames", "dtype": self.precision, "at_least": True}
        difference = _difference(ours, upstreams)
        if self.precision == "float32":
            share = 0.0 if difference is None else float(np.mean(np.abs(difference) <= 1))
            return GoldenFinding(
                **found,
                value=share,
                measure="share within 1",
                tolerance=FRAMES_WITHIN_ONE,
                tolerance_name="FRAMES_WITHIN_ONE",
            )
        psnr = 0.0 if difference is None else decibels(difference**2)
        return GoldenFinding(
            **found,
            value=float("inf") if psnr is None else psnr,
            measure="PSNR",
            tolerance=FRAMES_BF16_PSNR,
            tolerance_name="FRAMES_BF16_PSNR",
        )


def network_inputs(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the arguments of `Interpolator.denoise_net` for an evaluation as upstream's network got it.

    Upstream resizes the padding mask, which has the pixels' size, to that of the latents.
    """
    x = channels_last(arrays["x"])
    mask = np.broadcast_to(channels_last(arrays["condition_video_input_mask"]), (*x.shape[:4], 1))
    padding = arrays["padding_mask"][:, 0]
    rows, columns = (np.arange(size) * full // size for size, full in zip(x.shape[2:4], padding.shape[1:], strict=True))
    nearest = padding[:, rows][:, :, columns][:, None, :, :, None]
    return {
        "x": x,
        "c_noise": arrays["timesteps"],
        "text": arrays["crossattn_emb"],
        "mask": mask,
        "fps": arrays["fps"],
        "padding_mask": np.broadcast_to(nearest, mask.shape),
    }


def _transformer(run: Run, name: str) -> Iterator[GoldenFinding]:
    arrays = run.recording.load(name)
    ours = np.asarray(run.pipeline.denoise_net(**network_inputs(arrays)), np.float32)
    yield run.finding(name, "output", ours, _in_both(arrays, "out_{}"), _NETWORK)


def _tokenizer(run: Run, name: str) -> Iterator[GoldenFinding]:
    arrays, codec = run.recording.load(name), run.pipeline.codec
    params = codec.params
    calls = {
        "encode": codec.jit(lambda params, x: codec.network.bind(params).encode_normalized(x)),
        "decode": codec.jit(lambda params, x: codec.network.bind(params).decode_normalized(x)),
    }
    for method, given in (("encode", "x"), ("decode", "z")):
        for kind in ("video", "image"):
            x = jnp.asarray(channels_last(arrays[f"{given}_{kind}"])).astype(run.precision)
            with codec.numerics():
                ours = np.asarray(jax.block_until_ready(calls[method](params, x)).astype(jnp.float32))
            output = f"{method}_{kind}"
            yield run.finding(name, output, ours, _in_both(arrays, f"{{}}.{output}"), _NETWORK)


def _condition(run: Run, name: str) -> Iterator[GoldenFinding]:
    arrays, frames = run.recording.load(name), run.clip
    found = [match for each in arrays if (match := re.fullmatch(r"bfloat16\.(pair_i(\d+)_s(\d+))", each))]
    if not found:
        raise arrays.lacks("bfloat16.pair_i{index}_s{stride}")
    for output, index, stride in ((match[1], int(match[2]), int(match[3])) for match in found):
        first, last = index * stride, (index + 1) * stride
        last = last if last < len(frames) else first  # upstream takes the first one twice
        ours = np.asarray(run.pipeline.encode_pair(frames[first], frames[last], **run.size), np.float32)
        recorded = {dtype: array[0] for dtype, array in _in_both(arrays, f"{{}}.{output}").items()}
        yield run.finding(name, output, ours, recorded, _SAMPLE)


def _sampling(run: Run, name: str) -> Iterator[GoldenFinding]:
    recording = run.recording
    level, precision, rest = name.split("_", 2)
    arrays = recording.load(name)
    condition = arrays["condition_latent"]
    drawn = recording.fact(name, "corruption", str) == "noise_with_sigma"
    ours = run.pipeline.sample(
        condition_latents=jnp.asarray(channels_last(condition)),
        text=recording.text(_PROMPT),
        negative_text=recording.text(_NEGATIVE) if recording.fact(name, "negative_prompt", bool) else None,
        guidance=recording.fact(name, "guidance", float),
        seed=recording.fact(name, "seed", int),
        num_steps=recording.fact(name, "num_steps", int),
        fps=recording.setting("spec", "fps"),
        condition_noise=recording.drawn_noise(condition.shape[1:]) if drawn else "fixed",
    )
    oracle = arrays if precision == "float32" else recording.load(f"{level}_float32_{rest}")
    float32 = oracle.output("sample")
    sample = channels_last(arrays.output("sample", float32.shape))
    recorded = {precision: sample, "float32": channels_last(float32)}
    yield run.finding(name, "sample", np.asarray(ours), recorded, _SAMPLE)
    if "video" in arrays:
        yield run.frames(name, run.pipeline.decode(jnp.asarray(sample[0])), arrays.output("video"))


def _whole_clip(run: Run, name: str) -> Iterator[GoldenFinding]:
    recording = run.recording
    arrays, frames = recording.load(name), run.clip
    pairs = None
    if recording.facts(name).get("requested_pairs") is not None:
        pairs = recording.fact(name, "requested_pairs", int)
    else:
        # Upstream counts one pair too many and interpolates the last frame to itself.
        frames = np.concatenate([frames, frames[-1:]])
    num_video_frames = recording.setting("num_video_frames")
    *shape, channels = run.pipeline.check_size(**run.size, num_video_frames=num_video_frames)
    result = run.pipeline.interpolate(
        frames,
        prompt=recording.prompts[_PROMPT],
        negative_prompt=recording.prompts[_NEGATIVE] if recording.fact(name, "negative", bool) else "",
        guidance=recording.fact(name, "guidance", float),
        seed=recording.fact(name, "seed", int),
        num_steps=recording.fact(name, "steps", int),
        num_frame_pairs=pairs,
        frame_stride=recording.fact(name, "stride", int),
        fps=recording.setting("spec", "fps"),
        num_video_frames=num_video_frames,
        **run.size,
        condition_noise=recording.drawn_noise((channels, *shape)),
    )
    output = "video" if "video" in arrays else "video_last_9"
    recorded = arrays.output(output)
    yield run.frames(name, result.frames[-len(recorded) :], recorded)


def _text(run: Run, name: str) -> Iterator[GoldenFinding]:
    prompts, arrays = run.recording.prompts, run.recording.load(name)
    embedded = run.pipeline.encode_text(prompts)
    for index in range(len(prompts)):
        rows = arrays.output(f"emb_{index}")
        yield run.finding(name, f"emb_{index}", embedded[index, : len(rows)], {"float32": rows}, _NETWORK)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray | None:
    """Return the difference of two clips in levels; None if they have other shapes."""
    return ours.astype(np.float64) - theirs if ours.shape == theirs.shape else None


def _in_both(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    """Return an output as it was recorded in both dtypes; `name` has {} in place of the dtype."""
    float32 = arrays.output(name.format("float32"))
    bfloat16 = arrays.output(name.format("bfloat16"), float32.shape)
    return {"float32": channels_last(float32), "bfloat16": channels_last(bfloat16)}


class Level(NamedTuple):
    """One kind of files, and how they are replayed."""

    files: str
    """Their names, as docs/parity.md has them and `fnmatch` reads them, with {dtype} if they are of one dtype each."""
    replay: Callable[[Run, str], Iterator[GoldenFinding]]
    only: Precision | None = None
    """The one dtype in which they are replayed, if the name does not say it and it is not both."""
    why: str = ""
    """Why they are replayed in no other."""

    def dtypes(self, name: str) -> Mapping[Precision, str]:
        """Return the dtypes in which a file is replayed, each with why it is in no other; empty for another name."""
        both: tuple[Precision, ...] = ("float32", "bfloat16")
        if "{dtype}" in self.files:
            return {each: f"recorded in {each}" for each in both if fnmatchcase(name, self.files.format(dtype=each))}
        return {each: self.why for each in both if self.only in (None, each) and fnmatchcase(name, self.files)}


LEVELS: Mapping[str, Level] = {
    "L1": Level("L1_dit_case*", _transformer),
    "L2": Level("L2_tokenizer", _tokenizer),
    # `L6` has them in float32, within whole clips.
    "L4": Level("L4_condition", _condition, "bfloat16", "rounded to bfloat16 in both dtypes, where a last bit decides"),
    "L5": Level("L5_{dtype}_*", _sampling),
    "L6": Level("L6_clip*_{dtype}", _whole_clip),
    "L7": Level(TEXT_FILE, _text, "float32", "computed in float32 by upstream whatever the dtype"),
}
"""What there is to replay, by the beginning of the files' names."""
