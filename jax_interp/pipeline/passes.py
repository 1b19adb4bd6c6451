"""Running pairs of frames through the networks, as many at a time as share one pass over the weights."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array

from jax_interp.diffusion.branches import branches
from jax_interp.media.pairs import batches
from jax_interp.media.resize import as_input_levels, resize_levels
from jax_interp.pipeline.across_processes import check_frames
from jax_interp.pipeline.results import InterpolatedPair, PairProgress
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.pipeline.stages.offloading import offloading

NumberedPair = tuple[int, np.ndarray, np.ndarray | None]
"""(number of the pair, first frame, last frame); the frames are uint8 RGB [Y, X, 3]. Without a last one it is a single
frame, which is shown between pairs: it is only resized, and checked by the guardrails."""

WholePair = tuple[int, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PassRunner:
    """The stages of a pass in order: encode both ends, denoise, decode, and have the guardrails check the frames."""

    denoiser: Denoiser
    codec: Codec
    guardrails: Guardrails | None
    settings: InterpolationSettings
    within: Callable[[str], AbstractContextManager[None]]
    """A context manager that is entered for every stage, with the stage's name. It counts the seconds and explains what
    would fit where memory runs out."""

    def run(
        self,
        pairs: Iterable[NumberedPair],
        encode_prompts: Callable[[], tuple[Array | None, Array | None]],
        progress: PairProgress | None = None,
    ) -> Iterator[InterpolatedPair]:
        """Yield the result of each of `pairs`, in their order.

        `encode_prompts` is called once, before the first pair is encoded; it returns the embeddings of prompt and
        negative prompt, None for the all-zero embedding.
        """
        settings, prompts = self.settings, None
        together = self.denoiser.devices.shape.pairs_at_once(len(branches(settings.sampling.guidance)))
        for batch in batches(pairs, settings.pairs_per_batch * together):
            pairs = [(number, first, last) for number, first, last in batch if last is not None]
            latents = None
            if pairs:
                prompts = prompts or encode_prompts()
                latents = self._denoise(pairs, *prompts, progress)
            with offloading(self.codec):
                yield from self._decode(batch, latents)

    def _denoise(
        self, pairs: list[WholePair], text: Array | None, negative: Array | None, progress: PairProgress | None
    ) -> Array:
        first_number = pairs[0][0]
        condition = self._encode(pairs)
        with offloading(self.denoiser), self.within("denoise"):
            return self.denoiser.sample(
                condition,
                text,
                negative,
                self.settings.sampling,
                numbers=[number for number, _, _ in pairs],
                progress=None if progress is None else lambda done, total: progress(first_number, done, total),
            )

    def _encode(self, pairs: list[WholePair]) -> Array:
        settings = self.settings
        with offloading(self.codec), self.within("encode"):
            ends = [(first, last) for _, first, last in pairs]
            return jax.block_until_ready(
                self.codec.encode_pairs(ends, settings.height, settings.width, settings.num_video_frames)
            )

    def _decode(self, batch: list[NumberedPair], latents: Array | None) -> Iterator[InterpolatedPair]:
        settings = self.settings
        decoded = iter(()) if latents is None else self.codec.decode_pairs(latents)
        rows = iter(()) if latents is None else iter(np.asarray(latents))
        for number, first, last in batch:
            if last is None:
                row = np.zeros((0, 0, 0, 0), np.float32)
                frames = resize_levels(first[None], settings.height, settings.width)
            else:
                row = next(rows)
                with self.within("decode"):
                    frames = self._with_keyframes(next(decoded), first, last)
            if self.guardrails is not None:
                with self.within("guardrails"):
                    frames = check_frames(self.guardrails, frames, number * (settings.num_video_frames - 1))
            yield InterpolatedPair(number, frames, row)

    def _with_keyframes(self, frames: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return the decoded `frames` of a pair with its ends as they were given, if that is wanted."""
        settings = self.settings
        if settings.keyframes == "decoded":
            return frames
        head, tail = (resize_levels(end[None], settings.height, settings.width) for end in (first, last))
        return np.concatenate([head, as_input_levels(frames[1:-1]), tail])
