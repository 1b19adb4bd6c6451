"""The diffusion stage: the transformer and the sampler that calls it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.config import DiTConfig, Precision
from jax_interp.diffusion.branches import Branch, branches
from jax_interp.diffusion.condition import augmenter, frame_indicator, initial_noise
from jax_interp.diffusion.sample import CallInputs, call_coefficients, call_inputs, conclude, prepare, sample
from jax_interp.diffusion.schedule import sigmas
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.diffusion.solver import advance
from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.models.dit import DiT, DiTBlockInputs, patch_grid
from jax_interp.nn.patches import unpatchify
from jax_interp.nn.rotary import rotary_angles
from jax_interp.pipeline.stages import cells
from jax_interp.pipeline.stages.cells import CELLS_SPEC, SHARED_SPECS, Cells
from jax_interp.pipeline.stages.stage import StackedStage
from jax_interp.pipeline.stages.workload import LATENT_CELL, Workload
from jax_interp.runtime.block_stream import PartCall, PartResult
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import REPLICATED, DeviceMesh
from jax_interp.types import Latents, Params, Text

Progress = Callable[[int, int], None]
"""A callable that is called with (network calls done, network calls in all), for example
`lambda done, total: print(done, "of", total)`."""


class Run(NamedTuple):
    """The inputs that all network calls of one sampling run share."""

    condition: Latents
    text: Text
    guidance: Float[Array, ""]
    angles: Float[Array, "L half_K"]


class Denoiser(StackedStage[DiT]):
    """The diffusion transformer with its sampler."""

    NETWORK = DiT
    QUANTIZES = True

    def __init__(
        self,
        converted: ConvertedComponent,
        precision: Precision,
        rotary_precision: Precision | None = None,
        devices: DeviceMesh | None = None,
    ):
        super().__init__(converted, precision, devices)
        self.rotary_precision: Precision = rotary_precision or precision
        self._embed = self.jit(self.embed_latents)
        attend, transform = (partial(each, devices=self.devices) for each in (cells.attend, cells.transform))
        between = partial(attend, between=True)
        self._attend = self.compile_part(0, attend, CELLS_SPEC, SHARED_SPECS, static_argnames="cells")
        self._attend_between = self.compile_part(
            0, between, CELLS_SPEC, SHARED_SPECS, donate=False, static_argnames="cells"
        )
        self._transform = self.compile_part(1, transform, CELLS_SPEC, SHARED_SPECS)
        self._project = self.jit(self.project_cells, static_argnames="shape")
        self._start = self.jit(self._start_call)
        self._finish = self.jit(self._finish_call)

    @classmethod
    def activations(cls, config: DiTConfig, size: int, workload: Workload) -> int:
        """For each row: the residual stream, its normalised copy and the MLP's two hidden arrays."""
        cell = LATENT_CELL * config.patch_size
        frames = (workload.num_video_frames - 2) // LATENT_CELL + 2
        tokens = frames * (workload.height // cell) * (workload.width // cell)
        hidden = config.mlp_width // workload.mesh.tensor
        return -(-tokens // workload.mesh.sequence) * size * workload.rows * (2 * config.width + 2 * hidden)

    def net(
        self,
        x: Latents,
        c_noise: Float[Array, " B"],
        text: Text,
        mask: Float[Array, "B T H W 1"],
        padding_mask: Float[Array, "B T H W 1"],
        fps: float,
    ) -> Latents:
        """Evaluate the bare network once, in its dtype."""
        with self.numerics():
            angles = self.angles(x.shape, fps)
            spare = -x.shape[0] % self.devices.shape.data
            rows = [repeat_last(array, spare) for array in (x, c_noise, text, mask, padding_mask)]
            stream, shared = self._embed(self.outer, *self.devices.put((*rows, angles)))
            stream = self.run_all_blocks(stream, shared, self.num_cells(x.shape))
            return self._project(self.outer, stream, shared, shape=rows[0].shape)[: x.shape[0]]

    def sample(
        self,
        condition: Latents,
        text: Text | np.ndarray | None,
        negative_text: Text | np.ndarray | None,
        settings: SampleSettings,
        *,
        numbers: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> Float[Array, "B T H W C"]:
        """Sample latents for a batch of pairs, float32.

        `condition` are the clean latents of `encode_pair`. `text` and `negative_text` have one row for each pair or one
        for all; only those that the guidance needs are read, and None stands for the all-zero embedding. `numbers`
        are those of the pairs within their run (drawn condition noise depends on them), by default from 0.

        Raises:
            JaxInterpError: the network returned something that is not a number.
        """
        needed = branches(settings.guidance)
        levels = sigmas(settings.num_steps)
        num_pairs, *shape = condition.shape
        spare = -num_pairs % self.devices.shape.pairs_at_once(len(needed))
        # The last pair is repeated for devices that would otherwise have none.
        numbers = range(num_pairs) if numbers is None else numbers
        pairs = [*numbers, *[numbers[-1]] * spare]
        noise = self.devices.put(initial_noise(settings.seed, (shape[0], shape[1], shape[2], shape[3])))
        augment = augmenter(
            settings.condition_noise,
            noise=noise,
            seed=settings.seed,
            pairs=pairs,
            num_calls=len(levels),
            precision=self.precision,
        )
        calls = (
            call_inputs(sigma, coefficients, [augment(call, branch) for branch in needed], self.precision)
            for call, (sigma, coefficients) in enumerate(zip(levels, call_coefficients(levels), strict=True))
        )
        rows = {Branch.CONDITIONAL: text, Branch.UNCONDITIONAL: negative_text}
        texts = [self.text_rows(rows[branch], num_pairs) for branch in needed]
        guidance, angles = np.float32(settings.guidance), self.angles(condition.shape, settings.fps)
        condition, texts, guidance, angles = self.devices.put((condition, texts, guidance, angles))
        run = Run(
            repeat_last(as_batch(condition).astype(self.dtype), spare),
            jnp.concatenate([repeat_last(text, spare) for text in texts]),
            guidance,
            angles,
        )
        with self.numerics():
            start = jnp.broadcast_to(noise, run.condition.shape)
            step = partial(self._step, run, self.num_cells(condition.shape))
            latents = sample(_reporting(step, len(levels), progress), start, levels, calls)[:num_pairs]
        self.check_finite(latents)
        return latents

    def check_finite(self, latents: Array) -> None:
        """Raise `JaxInterpError` if sampled latents have values that are not numbers."""
        if not bool(jnp.isfinite(latents).all()):
            raise JaxInterpError(
                f"{self.converted.path}: sampling gave values that are not numbers; check the checkpoint with"
                " `jax-interp inspect`, or try --dtype float32"
            )

    def _step(
        self, run: Run, num_cells: int, x: Latents, previous: Latents, inputs: CallInputs
    ) -> tuple[Latents, Latents]:
        stream, shared, states = self._start(self.outer, run, x, inputs)
        stream = self.run_all_blocks(stream, shared, num_cells, only_between=True)
        return self._finish(self.outer, run, stream, shared, states, x, previous, inputs)

    def run_all_blocks(
        self, stream: Cells, shared: DiTBlockInputs, num_cells: int, *, only_between: bool = False
    ) -> Cells:
        """Run every block; with `only_between` the last block computes only the frames between the first and the last.

        The sampler ignores the network's output for the known frames, so the last block need not compute it.
        """
        last = self.network.num_blocks - 1

        def apply(call: PartCall, stream: Cells) -> PartResult[Cells]:
            if call.part == 1:
                return self._transform(call.params, stream, shared, call.ahead)
            attend = self._attend_between if only_between and call.block == last else self._attend
            return attend(call.params, stream, shared, call.ahead, cells=num_cells)

        return self.run_blocks(apply, stream)

    def num_cells(self, shape: tuple[int, ...]) -> int:
        return cells.num_cells(shape, self.config.patch_size)

    # Traced by `jit`.

    def embed_latents(self, outer: Params, *arguments: Array) -> tuple[Cells, DiTBlockInputs]:
        tokens, shared = self.network.bind_outer(outer).embed(*arguments)
        laid_out, shared = cells.lay_out(tokens, shared, arguments[0].shape[1], self.devices)
        return self.constrain(laid_out, CELLS_SPEC), self.constrain(shared, SHARED_SPECS)

    def project_cells(self, outer: Params, x: Cells, shared: DiTBlockInputs, shape: tuple[int, ...]) -> Latents:
        def each(outer: Params, x: Cells, shared: DiTBlockInputs) -> Array:
            return cells.project(self.network.bind_outer(outer), x, shared)

        patches = self.on_each_device(each, (REPLICATED, CELLS_SPEC, SHARED_SPECS), CELLS_SPEC)(outer, x, shared)
        size = self.config.patch_size
        patches = self.constrain(patches, REPLICATED)[:, :, : cells.num_cells(shape, size)]
        return unpatchify(patches.reshape(shape[0], -1, patches.shape[-1]), patch_grid(shape, size), size)

    def _start_call(
        self, outer: Params, run: Run, x: Latents, inputs: CallInputs
    ) -> tuple[Cells, DiTBlockInputs, Latents]:
        indicator = jnp.asarray(frame_indicator(x.shape[1]))
        call = prepare(run.condition, indicator, x, inputs)
        mask = jnp.broadcast_to(indicator, (run.text.shape[0], *x.shape[1:4], 1))
        stream, shared = self.embed_latents(
            outer, call.scaled, call.c_noise, run.text, mask, jnp.zeros_like(mask), run.angles
        )
        return stream, shared, self.constrain(call.states, REPLICATED)

    def _finish_call(
        self,
        outer: Params,
        run: Run,
        stream: Cells,
        shared: DiTBlockInputs,
        states: Latents,
        x: Latents,
        previous_x0: Latents,
        inputs: CallInputs,
    ) -> tuple[Latents, Latents]:
        rows, num_frames, *rest = states.shape
        between = self.project_cells(outer, stream, shared, (rows, num_frames - 2, *rest))
        output = jnp.pad(between, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        indicator = jnp.asarray(frame_indicator(x.shape[1]))
        x0 = conclude(output, states, run.condition, indicator, run.guidance, inputs)
        return self.constrain((advance(x, x0, previous_x0, inputs.coefficients), x0), REPLICATED)

    def text_rows(self, text: Text | np.ndarray | None, num_pairs: int) -> np.ndarray:
        width = self.config.text_width
        if text is None:
            return np.zeros((num_pairs, 512, width), self.dtype)
        if text.ndim != 3 or text.shape[0] not in (1, num_pairs) or not text.shape[1] or text.shape[2] != width:
            raise UsageError(
                f"text embeddings have shape {tuple(text.shape)}; expected [1 or {num_pairs}, tokens, {width}] for"
                f" {num_pairs} pair(s) and this network"
            )
        return np.broadcast_to(np.asarray(as_batch(text).astype(self.dtype)), (num_pairs, *text.shape[1:]))

    def angles(self, shape: tuple[int, ...], fps: float) -> Float[np.ndarray, "L half_K"]:
        config = self.config
        return rotary_angles(
            patch_grid(shape, config.patch_size),
            config.head_width,
            fps=fps,
            ratio=config.rotary_ratio,
            precision=self.rotary_precision,
        )


def repeat_last(x: Array, count: int) -> Array:
    """Return `x` with its last row repeated `count` more times."""
    return jnp.pad(x, [(0, count)] + [(0, 0)] * (x.ndim - 1), mode="edge") if count else x


def as_batch(x: Array | np.ndarray) -> Array:
    # parity: upstream's data batch is bfloat16, text and condition latents included, also around a float32 network.
    return jnp.asarray(x).astype(jnp.bfloat16)


def _reporting(run_step, total: int, progress: Progress | None):
    """Wrap `run_step` so that Python runs one call ahead of the device at most: progress and interrupts stay timely."""
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
