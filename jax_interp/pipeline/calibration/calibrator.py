"""The calibration of a transformer for 8 bits: it runs on a clip, by which factors are chosen for each product."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Float

from jax_interp.components import TransformerType
from jax_interp.config import DiTConfig, VideoTokenizerConfig
from jax_interp.errors import CheckpointError, MediaError, UsageError
from jax_interp.media.reader import open_frames
from jax_interp.nn.params import flatten
from jax_interp.pipeline.calibration.evaluations import (
    MAX_WINDOWS,
    NOISE_LEVELS,
    QuickCodec,
    all_evaluations,
    encode_window,
    read_windows,
)
from jax_interp.pipeline.calibration.recording import Evaluation, ProductInputs, RecordingDenoiser
from jax_interp.pipeline.calibration.smoothing import choose_factors, largest_over_median
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
from jax_interp.pipeline.prompt.text import TextEncoder
from jax_interp.pipeline.settings import InterpolationSettings, Video2WorldSettings
from jax_interp.pipeline.stages.geometry import latent_shape, world_latent_shape
from jax_interp.runtime.checkpoint.calibration import Calibration, CalibrationReport, Factors, ProductReport
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.placement import Placement
from jax_interp.types import Params

Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], Any]]]
"""A function that begins a job of a name and a number of bytes, as `convert.progress.Progress`."""


@dataclass(frozen=True)
class Calibrator:
    """Calibrates transformers for 8 bits on a clip, at the size of the frames that will be made.

    ```python
    calibrate = jax_interp.Calibrator("clip.mp4")
    convert.convert("checkpoints", "converted-int8", quantization="int8", calibrate=calibrate)
    ```

    At most two windows of the clip are encoded (one for Video2World, whose windows have 121 frames). The transformer
    sees each at five noise levels, in float32, with the default negative prompt where a text encoder was converted.
    Host memory holds a few halves of blocks. Device memory holds a few too and, for every window and noise level, one
    residual stream, as far as these have room there.
    """

    clip: str | Path
    """A video."""
    height: int = InterpolationSettings.height
    width: int = InterpolationSettings.width

    @property
    def facts(self) -> Mapping[str, Any]:
        """What two calibrations must agree in to give the same result: the clip's name and SHA-256, and the size.

        Raises:
            MediaError: the clip cannot be read.
        """
        clip = Path(self.clip)
        try:
            status = clip.stat()
            sha256 = _sha256(clip, status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise MediaError(f"{clip}: cannot be read ({error.strerror}); give one video") from error
        return {"clip": clip.name, "clip_sha256": sha256, "height": self.height, "width": self.width}

    def check(self, transformer: DiTConfig, tokenizer: VideoTokenizerConfig, kind: TransformerType) -> None:
        """Check clip and size before anything is converted.

        Raises:
            MediaError: the clip is missing, unreadable or damaged, or has fewer than two frames.
            UsageError: these networks cannot take the size.
        """
        try:
            _window_length(transformer, tokenizer, kind, self.height, self.width)
        except UsageError as error:
            raise UsageError(f"--calibrate: {error}") from None
        open_frames((Path(self.clip),), at_least=2)

    def __call__(
        self,
        transformer: ConvertedComponent,
        tokenizer: ConvertedComponent,
        text_encoder: ConvertedComponent | None,
        progress: Progress,
    ) -> Calibration:
        """Return the calibration of an unquantised `transformer`; `progress` is told the bytes of weights that ran.

        Raises:
            MediaError: the clip turns out damaged.
            CheckpointError: a network is damaged.
        """
        return calibrate_on_clip(self, RecordingDenoiser(transformer), tokenizer, text_encoder, progress)


def calibrate_on_clip(
    calibrator: Calibrator,
    stage: RecordingDenoiser,
    tokenizer: ConvertedComponent,
    text_encoder: ConvertedComponent | None = None,
    progress: Progress = lambda label, total: nullcontext(lambda done: None),
) -> Calibration:
    """Return what a call of `calibrator` does, of the transformer of `stage`."""
    transformer = stage.converted
    kind = transformer.transformer_type or "WorldInterpolator"
    length = _window_length(transformer.config, tokenizer.config, kind, calibrator.height, calibrator.width)
    frames = read_windows(Path(calibrator.clip), length, MAX_WINDOWS[kind])
    codec = QuickCodec(tokenizer)
    windows = [encode_window(codec, window, calibrator.height, calibrator.width, kind) for window in frames]
    codec.unload()
    text = None if text_encoder is None else _encoded(text_encoder)
    evaluations = all_evaluations(stage, windows, text)
    with progress(f"calibrating {transformer.path.name}", _bytes(stage)) as advance:
        factors, largest, products = calibrate(stage, evaluations, advance)
    report = CalibrationReport(
        **calibrator.facts,
        text="zeros" if text is None else "negative prompt",
        windows=len(windows),
        noise_levels=list(NOISE_LEVELS),
        factors_sha256=_digest(factors),
        sources=transformer.source_sha256,
        products=products,
    )
    return Calibration(report, factors, largest)


def calibrate(
    stage: RecordingDenoiser, evaluations: Sequence[Evaluation], advance: Callable[[int], Any] = lambda count: None
) -> tuple[Factors, Factors, list[ProductReport]]:
    """Return the factors of all products, the largest magnitudes of their input channels, and what was found.

    `advance` is told the bytes of each part of a block that is done.

    Raises:
        CheckpointError: inputs or outputs of a product are not finite.
    """
    factors: dict[str, list[np.ndarray]] = {product: [] for product in stage.products}
    largest: dict[str, list[np.ndarray]] = {product: [] for product in stage.products}
    reports: list[ProductReport] = []

    def choose(block: int, params: Params, inputs: Mapping[str, ProductInputs]) -> None:
        for product, seen in inputs.items():
            magnitudes = jax.device_get(seen.largest)
            chosen = choose_factors(seen.rows, stage.weight(params, product), magnitudes)
            if not np.isfinite([chosen.plain, chosen.error, chosen.bfloat16, *magnitudes]).all():
                raise CheckpointError(
                    f"{stage.converted.path}: the calibration found values that are not numbers at {product} of block"
                    f" {block}; check the checkpoint with `jax-interp inspect`, or give another clip"
                )
            factors[product].append(chosen.factors)
            largest[product].append(magnitudes)
            reports.append(
                ProductReport(
                    block=block,
                    product=product,
                    largest_channel=largest_over_median(magnitudes),
                    strength=chosen.strength,
                    int8=chosen.plain,
                    smoothed=chosen.error,
                    bfloat16=chosen.bfloat16,
                )
            )
        advance(sum(leaf.nbytes for _, leaf in flatten(params)))

    stage.record(evaluations, choose)
    return _stacked(factors), _stacked(largest), reports


def _window_length(
    dit: DiTConfig, tokenizer: VideoTokenizerConfig, kind: TransformerType, height: int, width: int
) -> int:
    """Return how many frames a run makes at a time, or the most that the networks take.

    Raises:
        UsageError: the networks cannot take the size.
    """
    size = {"height": height, "width": width}
    if kind == "WorldInterpolator":
        length = InterpolationSettings.num_video_frames
        latent_shape(dit, tokenizer, num_video_frames=length, **size)
        return length
    longest = 1 + tokenizer.compression * (min(tokenizer.latent_chunk, dit.grid[0]) - 1)
    length = min(Video2WorldSettings.num_video_frames, longest)
    world_latent_shape(dit, tokenizer, num_video_frames=length, num_input_frames=1, **size)
    return length


def _encoded(text_encoder: ConvertedComponent) -> Float[np.ndarray, "1 S D"]:
    encoder = TextEncoder(text_encoder)
    assert encoder.network is not None
    encoder.network.place(Placement("streamed"))
    rows = encoder.encode([DEFAULT_NEGATIVE_PROMPT])
    encoder.unload()
    return rows


def _bytes(stage: RecordingDenoiser) -> int:
    """Return the bytes of all blocks in float32."""
    return sum(4 * int(np.prod(leaf.shape)) for _, leaf in flatten(stage.network.abstract["blocks"]))


def _stacked(blocks: Mapping[str, list[np.ndarray]]) -> Factors:
    return {product: np.stack(arrays).astype(np.float32) for product, arrays in blocks.items()}


@lru_cache(maxsize=8)
def _sha256(file: Path, size: int, modified_ns: int) -> str:
    """Return the SHA-256 of a file, which is not read again while it has its size and date."""
    del size, modified_ns
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest(factors: Factors) -> str:
    digest = hashlib.sha256()
    for product in sorted(factors):
        digest.update(product.encode() + factors[product].tobytes())
    return digest.hexdigest()
