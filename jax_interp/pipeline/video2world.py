"""Video2World as one class: it takes a picture or the end of a clip and returns how it goes on."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property, partial
from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.diffusion.branches import Branch
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import UsageError
from jax_interp.media.last_frames import given_frames
from jax_interp.media.source import RgbFrames
from jax_interp.pipeline.across_processes import check_frames, check_prompts
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.given_arrays import as_noise, as_text_rows, check_latents, check_numbers, check_sampled_latents
from jax_interp.pipeline.one_at_a_time import one_at_a_time
from jax_interp.pipeline.prompt.steering import texts_of_world
from jax_interp.pipeline.results import GeneratedVideo, InterpolatedPair, PairProgress
from jax_interp.pipeline.settings import Video2WorldSettings
from jax_interp.pipeline.stages.clip_codec import ClipCodec
from jax_interp.pipeline.stages.euler_sampler import EulerSampler
from jax_interp.pipeline.stages.geometry import world_latent_shape
from jax_interp.pipeline.stages.offloading import offloading

Within = Callable[[str], AbstractContextManager[None]]


class Video2World(Pipeline):
    """Continues a picture or the end of a clip (Cosmos-Predict1 Video2World, 7B and 14B).

    ```python
    world = Video2World.from_pretrained("converted")
    result = world.generate(frames, "A forklift drives along the aisle.")      # uint8 [F, Y, X, 3], or one picture
    imageio.v3.imwrite("on.mp4", result.frames, fps=24, codec="libx264")
    ```

    Guardrails, where there are any, are applied by `stream`, and so by `generate`. The single steps (`encode_text`,
    `encode_condition`, `sample`, `decode`) apply none: a program that combines them itself checks what it shows.

    Networks load when first used and stay loaded until `unload`. `timings` sums the seconds of each stage, compilation
    included.
    """

    TRANSFORMER = "Video2World"

    @one_at_a_time
    def generate(
        self,
        frames: UInt8[np.ndarray, "*F Y X rgb"],
        prompt: str = "",
        negative_prompt: str | None = None,
        guidance: float = 7.0,
        seed: int = 1,
        num_steps: int = 35,
        num_input_frames: int = 1,
        num_video_frames: int = 121,
        fps: float = 24,
        height: int = 704,
        width: int = 1280,
    ) -> GeneratedVideo:
        """Return a clip of `num_video_frames` frames at `height`×`width` that begins with the given ones.

        `frames` (uint8) are one picture or a clip, of which the last `num_input_frames`, 1 or 9, are continued. What is
        transparent in a picture of four channels (RGBA) is laid over white. Frames are resized, without keeping their
        aspect ratio, as upstream does.

        `guidance` combines the network's outputs as `cond + guidance·(cond - uncond)`: at 0 only `prompt` counts.
        `negative_prompt=None` is upstream's default text; with `""` guidance has no effect, as upstream. `fps` is the
        rate that the network is told. `seed` decides the noise; upstream's initial noise comes from a GPU's generator
        and cannot be drawn here, but given to `sample`.

        Raises:
            UsageError: an argument cannot work; the message says what could.
            Blocked: the guardrails, if there are any, do not let prompt or frames pass.
        """
        settings = Video2WorldSettings(
            prompt=prompt,
            negative_prompt=negative_prompt,
            sampling=SampleSettings(guidance, seed, num_steps, fps),
            num_input_frames=num_input_frames,
            num_video_frames=num_video_frames,
            height=height,
            width=width,
        )
        given = given_frames(frames, num_input_frames)
        [result] = self.stream([(0, given)], settings)
        return GeneratedVideo(result.frames, result.latents)

    def stream(
        self,
        parts: Iterable[tuple[int, RgbFrames]],
        settings: Video2WorldSettings,
        progress: PairProgress | None = None,
    ) -> Iterator[InterpolatedPair]:
        """Continue clip after clip of `(number, the frames to continue)`.

        Sizes and texts are checked when it is called, everything else happens as the results are asked for. This is
        the one door to the guardrails: `generate` and the command line go through it.

        Raises:
            UsageError: these networks cannot take the size, or there is guidance without a prompt.
            Blocked: the guardrails, if there are any, do not let the texts pass, or, later, the frames.
            OutOfMemory: a stage does not fit; the message says what would.
        """
        self.check_settings(settings)
        settings.check_prompt()
        within = partial(self._stage, settings=settings)
        if self.guardrails is not None:
            with within("guardrails"):
                check_prompts(self.guardrails, settings)
        return self._run(parts, settings, within, progress)

    @one_at_a_time
    def encode_condition(
        self,
        frames: UInt8[np.ndarray, "*F Y X rgb"],
        num_input_frames: int = 1,
        num_video_frames: int = 121,
        height: int = 704,
        width: int = 1280,
    ) -> Float[Array, "T H W C"]:
        """Return the condition latents of the last `num_input_frames` frames, float32, zeros behind the known ones.

        One frame makes one known latent frame, nine make two. Frames behind them are not encoded: the tokenizer is
        causal, so they change nothing.

        Raises:
            UsageError: these networks cannot take the size, there are too few frames, or another number than 1 or 9 is
                to be continued.
        """
        Video2WorldSettings(  # checks what is given
            num_input_frames=num_input_frames, height=height, width=width, num_video_frames=num_video_frames
        )
        shape = self.check_size(height, width, num_video_frames, num_input_frames)
        known = self.clips.encode(given_frames(frames, num_input_frames), height, width)
        return jnp.pad(known, ((0, shape[0] - known.shape[0]), (0, 0), (0, 0), (0, 0)))

    @one_at_a_time
    def sample(
        self,
        condition_latents: Float[Array | np.ndarray, "T H W C"],
        text: Float[Array | np.ndarray, "1 S D"] | Float[Array | np.ndarray, "S D"] | None,
        negative_text: Float[Array | np.ndarray, "1 S D"] | Float[Array | np.ndarray, "S D"] | None,
        guidance: float = 7.0,
        seed: int = 1,
        num_steps: int = 35,
        fps: float = 24,
        num_condition_frames: int = 1,
        initial_noise: Float[Array | np.ndarray, "T H W C"] | None = None,
    ) -> Float[Array, "T H W C"]:
        """Sample the latents of a clip, float32, of which the first `num_condition_frames` are known.

        `text` and `negative_text` are embeddings of `encode_text`, with or without the axis of the batch. None as
        `text` is the all-zero embedding; without `negative_text` guidance has no effect. `initial_noise` is of unit
        variance; by default it is drawn with `seed`, which also decides the noise on the known frames. The known frames
        come back nearly unchanged: they are let go at the last noise levels, as upstream does.

        Raises:
            UsageError: a shape does not fit, values that are read are not finite, or there are more known frames than
                frames.
        """
        settings = Video2WorldSettings(sampling=SampleSettings(guidance, seed, num_steps, fps))
        latents = jnp.asarray(condition_latents)
        check_sampled_latents("condition_latents", latents.shape, self.denoiser.config)
        if not isinstance(num_condition_frames, Integral) or not 0 <= num_condition_frames <= len(latents):
            raise UsageError(
                f"num_condition_frames is {num_condition_frames!r}; expected 0 to {len(latents)}, the latent frames"
            )
        check_numbers("condition_latents", latents[:num_condition_frames])
        sampled = self.sampler.sample(
            latents[None],
            as_text_rows("text", text),
            as_text_rows("negative_text", negative_text),
            settings.sampling,
            num_known=num_condition_frames,
            noise=as_noise("initial_noise", initial_noise, latents.shape),
        )
        return sampled[0]

    @one_at_a_time
    def decode(self, latents: Float[Array | np.ndarray, "T H W C"]) -> UInt8[np.ndarray, "F Y X 3"]:
        """Return the frames (uint8 RGB) of sampled latents, 8 for each latent frame but the first, which is one.

        Raises:
            UsageError: the shape is not that of latents, or values are not finite.
        """
        latents = jnp.asarray(latents)
        check_latents("latents", latents.shape, self.denoiser.config)
        check_numbers("latents", latents)
        return np.concatenate(list(self.clips.decode(latents)))

    def check_size(
        self, height: int, width: int, num_video_frames: int = 121, num_input_frames: int = 1
    ) -> tuple[int, int, int, int]:
        """Return the shape (T, H, W, C) of a clip's latents.

        Raises:
            UsageError: these networks cannot take the size.
        """
        return world_latent_shape(
            self.denoiser.config,
            self.codec.config,
            height=height,
            width=width,
            num_video_frames=num_video_frames,
            num_input_frames=num_input_frames,
        )

    def check_settings(self, settings: Video2WorldSettings) -> None:
        """Raise `UsageError` if these networks cannot take the sizes in `settings`."""
        self.check_size(settings.height, settings.width, settings.num_video_frames, settings.num_input_frames)

    @cached_property
    def clips(self) -> ClipCodec:
        """The tokenizer on whole clips."""
        return ClipCodec(self.codec)

    @cached_property
    def sampler(self) -> EulerSampler:
        """The transformer with this pipeline's sampler."""
        return EulerSampler(self.denoiser)

    def _run(
        self,
        clips: Iterable[tuple[int, RgbFrames]],
        settings: Video2WorldSettings,
        within: Within,
        progress: PairProgress | None,
    ) -> Iterator[InterpolatedPair]:
        texts = texts_of_world(settings.prompt, settings.negative_prompt, settings.sampling.guidance)
        rows = self._embeddings(texts, settings)
        for number, given in clips:
            latents = self._sampled(number, given, rows, settings, within, progress)
            with offloading(self.codec), within("decode"):
                frames = np.concatenate(list(self.clips.decode(latents)))
            if self.guardrails is not None:
                with within("guardrails"):
                    frames = check_frames(self.guardrails, frames, number * settings.num_video_frames)
            yield InterpolatedPair(number, frames, np.asarray(latents))

    def _sampled(
        self,
        number: int,
        given: RgbFrames,
        rows: dict[Branch, Array],
        settings: Video2WorldSettings,
        within: Within,
        progress: PairProgress | None,
    ) -> Float[Array, "T H W C"]:
        with offloading(self.codec), within("encode"):
            condition = jax.block_until_ready(
                self.encode_condition(
                    given, settings.num_input_frames, settings.num_video_frames, settings.height, settings.width
                )
            )
        # Of the given frames, however many there are, that many were encoded.
        known = (settings.num_input_frames - 1) // self.codec.config.compression + 1
        with offloading(self.denoiser), within("denoise"):
            latents = self.sampler.sample(
                condition[None],
                # At a guidance of -1 only the negative prompt is read.
                rows.get(Branch.CONDITIONAL),
                rows.get(Branch.UNCONDITIONAL),
                settings.sampling,
                num_known=known,
                progress=None if progress is None else lambda done, total: progress(number, done, total),
            )
        return latents[0]
