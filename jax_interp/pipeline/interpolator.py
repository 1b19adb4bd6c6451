"""The whole pipeline as one class: it takes frames and returns the frames between them."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.diffusion.branches import Branch
from jax_interp.diffusion.settings import ConditionNoise, SampleSettings
from jax_interp.media.output_rate import exact_rate
from jax_interp.media.pairs import iterate_pairs, num_pairs
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.reader import open_frames
from jax_interp.media.shape import Aspect
from jax_interp.media.source import check_clip_array
from jax_interp.media.timeline.settings import Timeline
from jax_interp.pipeline.across_processes import check_prompts
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.given_arrays import check_latents, check_numbers, check_sampled_latents
from jax_interp.pipeline.one_at_a_time import one_at_a_time
from jax_interp.pipeline.passes import NumberedPair, PassRunner
from jax_interp.pipeline.planned_clip import InterpolatedClip, interpolated, plan_for
from jax_interp.pipeline.prompt.steering import texts_read
from jax_interp.pipeline.results import InterpolatedPair, Interpolation, PairProgress
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stages.geometry import latent_shape


class Interpolator(Pipeline):
    """Generates the frames between given frames (Cosmos-Predict1 WorldInterpolator).

    ```python
    interpolator = Interpolator.from_pretrained("converted")
    result = interpolator.interpolate(frames)      # uint8 [F, Y, X, 3]
    imageio.v3.imwrite("slow.mp4", result.frames, fps=24, codec="libx264")
    ```

    Guardrails, where there are any, are applied by `stream`, and so by `interpolate`. The single steps (`encode_text`,
    `encode_pair`, `sample`, `decode`) apply none: a program that combines them itself checks what it shows.

    Networks load when first used and stay loaded until `unload`. `timings` sums the seconds of each stage, compilation
    included.
    """

    TRANSFORMER = "WorldInterpolator"

    @one_at_a_time
    def interpolate(
        self,
        frames: UInt8[np.ndarray, "F Y X 3"],
        prompt: str = "",
        negative_prompt: str | None = None,
        guidance: float = -1.0,
        seed: int = 11,
        num_steps: int = 35,
        num_frame_pairs: int | None = None,
        frame_stride: int = 1,
        frame_index_start: int = 0,
        fps: float = 24,
        height: int = 704,
        width: int = 1280,
        *,
        num_video_frames: int = 10,
        condition_noise: ConditionNoise = "fixed",
        pairs_per_batch: int = 1,
    ) -> Interpolation:
        """Interpolate between `frames` (uint8 RGB) taken `frame_stride` apart, at `height`×`width`.

        Pair k lies between frames `frame_index_start + k·frame_stride` and the one `frame_stride` later; P pairs give
        9P + 1 frames. Frames are resized, without keeping their aspect ratio, as upstream does.

        `guidance` combines the two predictions as `cond + guidance·(cond - uncond)`: at -1, upstream's effective value
        and the default, only the negative prompt counts and `prompt` cannot change the result; at 0 only `prompt`
        counts. `negative_prompt=None` is upstream's default text, `""` the all-zero embedding. `fps` is the rate that
        the network is told. `condition_noise` is described at `diffusion.settings.ConditionNoise`.

        These are keyword arguments because a notebook completes and shows them; `stream` takes an
        `InterpolationSettings`.

        Raises:
            UsageError: an argument cannot work; the message says what could.
            Blocked: the guardrails, if there are any, do not let prompt or frames pass.

        Guardrails change frames alone: latents, decoded, show faces. Of several processes the first one gets the frames
        that may be shown, the others black ones.
        """
        frames = check_clip_array(frames)
        settings = InterpolationSettings(
            prompt=prompt,
            negative_prompt=negative_prompt,
            sampling=SampleSettings(guidance, seed, num_steps, fps, condition_noise),
            num_frame_pairs=num_frame_pairs,
            frame_stride=frame_stride,
            frame_index_start=frame_index_start,
            height=height,
            width=width,
            num_video_frames=num_video_frames,
            pairs_per_batch=pairs_per_batch,
        )
        count = num_pairs(len(frames), frame_stride, frame_index_start, num_frame_pairs)
        return Interpolation.of(self.stream(iterate_pairs(frames, frame_stride, frame_index_start, count), settings))

    def interpolate_clip(
        self,
        inputs: str | Path | Sequence[str | Path],
        timeline: Timeline,
        settings: InterpolationSettings | None = None,
        *,
        aspect: Aspect | None = None,
        reading: ReadSettings | None = None,
        progress: PairProgress | None = None,
    ) -> InterpolatedClip:
        """Interpolate a video, a folder of pictures or pictures as `timeline` asks; frames come as they are asked for.

        `settings` are those of pairs, and say which frames of the input are used. Where pictures keep their shape,
        which they do unless `timeline` has upstream's pace, or `aspect` says otherwise, the network's size is the
        nearest of upstream's, if `settings` have the default size. `fps` of the settings is what the network is told,
        and the rate of pictures, which have none. Sound is not read: `jax_interp.generate` carries it over.

        Raises:
            UsageError, MediaError: the input is not there, or something does not suit it; nothing is loaded before.
            Blocked: the guardrails, if there are any, do not let the texts pass, or, later, the frames.
        """
        paths = [inputs] if isinstance(inputs, str | Path) else inputs
        source = open_frames([Path(path) for path in paths], reading or ReadSettings())
        settings = settings or InterpolationSettings()
        planned = plan_for(source, settings, timeline, aspect, exact_rate(settings.sampling.fps))
        self.check_settings(planned.settings)
        return interpolated(planned, lambda pairs: self.stream(pairs, planned.settings, progress))

    def stream(
        self,
        parts: Iterable[NumberedPair],
        settings: InterpolationSettings,
        progress: PairProgress | None = None,
    ) -> Iterator[InterpolatedPair]:
        """Interpolate pair after pair of `(number, first frame, last frame)`, holding one batch at a time.

        Where the last frame is None, the first one comes back alone, resized, and checked by the guardrails.

        Sizes and texts are checked when it is called, everything else happens as the results are asked for. This is
        the one door to the guardrails: `interpolate` and the command line go through it.

        Raises:
            UsageError: these networks cannot take the size.
            Blocked: the guardrails, if there are any, do not let the texts pass, or, later, the frames.
            OutOfMemory: a stage does not fit; the message says what would.
        """
        self.check_settings(settings)
        within = partial(self._stage, settings=settings)
        if self.guardrails is not None:
            with within("guardrails"):
                check_prompts(self.guardrails, settings)
        runner = PassRunner(self.denoiser, self.codec, self.guardrails, settings, within)
        return runner.run(parts, partial(self._encode_prompts, settings), progress)

    @one_at_a_time
    def encode_pair(
        self,
        first: UInt8[np.ndarray, "Y X 3"],
        last: UInt8[np.ndarray, "Y X 3"],
        height: int = 704,
        width: int = 1280,
        num_video_frames: int = 10,
    ) -> Float[Array, "T H W C"]:
        """Return the condition latents of the pair (`first`, `last`), resized to `height`×`width`, in float32.

        Raises:
            UsageError: these networks cannot take the size.
        """
        self.check_size(height, width, num_video_frames)
        first, last = check_clip_array(np.stack([first, last]))
        return self.codec.encode_pair(first, last, height, width, num_video_frames)

    @one_at_a_time
    def sample(
        self,
        condition_latents: Float[Array, "*pairs T H W C"],
        text: Float[Array | np.ndarray, "n S D"] | None,
        negative_text: Float[Array | np.ndarray, "n S D"] | None,
        guidance: float = -1.0,
        seed: int = 11,
        num_steps: int = 35,
        fps: float = 24,
        condition_noise: ConditionNoise = "fixed",
    ) -> Float[Array, "*pairs T H W C"]:
        """Sample the latents of one pair or a batch of pairs, float32; first and last frames come back unchanged.

        `text` and `negative_text` have one row for all pairs or one a pair; None is the all-zero embedding. Every pair
        starts from the same noise, as upstream's pairs do.

        Raises:
            UsageError: a shape does not fit, or values that are read are not finite.
        """
        settings = InterpolationSettings(sampling=SampleSettings(guidance, seed, num_steps, fps, condition_noise))
        latents = jnp.asarray(condition_latents)
        check_sampled_latents("condition_latents", latents.shape[-4:], self.denoiser.config)
        check_numbers("condition_latents", latents[..., np.array([0, -1]), :, :, :])
        batch = latents.reshape(-1, *latents.shape[-4:])
        return self.denoiser.sample(batch, text, negative_text, settings.sampling).reshape(latents.shape)

    @one_at_a_time
    def decode(self, latents: Float[Array, "*pairs T H W C"]) -> UInt8[np.ndarray, "*pairs F Y X 3"]:
        """Return the frames (uint8 RGB) of sampled latents, of one pair or of a batch of pairs.

        Raises:
            UsageError: the shape is not that of latents, or values are not finite.
        """
        latents = jnp.asarray(latents)
        check_latents("latents", latents.shape[-4:], self.denoiser.config)
        check_numbers("latents", latents)
        if latents.ndim == 5:
            return np.stack([self.decode(pair) for pair in latents])
        return self.codec.decode(latents)

    def check_size(self, height: int, width: int, num_video_frames: int = 10) -> tuple[int, int, int, int]:
        """Return the shape (T, H, W, C) of a pair's latents.

        Raises:
            UsageError: these networks cannot take the size.
        """
        return latent_shape(
            self.denoiser.config, self.codec.config, height=height, width=width, num_video_frames=num_video_frames
        )

    def check_settings(self, settings: InterpolationSettings) -> None:
        """Raise `UsageError` if these networks cannot take the sizes in `settings`."""
        self.check_size(settings.height, settings.width, settings.num_video_frames)

    def _encode_prompts(self, settings: InterpolationSettings) -> tuple[Array | None, Array | None]:
        """Return the embeddings of (prompt, negative prompt), each only if the guidance reads it."""
        texts = texts_read(settings.prompt, settings.negative_prompt, settings.sampling.guidance)
        rows = self._embeddings(texts, settings)
        return rows.get(Branch.CONDITIONAL), rows.get(Branch.UNCONDITIONAL)
