"""What a calibration shows the network: windows of a clip, encoded and noised as a sampler finds them on its way."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.components import TransformerType
from jax_interp.diffusion.condition import FIXED_SIGMA, frame_indicator, initial_noise
from jax_interp.diffusion.euler import first_frames_indicator
from jax_interp.diffusion.preconditioning import preconditioning
from jax_interp.diffusion.schedule import sigmas
from jax_interp.errors import MediaError
from jax_interp.media.reader import open_frames
from jax_interp.media.source import RgbFrames
from jax_interp.pipeline.calibration.compiling import Quick
from jax_interp.pipeline.calibration.recording import Evaluation, RecordingDenoiser
from jax_interp.pipeline.stages.clip_codec import ClipCodec
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.denoiser import as_batch
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.types import Text

NOISE_LEVELS: tuple[float, ...] = tuple(float(sigma) for sigma in sigmas(4))
"""The values of sigma at which the network sees a window: five of the sampler's, from 80 to 0.002."""
MAX_WINDOWS: Mapping[TransformerType, int] = {"WorldInterpolator": 2, "Video2World": 1}
"""The number of windows of a clip that the network sees, at most; those of Video2World are twelve times as long."""
MAX_FRAMES = 1000
"""The number of a clip's frames that are read, at most; its windows lie among them."""
SEED = 1
FPS = 24.0


def read_windows(clip: Path, length: int, most: int) -> list[RgbFrames]:
    """Return at most `most` windows of `length` neighbouring frames, spread over the beginning of a clip.

    A clip with fewer frames gives one window, in which frames are repeated.

    Raises:
        MediaError: the clip is missing, unreadable or damaged, or has fewer than two frames.
    """
    source = open_frames((clip,), at_least=2)
    available = min(source.num_frames, MAX_FRAMES)
    if available < length:
        numbers = [np.rint(np.linspace(0, available - 1, length)).astype(int)]
    else:
        count = min(most, available // length)
        starts = np.rint(np.linspace(0, available - length, count)).astype(int) if count > 1 else [0]
        numbers = [np.arange(start, start + length) for start in starts]
    wanted = {int(number) for window in numbers for number in window}
    frames = {}
    for number, frame in enumerate(source):
        if number in wanted:
            frames[number] = frame
        if number == max(wanted):
            break
    if wanted - frames.keys():
        raise MediaError(f"{clip}: ended before frame {min(wanted - frames.keys())}; replace it")
    return [np.stack([frames[int(number)] for number in window]) for window in numbers]


class QuickCodec(Quick, Codec):
    """The tokenizer in float32 as a calibration runs it, whose latents are rounded to bfloat16."""

    def __init__(self, converted: ConvertedComponent):
        super().__init__(converted, "float32")


def encode_window(
    codec: Codec, frames: RgbFrames, height: int, width: int, kind: TransformerType
) -> tuple[Float[np.ndarray, "T H W C"], Float[np.ndarray, "T 1 1 1"]]:
    """Return the latents of a window and the mask of the frames that a run would know.

    An interpolator knows the first and the last frame, of which the last is encoded as a picture. Video2World knows the
    first.
    """
    clips = ClipCodec(codec)
    if kind == "Video2World":
        latents = np.asarray(clips.encode(frames, height, width))
        return latents, first_frames_indicator(len(latents), 1)
    ends = np.asarray(codec.encode_pair(frames[0], frames[-1], height, width, len(frames)))
    between = np.asarray(clips.encode(frames[:-1], height, width))[1:]
    return np.concatenate([ends[:1], between, ends[-1:]]), frame_indicator(len(ends))


def noised(
    stage: RecordingDenoiser,
    latents: Float[np.ndarray, "T H W C"],
    known: Float[np.ndarray, "T 1 1 1"],
    text: Text | np.ndarray | None,
) -> Iterator[Evaluation]:
    """Yield an evaluation at each noise level: known frames have their own small noise, others that of the level.

    `text` are embeddings [1, S, D]; None stands for the all-zero one.
    """
    shape = latents.shape[0], latents.shape[1], latents.shape[2], latents.shape[3]
    noise, clean = initial_noise(SEED, shape), np.asarray(as_batch(latents), np.float32)
    mask = np.broadcast_to(known, (*shape[:3], 1))[None]
    rows = np.asarray(stage.text_rows(text, 1), np.float32)
    for sigma in NOISE_LEVELS:
        levels = preconditioning(FIXED_SIGMA, "float32"), preconditioning(sigma, "float32")
        own, others = (
            (clean + np.float32(each) * noise) * factors.c_in
            for each, factors in zip((FIXED_SIGMA, sigma), levels, strict=True)
        )
        yield Evaluation(
            jnp.asarray(np.where(known > 0, own, others)[None]),
            jnp.asarray(levels[1].c_noise.reshape(1)),
            jnp.asarray(rows),
            jnp.asarray(mask),
            jnp.zeros(mask.shape, jnp.float32),
            stage.angles((1, *shape), FPS),
        )


def all_evaluations(
    stage: RecordingDenoiser,
    windows: Sequence[tuple[Float[np.ndarray, "T H W C"], Float[np.ndarray, "T 1 1 1"]]],
    text: Float[Array | np.ndarray, "1 S D"] | None,
) -> list[Evaluation]:
    """Return the evaluations of all encoded windows at all noise levels."""
    return [each for latents, known in windows for each in noised(stage, latents, known, text)]
