"""The sampling of Video2World: the diffusion transformer, called by Euler's method."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.diffusion.branches import Branch, branches
from jax_interp.diffusion.condition import initial_noise
from jax_interp.diffusion.euler import (
    EulerInputs,
    compose,
    euler_inputs,
    euler_sigmas,
    euler_step,
    first_frames_indicator,
    guided_output,
    initial_state,
    network_input,
)
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.models.dit import DiTBlockInputs
from jax_interp.pipeline.stages.cells import Cells
from jax_interp.pipeline.stages.denoiser import Denoiser, Progress, as_batch
from jax_interp.runtime.mesh import REPLICATED
from jax_interp.types import Latents, Params, Text

_INITIAL_STREAM = 600_000
"""What is added to a seed for the initial noise, which must be another draw than that of the known frames."""


class _Run(NamedTuple):
    """The inputs that all steps of one sampling run share."""

    condition: Latents
    noise: Float[Array, "T H W C"]
    """The noise on the known frames."""
    indicator: Float[Array, "T 1 1 1"]
    guidance: Float[Array, ""]
    angles: Float[Array, "L half_K"]


class EulerSampler:
    """Samples latents of which the first frames are known; it runs the network of `denoiser`, which places it.

    The branches of guidance are evaluated one after the other unless devices along `data` share them: a clip of 121
    frames keeps a device busy, and one branch takes half the memory.
    """

    def __init__(self, denoiser: Denoiser):
        self.denoiser = denoiser
        self._compose = denoiser.jit(self._composed)
        self._embed = denoiser.jit(self._embedded)
        self._project = denoiser.jit(denoiser.project_cells, static_argnames="shape")
        self._advance = denoiser.jit(self._advanced, static_argnames="num_branches")

    def sample(
        self,
        condition: Latents,
        text: Text | np.ndarray | None,
        negative_text: Text | np.ndarray | None,
        settings: SampleSettings,
        *,
        num_known: int,
        noise: Latents | np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> Float[Array, "B T H W C"]:
        """Sample latents, float32; the known frames come back nearly unchanged, as they are let go at the last levels.

        `condition` are clean latents, of which the first `num_known` frames are read. `text` and `negative_text` have
        one row for each clip or one for all. None as `text` is the all-zero embedding; without a negative text the
        unconditional branch reads `text`, as upstream's does, so that guidance has no effect. `noise` is unit noise for
        the initial state; by default it is drawn with the settings' seed.

        Raises:
            JaxInterpError: the network returned something that is not a number.
        """
        denoiser, count = self.denoiser, condition.shape[0]
        needed = branches(settings.guidance) if negative_text is not None else (Branch.CONDITIONAL,)
        rows = {Branch.CONDITIONAL: text, Branch.UNCONDITIONAL: negative_text}
        texts = [denoiser.text_rows(rows[branch], count) for branch in needed]
        shape = (condition.shape[1], condition.shape[2], condition.shape[3], condition.shape[4])
        if noise is None:
            noise = initial_noise((settings.seed + _INITIAL_STREAM) % 2**32, shape)[None]
        put = denoiser.devices.put
        # parity: upstream's condition latents and initial noise are bfloat16, also around a float32 network.
        run = _Run(
            as_batch(put(condition)).astype(denoiser.dtype),
            put(initial_noise(settings.seed, shape)),
            put(first_frames_indicator(shape[0], num_known)),
            put(np.float32(settings.guidance)),
            put(denoiser.angles(condition.shape, settings.fps)),
        )
        start = jnp.broadcast_to(as_batch(put(noise)), run.condition.shape)
        passes = [put(rows) for rows in self._passes(texts)]
        steps = euler_inputs(euler_sigmas(settings.num_steps), denoiser.precision)
        with denoiser.numerics():
            x = initial_state(start, denoiser.dtype)
            for done, inputs in enumerate(steps):
                following = self._step(run, passes, x, inputs, len(needed))
                # Python runs one step ahead of the device at most: progress and interrupts stay timely.
                jax.block_until_ready(x)
                x = following
                if progress is not None:
                    progress(done + 1, len(steps))
            latents = x.astype(jnp.float32)
        denoiser.check_finite(latents)
        return latents

    def _passes(self, texts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the text rows of every pass over the weights: a branch each, or all if devices along `data` share."""
        together = [np.concatenate(texts)] if self.denoiser.devices.shape.data > 1 else texts
        for rows in together:
            spare = -len(rows) % self.denoiser.devices.shape.data
            yield np.concatenate([rows, np.repeat(rows[-1:], spare, axis=0)])

    def _step(self, run: _Run, passes: Sequence[Text], x: Latents, inputs: EulerInputs, num_branches: int) -> Latents:
        state = self._compose(run, x, inputs)
        outputs = [self._evaluate(run, text, state, inputs) for text in passes]
        return self._advance(run, jnp.concatenate(outputs), state, inputs, num_branches=num_branches)

    def _evaluate(self, run: _Run, text: Text, state: Latents, inputs: EulerInputs) -> Latents:
        """Return the network's output for every row of `text`; row i is of clip i modulo the number of clips."""
        denoiser = self.denoiser
        stream, shared = self._embed(denoiser.outer, run, text, state, inputs)
        stream = denoiser.run_all_blocks(stream, shared, denoiser.num_cells(state.shape))
        return self._project(denoiser.outer, stream, shared, shape=(len(text), *state.shape[1:]))

    # Traced by `jit`.

    def _composed(self, run: _Run, x: Latents, inputs: EulerInputs) -> Latents:
        noise = jnp.broadcast_to(run.noise, x.shape)
        return self.denoiser.constrain(compose(run.condition, noise, run.indicator, x, inputs), REPLICATED)

    def _embedded(
        self, outer: Params, run: _Run, text: Text, state: Latents, inputs: EulerInputs
    ) -> tuple[Cells, DiTBlockInputs]:
        rows, dtype = len(text), state.dtype
        scaled = network_input(state, inputs)[jnp.arange(rows) % state.shape[0]]
        mask = jnp.broadcast_to(run.indicator, (rows, *state.shape[1:4], 1))
        c_noise = jnp.broadcast_to(jnp.asarray(inputs.c_noise).astype(dtype), (rows,))
        return self.denoiser.embed_latents(outer, scaled, c_noise, text, mask, jnp.zeros_like(mask), run.angles)

    def _advanced(self, run: _Run, outputs: Latents, state: Latents, inputs: EulerInputs, num_branches: int) -> Latents:
        each = jnp.split(outputs[: num_branches * state.shape[0]], num_branches)
        output = guided_output(each, run.guidance, state, run.condition, run.indicator, inputs)
        return self.denoiser.constrain(euler_step(state, output, inputs), REPLICATED)
