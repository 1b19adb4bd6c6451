"""The diffusion stage: the transformer and the sampling run around it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.diffusion.condition import ConditionNoise, augmenter, frame_indicator, initial_noise
from jax_interp.diffusion.guidance import Branch, branches
from jax_interp.diffusion.sample import CallInputs, call_coefficients, call_inputs, conclude, prepare, sample
from jax_interp.diffusion.schedule import sigmas
from jax_interp.diffusion.solver import advance
from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.models.dit import BlockInputs, DiT, patch_grid
from jax_interp.nn.rotary import rotary_angles
from jax_interp.pipeline.stage import StackedStage
from jax_interp.runtime.block_stream import marked
from jax_interp.runtime.checkpoint import ConvertedComponent
from jax_interp.types import Latents, Params, Precision, Text, Tokens

Progress = Callable[[int, int], None]
"""Called with (calls done, calls in all) as a sampling run goes on."""


@dataclass(frozen=True)
class SampleSettings:
    """One sampling run; the defaults are upstream's effective values."""

    guidance: float = -1.0
    seed: int = 11
    num_steps: int = 35
    fps: float = 24.0
    condition_noise: ConditionNoise = "fixed"


class Run(NamedTuple):
    """What all calls of one sampling run read."""

    condition: Latents
    text: Text
    guidance: Float[Array, ""]
    angles: Float[Array, "L half_K"]


class Denoiser(StackedStage[DiT]):
    """The diffusion transformer with its sampler."""

    def __init__(self, found: ConvertedComponent, precision: Precision, rotary_precision: Precision | None = None):
        super().__init__(found, DiT, precision)
        self.rotary_precision: Precision = rotary_precision or precision
        self._embed = self.jit(self._embed_latents)
        self._attend = self.jit(self._attend_all, donate_argnames="tokens")
        self._attend_between = self.jit(self._attend_for_frames_between, static_argnames="num_frames")
        self._transform = self.jit(self._transform_tokens, donate_argnames="tokens")
        self._project = self.jit(self._project_tokens, static_argnames="shape")
        self._start = self.jit(self._start_call)
        self._finish = self.jit(self._finish_call)

    def net(
        self,
        x: Latents,
        c_noise: Float[Array, " B"],
        text: Text,
        mask: Float[Array, "B T H W 1"],
        padding_mask: Float[Array, "B T H W 1"],
        fps: float,
    ) -> Latents:
        """One evaluation of the bare network, in its dtype."""
        with self.numerics():
            angles = self._angles(x.shape, fps)
            tokens, shared = self._embed(self.outer, x, c_noise, text, mask, padding_mask, angles)
            tokens = self._run_blocks(tokens, shared)
            return self._project(self.outer, tokens, shared, shape=x.shape)

    def sample(
        self,
        condition: Latents,
        text: Text | None,
        negative_text: Text | None,
        settings: SampleSettings,
        *,
        first_pair: int = 0,
        progress: Progress | None = None,
    ) -> Float[Array, "B T H W C"]:
        """Sample latents for a batch of pairs, float32.

        `condition` are the clean latents of `encode_pair`. `text` and `negative_text` have one row a pair or one for
        all; only those that the guidance needs are read, `None` is the all-zero embedding. `first_pair` is the number
        of the batch's first pair within its run (drawn condition noise depends on it).

        Raises:
            JaxInterpError: the network returned something that is not a number.
        """
        needed = branches(settings.guidance)
        levels = sigmas(settings.num_steps)
        num_pairs, *shape = condition.shape
        noise = jnp.asarray(initial_noise(settings.seed, (shape[0], shape[1], shape[2], shape[3])))
        augment = augmenter(
            settings.condition_noise,
            noise=noise,
            seed=settings.seed,
            pairs=range(first_pair, first_pair + num_pairs),
            num_calls=len(levels),
            precision=self.precision,
        )
        calls = (
            call_inputs(sigma, coefficients, [augment(call, branch) for branch in needed], self.precision)
            for call, (sigma, coefficients) in enumerate(zip(levels, call_coefficients(levels), strict=True))
        )
        rows = {Branch.CONDITIONAL: text, Branch.UNCONDITIONAL: negative_text}
        run = Run(
            _as_batch(condition).astype(self.dtype),
            jnp.concatenate([self._text_rows(rows[branch], num_pairs) for branch in needed]),
            jnp.asarray(settings.guidance, jnp.float32),
            jnp.asarray(self._angles(condition.shape, settings.fps)),
        )
        with self.numerics():
            start = jnp.broadcast_to(noise, condition.shape)
            latents = sample(_reporting(partial(self._step, run), len(levels), progress), start, levels, calls)
        if not bool(jnp.isfinite(latents).all()):
            raise JaxInterpError(
                f"{self.found.path}: sampling gave values that are not numbers; check the checkpoint with"
                " `jax-interp inspect`, or try --dtype float32"
            )
        return latents

    def _step(self, run: Run, x: Latents, previous_x0: Latents, inputs: CallInputs) -> tuple[Latents, Latents]:
        tokens, shared, states = self._start(self.outer, run, x, inputs)
        tokens = self._run_blocks(tokens, shared, frames_between=x.shape[1])
        return self._finish(self.outer, run, tokens, shared, states, x, previous_x0, inputs)

    def _run_blocks(self, tokens: Tokens, shared: BlockInputs, frames_between: int | None = None) -> Tokens:
        """Every block; given the number of frames, the last one only for those between the first and the last frame.

        What the network says of the known frames is not used, so the last block need not say it.
        """
        last = self.network.num_blocks - 1

        def apply(block: int, part: int, params: Params, tokens: Tokens) -> tuple[Tokens, Array]:
            if part == 1:
                return self._transform(params, tokens, shared)
            if frames_between is not None and block == last:
                return self._attend_between(params, tokens, shared, num_frames=frames_between)
            return self._attend(params, tokens, shared)

        return self.blocks.run(apply, tokens)

    # Traced by `jit`, each with the parameters it needs.

    def _embed_latents(self, outer: Params, *arguments: Array) -> tuple[Tokens, BlockInputs]:
        return self.network.bind_outer(outer).embed(*arguments)

    def _attend_all(self, params: Params, tokens: Tokens, shared: BlockInputs) -> tuple[Tokens, Array]:
        return marked(self.network.bind_part(0, params).attend(tokens, shared))

    def _attend_for_frames_between(
        self, params: Params, tokens: Tokens, shared: BlockInputs, num_frames: int
    ) -> tuple[Tokens, Array]:
        frame = tokens.shape[1] // num_frames
        between = slice(frame, (num_frames - 1) * frame)
        return marked(self.network.bind_part(0, params).attend(tokens, shared, between))

    def _transform_tokens(self, params: Params, tokens: Tokens, shared: BlockInputs) -> tuple[Tokens, Array]:
        return marked(self.network.bind_part(1, params).transform(tokens, shared))

    def _project_tokens(self, outer: Params, tokens: Tokens, shared: BlockInputs, shape: tuple[int, ...]) -> Latents:
        return self.network.bind_outer(outer).project(tokens, shared, shape)

    def _start_call(
        self, outer: Params, run: Run, x: Latents, inputs: CallInputs
    ) -> tuple[Tokens, BlockInputs, Latents]:
        indicator = jnp.asarray(frame_indicator(x.shape[1]))
        call = prepare(run.condition, indicator, x, inputs)
        mask = jnp.broadcast_to(indicator, (run.text.shape[0], *x.shape[1:4], 1))
        tokens, shared = self._embed_latents(
            outer, call.scaled, call.c_noise, run.text, mask, jnp.zeros_like(mask), run.angles
        )
        return tokens, shared, call.states

    def _finish_call(
        self,
        outer: Params,
        run: Run,
        tokens: Tokens,
        shared: BlockInputs,
        states: Latents,
        x: Latents,
        previous_x0: Latents,
        inputs: CallInputs,
    ) -> tuple[Latents, Latents]:
        rows, num_frames, *cells = states.shape
        between = self._project_tokens(outer, tokens, shared, (rows, num_frames - 2, *cells))
        output = jnp.pad(between, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        indicator = jnp.asarray(frame_indicator(x.shape[1]))
        x0 = conclude(output, states, run.condition, indicator, run.guidance, inputs)
        return advance(x, x0, previous_x0, inputs.coefficients), x0

    def _text_rows(self, text: Text | None, num_pairs: int) -> Text:
        width = self.config.text_width
        if text is None:
            return jnp.zeros((num_pairs, 512, width), self.dtype)
        if text.ndim != 3 or text.shape[0] not in (1, num_pairs) or text.shape[2] != width:
            raise UsageError(
                f"text embeddings have shape {tuple(text.shape)}; expected [1 or {num_pairs}, tokens, {width}] for"
                f" {num_pairs} pair(s) and this network"
            )
        return jnp.broadcast_to(_as_batch(text).astype(self.dtype), (num_pairs, *text.shape[1:]))

    def _angles(self, shape: tuple[int, ...], fps: float) -> Float[np.ndarray, "L half_K"]:
        config = self.config
        return rotary_angles(
            patch_grid(shape, config.patch_size),
            config.head_width,
            fps=fps,
            ratio=config.rotary_ratio,
            precision=self.rotary_precision,
        )


def _as_batch(x: Array) -> Array:
    # parity: upstream's data batch is bfloat16, text and condition latents included, also around a float32 network.
    return jnp.asarray(x).astype(jnp.bfloat16)


def _reporting(run_step, total: int, progress: Progress | None):
    """`run_step`, held to one call ahead of the device so that progress and interrupts are timely."""
    done = 0

    def run(x: Latents, previous_x0: Latents, inputs: CallInputs) -> tuple[Latents, Latents]:
        nonlocal done
        result = run_step(x, previous_x0, inputs)
        jax.block_until_ready(previous_x0)
        done += 1
        if progress is not None:
            progress(done, total)
        return result

    return run
