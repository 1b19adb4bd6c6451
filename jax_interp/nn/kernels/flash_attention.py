"""Flash attention for Hopper GPUs (Shah et al. 2024, "FlashAttention-3") as one Pallas kernel.

A program owns 128 queries of one head, 64 for each of two warpgroups; a third warpgroup fetches keys and values. While
one warpgroup is in its softmax the other has the tensor cores.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float

BLOCK_Q, BLOCK_KV = 64, 192
"""The queries of a warpgroup and the keys of a step, the most that registers and shared memory hold."""
SLOTS = 2
"""The number of blocks of keys, and of values, in shared memory at a time."""
COMPUTE_GROUPS = 2
HEAD_WIDTH = 128
COMPUTE_REGISTERS, FETCH_REGISTERS = 232, 40


@partial(jax.jit, static_argnames="scale")
def flash_attention(
    q: Float[Array, "B Lq N K"], k: Float[Array, "B Lk N K"], v: Float[Array, "B Lk N K"], *, scale: float
) -> Float[Array, "B Lq N K"]:
    """Apply attention, softmax(q kᵀ · scale) v for every head, to bfloat16 arrays; scores and sums are float32.

    Heads are 128 wide; both lengths are free. The kernel runs on compute capability 9.0 only.
    """
    batch, num_queries, num_heads, _ = q.shape
    tiles = pl.cdiv(num_queries, COMPUTE_GROUPS * BLOCK_Q)
    return plgpu.kernel(
        partial(_attend, num_keys=k.shape[1], scale=scale),
        out_type=jax.ShapeDtypeStruct(q.shape, q.dtype),
        # The last axis turns fastest: programs that run together read the keys of the same few heads.
        grid=(num_heads, tiles, batch),
        grid_names=("head", "tile", "row"),
        num_threads=COMPUTE_GROUPS + 1,
        thread_name="group",
        compiler_params=plgpu.CompilerParams(approx_math=True),
    )(q, k, v)


def _attend(q_ref: Any, k_ref: Any, v_ref: Any, out_ref: Any, *, num_keys: int, scale: float) -> None:
    """Reserve shared memory and barriers, then part the warpgroups."""
    shared = partial(
        plgpu.SMEM,
        dtype=q_ref.dtype,
        transforms=(plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128)),
    )
    steps = pl.cdiv(num_keys, BLOCK_KV)

    def part(q_smem, k_smem, v_smem, q_here, k_here, v_here, k_done, v_done, ping_pong):
        group, row, head = lax.axis_index("group"), lax.axis_index("row"), lax.axis_index("head")
        rings = (k_smem, k_here, k_done), (v_smem, v_here, v_done)

        @pl.when(group < COMPUTE_GROUPS)
        def _():
            plgpu.set_max_registers(COMPUTE_REGISTERS, action="increase")
            first = (lax.axis_index("tile") * COMPUTE_GROUPS + group) * BLOCK_Q
            rows = (row, pl.ds(first, BLOCK_Q), head)
            mine = q_smem.at[group]
            plgpu.copy_gmem_to_smem(q_ref.at[rows], mine, q_here.at[group])
            plgpu.barrier_wait(q_here.at[group])
            _compute(mine, *rings, ping_pong, group=group, steps=steps, num_keys=num_keys, scale=scale)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(mine, out_ref.at[rows])
            plgpu.wait_smem_to_gmem(0)

        @pl.when(group == COMPUTE_GROUPS)
        def _():
            plgpu.set_max_registers(FETCH_REGISTERS, action="decrease")
            _fetch((k_ref, v_ref), rings, steps=steps, row=row, head=head)

    pl.run_scoped(
        part,
        shared((COMPUTE_GROUPS, BLOCK_Q, HEAD_WIDTH)),
        shared((SLOTS, BLOCK_KV, HEAD_WIDTH)),
        shared((SLOTS, BLOCK_KV, HEAD_WIDTH)),
        plgpu.Barrier(num_barriers=COMPUTE_GROUPS),
        plgpu.Barrier(num_barriers=SLOTS),
        plgpu.Barrier(num_barriers=SLOTS),
        plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=SLOTS),
        plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=SLOTS),
        plgpu.Barrier(num_arrivals=COMPUTE_GROUPS),
        collective_axes="group",
    )


def _fetch(sources: Any, rings: Any, *, steps: int, row: Array, head: Array) -> None:
    """Copy block after block of keys and values into the slots as they come free; rows past the end arrive as zeros."""

    def copy(step: Array, *, wait: bool) -> None:
        slot = lax.rem(step, jnp.asarray(SLOTS, step.dtype))
        for source, (buffer, here, done) in zip(sources, rings, strict=True):
            if wait:
                plgpu.barrier_wait(done.at[slot])
            block = source.at[row, pl.ds(step * BLOCK_KV, BLOCK_KV), head]
            plgpu.copy_gmem_to_smem(block, buffer.at[slot], here.at[slot])

    pl.loop(0, min(SLOTS, steps))(partial(copy, wait=False))
    if steps > SLOTS:
        pl.loop(SLOTS, steps)(partial(copy, wait=True))


def _compute(
    q_smem: Any, keys: Any, values: Any, ping_pong: Any, *, group: Array, steps: int, num_keys: int, scale: float
) -> None:
    """Compute the attention of one warpgroup's queries, which the result replaces in shared memory."""
    k_smem, k_here, k_done = keys
    v_smem, v_here, v_done = values
    rows, tile = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA
    to_log2 = scale * math.log2(math.e)

    def hand_over():
        plgpu.barrier_arrive(ping_pong)
        plgpu.barrier_wait(ping_pong)

    def step_over(step, carry, *, visible: int = BLOCK_KV):
        total, largest, weight = carry
        slot = lax.rem(step, jnp.asarray(SLOTS, step.dtype))
        plgpu.barrier_wait(k_here.at[slot])

        def multiply(scores_ref):
            plgpu.wgmma(scores_ref, q_smem, k_smem.at[slot].transpose((1, 0)))
            hand_over()
            return scores_ref[...]

        scores = pl.run_scoped(multiply, plgpu.ACC((BLOCK_Q, BLOCK_KV), jnp.float32))  # pyright: ignore[reportPrivateImportUsage]
        plgpu.barrier_arrive(k_done.at[slot])
        if visible < BLOCK_KV:
            column = plgpu.broadcasted_iota(jnp.int32, scores.shape, 1, layout=tile)
            scores = jnp.where(column < visible, scores, -jnp.inf)
        # Powers of two throughout: one multiplication and one instruction an exponential.
        new_largest = jnp.maximum(largest, scores.max(axis=1) * to_log2)
        shrink = jnp.exp2(largest - new_largest)
        weights = jnp.exp2(scores * to_log2 - lax.broadcast_in_dim(new_largest, scores.shape, [0]))
        total *= lax.broadcast_in_dim(shrink, total.shape, [0])
        weight = weight * shrink + weights.sum(axis=1)
        rounded = weights.astype(q_smem.dtype)
        # Holds the softmax in front of the hand-over below.
        total, weight, new_largest, rounded = lax.optimization_barrier((total, weight, new_largest, rounded))
        plgpu.barrier_arrive(ping_pong)
        plgpu.barrier_wait(v_here.at[slot])
        plgpu.barrier_wait(ping_pong)
        accumulator = plgpu.ACC.init(total)  # pyright: ignore[reportPrivateImportUsage]
        total = pl.run_state(lambda sums: plgpu.wgmma(sums, rounded, v_smem.at[slot]))(accumulator)
        plgpu.barrier_arrive(v_done.at[slot])
        return total, new_largest, weight

    start = (
        plgpu.layout_cast(jnp.zeros((BLOCK_Q, HEAD_WIDTH), jnp.float32), tile),
        plgpu.layout_cast(jnp.full((BLOCK_Q,), -jnp.inf, jnp.float32), rows),
        plgpu.layout_cast(jnp.zeros((BLOCK_Q,), jnp.float32), rows),
    )
    # The second warpgroup starts half a step later, and the first one waits for it at the end.
    pl.when(group == 1)(hand_over)
    rest = num_keys % BLOCK_KV
    carry = lax.fori_loop(0, num_keys // BLOCK_KV, step_over, start)
    if rest:
        carry = step_over(jnp.asarray(steps - 1, jnp.int32), carry, visible=rest)
    total: Any
    total, _, weight = carry
    pl.when(group == 0)(hand_over)
    q_smem[...] = (total * lax.broadcast_in_dim(1 / weight, total.shape, [0])).astype(q_smem.dtype)
