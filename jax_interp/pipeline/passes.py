"""Running pairs of frames through the networks, as many at a time as share one pass over the weights."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array

from jax_interp.diffusion.branches import branches
from jax_interp.media.pairs import batches
from jax_interp.pipeline.across_processes import check_frames
from jax_interp.pipeline.results import InterpolatedPair, PairProgress
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.denoiser import Denoiser

NumberedPair = tuple[int, np.ndarray, np.ndarray]
"""(number of the pair, first frame, last frame); the frames are uint8 RGB [Y, X, 3]."""


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

        `encode_prompts` is called once, before the first pair is read; it returns the embeddings of prompt and negative
        prompt, None for the all-zero embedding.
        """
        settings, (text, negative) = self.settings, encode_prompts()
        together = self.denoiser.devices.shape.pairs_at_once(len(branches(settings.sampling.guidance)))
        for batch in batches(pairs, settings.pairs_per_batch * together):
            first_number = batch[0][0]
            condition = self._encode(batch)
            with self.within("denoise"):
                latents = self.denoiser.sample(
                    condition,
                    text,
                    negative,
                    settings.sampling,
                    first_pair=first_number,
                    progress=None if progress is None else lambda done, total, n=first_number: progress(n, done, total),
                )
            self.denoiser.offload()
            yield from self._decode(batch, latents)
            self.codec.offload()

    def _encode(self, batch: list[NumberedPair]) -> Array:
        settings = self.settings
        with self.within("encode"):
            ends = [(first, last) for _, first, last in batch]
            condition = jax.block_until_ready(
                self.codec.encode_pairs(ends, settings.height, settings.width, settings.num_video_frames)
            )
        self.codec.offload()
        return condition

    def _decode(self, batch: list[NumberedPair], latents: Array) -> Iterator[InterpolatedPair]:
        decoded = self.codec.decode_pairs(latents)
        for (number, _, _), pair_latents in zip(batch, np.asarray(latents), strict=True):
            with self.within("decode"):
                frames = next(decoded)
            if self.guardrails is not None:
                with self.within("guardrails"):
                    frames = check_frames(self.guardrails, frames, number * (self.settings.num_video_frames - 1))
            yield InterpolatedPair(number, frames, pair_latents)
