"""The attention kernel for Hopper GPUs with parts that can be exchanged, for `benchmarks.attention.int8_scores`.

Beside `jax_interp.nn.kernels.flash_attention` a variant may multiply queries and keys in int8 (Zhang et al. 2025,
"SageAttention"), share its programs out by halves of a tile, and compute some exponentials with a polynomial.
"""

import math
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from benchmarks.attention.plan import Plan, Variant, plan
from jax_interp.nn.kernels.flash_attention import COMPUTE_REGISTERS, FETCH_REGISTERS, HEAD_WIDTH
from jax_interp.nn.kernels.int8_hopper import _load  # pyright: ignore[reportPrivateUsage]
from jax_interp.nn.kernels.occupancy import BLOCK_Q, COMPUTE_GROUPS

INTEGER_ZERO = 0x4B400000
"""The bits of `FLOAT_ZERO`: plus an integer below 2²² in magnitude, they are those of `FLOAT_ZERO` plus the integer."""
FLOAT_ZERO = 1.5 * 2**23
POLYNOMIAL = (0.99992807, 0.69326099, 0.24261112, 0.05517167)
"""The coefficients, lowest first, of 2^x for x in [-½, ½], right to 1e-4 of the value."""


@partial(jax.jit, static_argnames=("scale", "variant"))
def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    scales: tuple[jax.Array, jax.Array] | None = None,
    *,
    scale: float,
    variant: Variant,
) -> jax.Array:
    """Apply attention as `flash_attention` does, to bfloat16 queries and keys or to int8 ones with their `scales`.

    The scales are float32, those of queries [B, N, queries up to a whole tile] and of blocks of keys [B, N, blocks];
    `scale` and the step to powers of two are then part of those of queries.
    """
    batch, num_queries, num_heads, _ = q.shape
    shares = plan(variant, num_queries, batch * num_heads)
    return plgpu.kernel(
        partial(_part, variant=variant, plan=shares, num_keys=k.shape[1], to_log2=scale * math.log2(math.e)),
        out_type=jax.ShapeDtypeStruct(q.shape, v.dtype),
        grid=(shares.programs,),
        grid_names=("program",),
        num_threads=COMPUTE_GROUPS + 1,
        thread_name="group",
        compiler_params=plgpu.CompilerParams(approx_math=True),
    )(q, k, v, *(scales or ()))


def _part(
    q_ref: Any, k_ref: Any, v_ref: Any, *refs: Any, variant: Variant, plan: Plan, num_keys: int, to_log2: float
) -> None:
    """Reserve shared memory and barriers, then part the warpgroups."""
    *scale_refs, out_ref = refs
    steps, slots = pl.cdiv(num_keys, variant.block_kv), variant.slots

    def shared(shape: tuple[int, ...], dtype: Any) -> Any:
        in_a_row = 128 // jnp.dtype(dtype).itemsize
        return plgpu.SMEM(shape, dtype, transforms=(plgpu.TilingTransform((8, in_a_row)), plgpu.SwizzleTransform(128)))

    def place(group: Any) -> tuple[Any, Any, Any]:
        """Return batch row, head, and first query of a warpgroup's half of a tile."""
        program = lax.axis_index("program")
        half = jnp.where(program < plan.pairs, COMPUTE_GROUPS * program + group, plan.pairs + program)
        batch, halves = (jnp.asarray(number, half.dtype) for number in (q_ref.shape[0], plan.halves))
        keys = lax.div(half, halves)
        return lax.rem(keys, batch), lax.div(keys, batch), lax.rem(half, halves) * BLOCK_Q

    def run(q_smem, k_smem, v_smem, q_here, k_here, v_here, k_done, v_done, ping_pong):
        group, program = lax.axis_index("group"), lax.axis_index("program")
        rings = Ring(k_smem, k_here, k_done), Ring(v_smem, v_here, v_done)
        (row0, head0, _), (row1, head1, _) = place(0), place(1)
        alone = program >= plan.pairs
        apart = ((row0 != row1) | (head0 != head1)) & (program < plan.pairs) if plan.mixes else None

        def compute() -> None:
            row, head, first = place(group)
            rows, mine = (row, pl.ds(first, BLOCK_Q), head), q_smem.at[group]
            plgpu.copy_gmem_to_smem(q_ref.at[rows], mine, q_here.at[group])
            factor = to_log2
            if scale_refs:
                of_rows = _load(scale_refs[0].at[row, head, pl.ds(first, BLOCK_Q)], plgpu.Layout.WGMMA.reduce(1))
                factor = Factor(of_rows, scale_refs[1].at[row, head])
            plgpu.barrier_wait(q_here.at[group])
            result = _compute(mine, rings, ping_pong, factor, variant, group=group, apart=apart, num_keys=num_keys)
            # The block of values before the last one has been read by both warpgroups.
            free = _slot(jnp.asarray(steps - 2 + slots, jnp.int32), slots, group, apart)
            buffer = v_smem.at[free, pl.ds(group * BLOCK_Q, BLOCK_Q)]
            buffer[...] = result.astype(v_smem.dtype)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(buffer, out_ref.at[rows])
            plgpu.wait_smem_to_gmem(0)

        @pl.when(group < COMPUTE_GROUPS)
        def _():
            plgpu.set_max_registers(COMPUTE_REGISTERS, action="increase")
            if plan.pairs == plan.programs:
                compute()
                return
            idle = alone & (group == 1)
            pl.when(jnp.logical_not(idle))(compute)

            @pl.when(idle)
            def _():
                pl.loop(0, 2 * steps + 1)(lambda _: _hand_over(ping_pong))

        @pl.when(group == COMPUTE_GROUPS)
        def _():
            plgpu.set_max_registers(FETCH_REGISTERS, action="decrease")
            sources = (k_ref, v_ref)
            fetch = partial(_fetch, sources, rings, row=row0, head=head0, steps=steps, alone=alone)
            if apart is None:
                fetch()
                return
            pl.when(jnp.logical_not(apart))(fetch)
            pl.when(apart)(partial(_fetch_apart, sources, rings, places=((row0, head0), (row1, head1)), steps=steps))

    pl.run_scoped(
        run,
        shared((COMPUTE_GROUPS, BLOCK_Q, HEAD_WIDTH), q_ref.dtype),
        shared((slots, variant.block_kv, HEAD_WIDTH), k_ref.dtype),
        shared((slots, variant.block_kv, HEAD_WIDTH), v_ref.dtype),
        plgpu.Barrier(num_barriers=COMPUTE_GROUPS),
        plgpu.Barrier(num_barriers=slots),
        plgpu.Barrier(num_barriers=slots),
        plgpu.Barrier(num_barriers=COMPUTE_GROUPS * slots),
        plgpu.Barrier(num_barriers=COMPUTE_GROUPS * slots),
        plgpu.Barrier(num_arrivals=COMPUTE_GROUPS),
        collective_axes="group",
    )


class Ring(NamedTuple):
    """The slots of keys, or of values, with their barriers; `done` has one for every warpgroup and slot."""

    buffer: Any
    here: Any
    done: Any

    def done_by(self, group: Any, slot: Any) -> Any:
        return self.done.at[group * self.buffer.shape[0] + slot]


class Factor(NamedTuple):
    """What takes int8 scores to logarithms of base two: a scale for every query times one for the step's keys."""

    of_queries: Any
    of_blocks: Any


def _slot(step: Any, slots: int, group: Any, apart: Any) -> Any:
    """Return the slot of a step: the next one of the ring, or the warpgroup's own where the two have other keys."""
    slot = lax.rem(step, jnp.asarray(slots, step.dtype))
    return slot if apart is None else jnp.where(apart, group.astype(step.dtype), slot)


def _hand_over(ping_pong: Any) -> None:
    plgpu.barrier_arrive(ping_pong)
    plgpu.barrier_wait(ping_pong)


def _fetch(sources: Any, rings: Any, *, row: Any, head: Any, steps: int, alone: Any) -> None:
    """Copy block after block of keys and values into the slots as they come free; rows past the end arrive as zeros."""
    slots, block_kv, _ = rings[0].buffer.shape

    def copy(step: Any, *, wait: bool) -> None:
        slot = lax.rem(step, jnp.asarray(slots, step.dtype))
        for source, ring in zip(sources, rings, strict=True):
            if wait:
                plgpu.barrier_wait(ring.done_by(0, slot))
                pl.when(jnp.logical_not(alone))(lambda ring=ring: plgpu.barrier_wait(ring.done_by(1, slot)))
            block = source.at[row, pl.ds(step * block_kv, block_kv), head]
            plgpu.copy_gmem_to_smem(block, ring.buffer.at[slot], ring.here.at[slot])

    pl.loop(0, min(slots, steps))(partial(copy, wait=False))
    if steps > slots:
        pl.loop(slots, steps)(partial(copy, wait=True))


def _fetch_apart(sources: Any, rings: Any, *, places: Any, steps: int) -> None:
    """Copy the blocks of two heads, each warpgroup's into the slot of its own."""
    block_kv = rings[0].buffer.shape[1]

    def copy(step: Any, *, wait: bool) -> None:
        for source, ring in zip(sources, rings, strict=True):
            for group, (row, head) in enumerate(places):
                if wait:
                    plgpu.barrier_wait(ring.done_by(group, group))
                block = source.at[row, pl.ds(step * block_kv, block_kv), head]
                plgpu.copy_gmem_to_smem(block, ring.buffer.at[group], ring.here.at[group])

    copy(jnp.asarray(0, jnp.int32), wait=False)
    if steps > 1:
        pl.loop(1, steps)(partial(copy, wait=True))


def _compute(
    q_smem: Any, rings: Any, ping_pong: Any, factor: Any, variant: Variant, *, group: Any, apart: Any, num_keys: int
) -> jax.Array:
    """Return the attention of one warpgroup's queries; `factor` takes scores to logarithms of base two."""
    keys, values = rings
    slots, block_kv, _ = keys.buffer.shape
    steps = pl.cdiv(num_keys, block_kv)
    rows, tile = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA
    zero = FLOAT_ZERO if q_smem.dtype == jnp.int8 and variant.conversion == "bits" else 0.0
    bounds = (0, variant.polynomial, block_kv) if variant.polynomial else (0, block_kv)

    def step_over(step, carry, *, visible: int = block_kv):
        total, largest, weight = carry
        slot = _slot(step, slots, group, apart)
        to_log2 = factor.of_queries * factor.of_blocks[step] if isinstance(factor, Factor) else factor
        plgpu.barrier_wait(keys.here.at[slot])
        scores = _multiply(q_smem, keys.buffer.at[slot], ping_pong, zero)
        plgpu.barrier_arrive(keys.done_by(group, slot))
        if visible < block_kv:
            column = plgpu.broadcasted_iota(jnp.int32, scores.shape, 1, layout=tile)
            scores = jnp.where(column < visible, scores, -jnp.inf)
        top = scores.max(axis=1)
        new_largest = jnp.maximum(largest, (top - zero if zero else top) * to_log2)
        shrink = jnp.exp2(largest - new_largest)
        shift = new_largest + zero * to_log2 if zero else new_largest
        scaled = scores * (lax.broadcast_in_dim(to_log2, scores.shape, [0]) if isinstance(factor, Factor) else to_log2)
        exponents = scaled - lax.broadcast_in_dim(shift, scores.shape, [0])
        total *= lax.broadcast_in_dim(shrink, total.shape, [0])
        weight, rounded = weight * shrink, []
        for start, end in pairwise(bounds):
            power = exp2_by_polynomial if end == variant.polynomial else jnp.exp2
            weights = power(exponents[:, start:end])
            weight += weights.sum(axis=1)
            rounded.append(weights.astype(values.buffer.dtype))
        # Holds the softmax in front of the hand-over below.
        total, weight, new_largest, *rounded = lax.optimization_barrier((total, weight, new_largest, *rounded))
        plgpu.barrier_arrive(ping_pong)
        plgpu.barrier_wait(values.here.at[slot])
        plgpu.barrier_wait(ping_pong)

        def add(sums: Any) -> None:
            for (start, end), weights in zip(pairwise(bounds), rounded, strict=True):
                plgpu.wgmma(sums, weights, values.buffer.at[slot, pl.ds(start, end - start)])

        total = pl.run_state(add)(plgpu.ACC.init(total))  # pyright: ignore[reportPrivateImportUsage]
        plgpu.barrier_arrive(values.done_by(group, slot))
        return total, new_largest, weight

    start = (
        plgpu.layout_cast(jnp.zeros((BLOCK_Q, HEAD_WIDTH), jnp.float32), tile),
        plgpu.layout_cast(jnp.full((BLOCK_Q,), -jnp.inf, jnp.float32), rows),
        plgpu.layout_cast(jnp.zeros((BLOCK_Q,), jnp.float32), rows),
    )
    # The second warpgroup starts half a step later, and the first one waits for it at the end.
    pl.when(group == 1)(lambda: _hand_over(ping_pong))
    rest = num_keys % block_kv
    carry = lax.fori_loop(0, num_keys // block_kv, step_over, start)
    if rest:
        carry = step_over(jnp.asarray(steps - 1, jnp.int32), carry, visible=rest)
    total: Any
    total, _, weight = carry
    pl.when(group == 0)(lambda: _hand_over(ping_pong))
    return total * lax.broadcast_in_dim(1 / weight, total.shape, [0])


def _multiply(q_smem: Any, k_smem: Any, ping_pong: Any, zero: float) -> jax.Array:
    """Return queries times keys in float32, `zero` more than they are, and hand the tensor cores over meanwhile."""
    shape = q_smem.shape[0], k_smem.shape[0]

    def multiply(scores_ref):
        plgpu.wgmma(scores_ref, q_smem, k_smem.transpose((1, 0)))
        _hand_over(ping_pong)

    if zero:
        sums = plgpu.layout_cast(jnp.full(shape, INTEGER_ZERO, jnp.int32), plgpu.Layout.WGMMA)
        accumulator: Any = plgpu.ACC.init(sums)  # pyright: ignore[reportPrivateImportUsage]
        sums = pl.run_state(multiply)(accumulator)
        return lax.bitcast_convert_type(sums, jnp.float32)

    def multiply_and_read(scores_ref):
        multiply(scores_ref)
        return scores_ref[...]

    dtype = jnp.int32 if q_smem.dtype == jnp.int8 else jnp.float32
    sums = pl.run_scoped(multiply_and_read, plgpu.ACC(shape, dtype))  # pyright: ignore[reportPrivateImportUsage]
    return sums.astype(jnp.float32)


def exp2_by_polynomial(x: jax.Array) -> jax.Array:
    """Return 2^x without the unit for exponentials, for x ≤ 0; below 2⁻¹²⁶ the result is that.

    For kernels only: XLA simplifies the rounding away.
    """
    x = jnp.maximum(x, -126.0)
    shifted = x + FLOAT_ZERO  # the last bits are those of the nearest integer
    fraction = x - (shifted - FLOAT_ZERO)
    power = POLYNOMIAL[-1]
    for coefficient in POLYNOMIAL[-2::-1]:
        power = power * fraction + coefficient
    exponent = lax.bitcast_convert_type(shifted, jnp.int32) << 23
    return lax.bitcast_convert_type(lax.bitcast_convert_type(power, jnp.int32) + exponent, jnp.float32)
