"""A trial: flash attention whose warpgroups multiply the next scores beside the values (FlashAttention-3's overlap).

It gives the bits of `jax_interp.nn.kernels.flash_attention`, and is slower: with 192 keys a step its registers do not
suffice (108 bytes are spilled, and the tensor cores' instructions serialized), and steps of 128 keys cost more than the
overlap gains. On an H100, 32 heads: 515 and 570 TFLOP/s at 10,560 tokens where that kernel has 662, 496 and 575 at
56,320 where it has 639.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float

from jax_interp.nn.kernels.occupancy import BLOCK_Q, COMPUTE_GROUPS

BLOCK_KV = 192
"""The keys of a step; with 64 queries a warpgroup it is the most that registers and shared memory hold."""
SLOTS = 2
"""The number of blocks of keys, and of values, in shared memory at a time: one for each warpgroup, or two for both."""
HEAD_WIDTH = 128
COMPUTE_REGISTERS, FETCH_REGISTERS = 232, 40


@partial(jax.jit, static_argnames="scale")
def flash_attention(
    q: Float[Array, "B Lq N K"], k: Float[Array, "B Lk N K"], v: Float[Array, "B Lk N K"], *, scale: float
) -> Float[Array, "B Lq N K"]:
    """Apply attention, softmax(q kᵀ · scale) v for every head, to bfloat16 arrays; scores and sums are float32.

    Heads are 128 wide; both lengths are free. The kernel runs on compute capability 9.0 only.
    """
    batch, _, num_heads, _ = q.shape
    blocks = batch * num_heads * _blocks_of_head(q.shape)
    return plgpu.kernel(
        partial(_attend, num_keys=k.shape[1], scale=scale),
        out_type=jax.ShapeDtypeStruct(q.shape, q.dtype),
        grid=(blocks // COMPUTE_GROUPS,),
        grid_names=("program",),
        num_threads=COMPUTE_GROUPS + 1,
        thread_name="group",
        compiler_params=plgpu.CompilerParams(approx_math=True),
    )(q, k, v)


class Ring(NamedTuple):
    """The slots of keys, or of values, in shared memory, with their barriers."""

    buffer: Any
    here: Any
    """For each slot: it is filled."""
    done: Any
    """For each warpgroup and slot: the warpgroup has read it."""

    def done_by(self, group: Any, slot: Any) -> Any:
        return self.done.at[group * SLOTS + slot]


def _attend(q_ref: Any, k_ref: Any, v_ref: Any, out_ref: Any, *, num_keys: int, scale: float) -> None:
    """Reserve shared memory and barriers, then part the warpgroups."""
    shared = partial(
        plgpu.SMEM,
        dtype=q_ref.dtype,
        transforms=(plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128)),
    )
    steps = pl.cdiv(num_keys, BLOCK_KV)

    def part(q_smem, k_smem, v_smem, q_here, k_here, v_here, k_done, v_done, ping_pong):
        group = lax.axis_index("group")
        rings = Ring(k_smem, k_here, k_done), Ring(v_smem, v_here, v_done)
        places = _place(0, q_ref.shape), _place(1, q_ref.shape)
        apart = _apart(places, q_ref.shape)

        @pl.when(group < COMPUTE_GROUPS)
        def _():
            plgpu.set_max_registers(COMPUTE_REGISTERS, action="increase")
            row, head, first = _place(group, q_ref.shape)
            rows = (row, pl.ds(first, BLOCK_Q), head)
            mine = q_smem.at[group]
            plgpu.copy_gmem_to_smem(q_ref.at[rows], mine, q_here.at[group])
            plgpu.barrier_wait(q_here.at[group])
            _compute(mine, *rings, ping_pong, group=group, apart=apart, steps=steps, num_keys=num_keys, scale=scale)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(mine, out_ref.at[rows])
            plgpu.wait_smem_to_gmem(0)

        @pl.when(group == COMPUTE_GROUPS)
        def _():
            plgpu.set_max_registers(FETCH_REGISTERS, action="decrease")
            fetch = partial(_fetch, (k_ref, v_ref), rings, steps=steps, place=places[0])
            if apart is None:
                fetch()
                return
            pl.when(jnp.logical_not(apart))(fetch)
            pl.when(apart)(partial(_fetch_apart, (k_ref, v_ref), rings, steps=steps, places=places))

    pl.run_scoped(
        part,
        shared((COMPUTE_GROUPS, BLOCK_Q, HEAD_WIDTH)),
        shared((SLOTS, BLOCK_KV, HEAD_WIDTH)),
        shared((SLOTS, BLOCK_KV, HEAD_WIDTH)),
        plgpu.Barrier(num_barriers=COMPUTE_GROUPS),
        plgpu.Barrier(num_barriers=SLOTS),
        plgpu.Barrier(num_barriers=SLOTS),
        plgpu.Barrier(num_barriers=COMPUTE_GROUPS * SLOTS),
        plgpu.Barrier(num_barriers=COMPUTE_GROUPS * SLOTS),
        plgpu.Barrier(num_arrivals=COMPUTE_GROUPS),
        collective_axes="group",
    )


def _blocks_of_head(shape: tuple[int, ...]) -> int:
    """Return the blocks of queries of a head, one of them empty where that makes those of all heads an even number."""
    batch, num_queries, num_heads, _ = shape
    blocks = pl.cdiv(num_queries, BLOCK_Q)
    return blocks if batch * num_heads % COMPUTE_GROUPS == 0 else COMPUTE_GROUPS * pl.cdiv(blocks, COMPUTE_GROUPS)


def _place(group: Any, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Return batch row, head and first query of a warpgroup's block."""
    program = lax.axis_index("program")
    batch, in_head = (jnp.asarray(number, program.dtype) for number in (shape[0], _blocks_of_head(shape)))
    block = COMPUTE_GROUPS * program + group
    # Programs that run together read the keys of the same few heads.
    keys = lax.div(block, in_head)
    return lax.rem(keys, batch), lax.div(keys, batch), lax.rem(block, in_head) * BLOCK_Q


def _apart(places: tuple[tuple[Any, Any, Any], ...], shape: tuple[int, ...]) -> Array | None:
    """Tell whether the warpgroups have other keys; None if they never do."""
    if _blocks_of_head(shape) % COMPUTE_GROUPS == 0:
        return None
    (row, head, _), (other_row, other_head, _) = places
    return (row != other_row) | (head != other_head)


def _slot(step: Array, group: Array, apart: Array | None) -> Array:
    """Return the slot of a step: the next one of the ring, or the warpgroup's own where the two have other keys."""
    slot = lax.rem(step, jnp.asarray(SLOTS, step.dtype))
    return slot if apart is None else jnp.where(apart, group.astype(step.dtype), slot)


def _fetch(sources: Any, rings: tuple[Ring, Ring], *, steps: int, place: tuple[Any, Any, Any]) -> None:
    """Copy block after block of keys and values into the slots as they come free; rows past the end arrive as zeros."""
    row, head, _ = place

    def copy(step: Array, *, wait: bool) -> None:
        slot = lax.rem(step, jnp.asarray(SLOTS, step.dtype))
        for source, ring in zip(sources, rings, strict=True):
            if wait:
                for group in range(COMPUTE_GROUPS):
                    plgpu.barrier_wait(ring.done_by(group, slot))
            block = source.at[row, pl.ds(step * BLOCK_KV, BLOCK_KV), head]
            plgpu.copy_gmem_to_smem(block, ring.buffer.at[slot], ring.here.at[slot])

    pl.loop(0, min(SLOTS, steps))(partial(copy, wait=False))
    if steps > SLOTS:
        pl.loop(SLOTS, steps)(partial(copy, wait=True))


def _fetch_apart(
    sources: Any, rings: tuple[Ring, Ring], *, steps: int, places: tuple[tuple[Any, Any, Any], ...]
) -> None:
    """Copy blocks of the keys and values of two heads, each warpgroup's into the slot of its own."""

    def copy(of: int, step: Array, group: int, *, wait: bool) -> None:
        (row, head, _), ring = places[group], rings[of]
        if wait:
            plgpu.barrier_wait(ring.done_by(group, group))
        block = sources[of].at[row, pl.ds(step * BLOCK_KV, BLOCK_KV), head]
        plgpu.copy_gmem_to_smem(block, ring.buffer.at[group], ring.here.at[group])

    groups = range(COMPUTE_GROUPS)
    first = jnp.asarray(0, jnp.int32)
    for group in groups:
        copy(0, first, group, wait=False)
        copy(1, first, group, wait=False)
    if steps > 1:
        for group in groups:
            copy(0, first + 1, group, wait=True)

    def both(step):
        for group in groups:
            copy(0, step, group, wait=True)
            copy(1, step - 1, group, wait=True)

    if steps > 2:
        pl.loop(2, steps)(both)
    if steps > 1:
        for group in groups:
            copy(1, first + (steps - 1), group, wait=True)


def _compute(
    q_smem: Any,
    keys: Ring,
    values: Ring,
    ping_pong: Any,
    *,
    group: Array,
    apart: Array | None,
    steps: int,
    num_keys: int,
    scale: float,
) -> None:
    rows, tile = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA
    to_log2 = scale * math.log2(math.e)
    acc = plgpu.ACC((BLOCK_Q, BLOCK_KV), jnp.float32)

    def hand_over():
        plgpu.barrier_arrive(ping_pong)
        plgpu.barrier_wait(ping_pong)

    def softmax(scores, largest, weight, visible):
        if visible < BLOCK_KV:
            column = plgpu.broadcasted_iota(jnp.int32, scores.shape, 1, layout=tile)
            scores = jnp.where(column < visible, scores, -jnp.inf)
        new_largest = jnp.maximum(largest, scores.max(axis=1) * to_log2)
        shrink = jnp.exp2(largest - new_largest)
        weights = jnp.exp2(scores * to_log2 - lax.broadcast_in_dim(new_largest, scores.shape, [0]))
        weight = weight * shrink + weights.sum(axis=1)
        return weights, new_largest, shrink, weight

    def first(visible):
        slot = _slot(jnp.asarray(0, jnp.int32), group, apart)
        plgpu.barrier_wait(keys.here.at[slot])

        def multiply(scores_ref):
            plgpu.wgmma(scores_ref, q_smem, keys.buffer.at[slot].transpose((1, 0)))
            hand_over()
            return scores_ref[...]

        scores = pl.run_scoped(multiply, acc)
        plgpu.barrier_arrive(keys.done_by(group, slot))
        largest = plgpu.layout_cast(jnp.full((BLOCK_Q,), -jnp.inf, jnp.float32), rows)
        weight = plgpu.layout_cast(jnp.zeros((BLOCK_Q,), jnp.float32), rows)
        weights, largest, _, weight = softmax(scores, largest, weight, visible)
        rounded = weights.astype(q_smem.dtype)
        total = plgpu.layout_cast(jnp.zeros((BLOCK_Q, HEAD_WIDTH), jnp.float32), tile)
        return total, largest, weight, rounded

    def step_over(step, carry, *, visible: int = BLOCK_KV):
        total, largest, weight, rounded = carry
        slot, before = _slot(step, group, apart), _slot(step - 1, group, apart)
        plgpu.barrier_wait(keys.here.at[slot])
        plgpu.barrier_wait(values.here.at[before])
        hand_over()

        def multiply(scores_ref, total_ref):
            total_ref[...] = total
            plgpu.wgmma(scores_ref, q_smem, keys.buffer.at[slot].transpose((1, 0)))
            plgpu.wgmma(total_ref, rounded, values.buffer.at[before])
            hand_over()
            scores = plgpu.wgmma_accumulator_load(scores_ref, wait_n=1)
            plgpu.barrier_arrive(keys.done_by(group, slot))
            weights, new_largest, shrink, new_weight = softmax(scores, largest, weight, visible)
            weights, new_largest, shrink, new_weight = lax.optimization_barrier(
                (weights, new_largest, shrink, new_weight)
            )
            return weights, new_largest, shrink, new_weight, total_ref[...]

        weights, new_largest, shrink, new_weight, new_total = pl.run_scoped(
            multiply, acc, plgpu.ACC((BLOCK_Q, HEAD_WIDTH), jnp.float32)
        )
        plgpu.barrier_arrive(values.done_by(group, before))
        rounded = weights.astype(q_smem.dtype)
        new_total *= lax.broadcast_in_dim(shrink, new_total.shape, [0])
        return new_total, new_largest, new_weight, rounded

    whole, rest = divmod(num_keys, BLOCK_KV)
    pl.when(group == 1)(hand_over)
    carry = first(BLOCK_KV if whole else rest)
    if whole > 1:
        carry = lax.fori_loop(1, whole, step_over, carry)
    if rest and whole:
        carry = step_over(jnp.asarray(steps - 1, jnp.int32), carry, visible=rest)
    total, _, weight, rounded = carry
    pl.when(group == 0)(hand_over)
    slot = _slot(jnp.asarray(steps - 1, jnp.int32), group, apart)
    plgpu.barrier_wait(values.here.at[slot])
    accumulator = plgpu.ACC.init(total)
    total = pl.run_state(lambda sums: plgpu.wgmma(sums, rounded, values.buffer.at[slot]))(accumulator)
    plgpu.barrier_arrive(values.done_by(group, slot))
    q_smem[...] = (total * lax.broadcast_in_dim(1 / weight, total.shape, [0])).astype(q_smem.dtype)
