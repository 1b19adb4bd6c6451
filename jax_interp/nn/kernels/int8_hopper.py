"""The product of int8 matrices for Hopper GPUs as one Pallas kernel.

A program computes tile after tile of the result, 128 rows by 256 columns, half of the rows in each of two warpgroups; a
third warpgroup fetches the operands, also those of the next tile while the last one is still being written.
"""

from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8

from jax_interp.nn.activations import gelu_in_kernel
from jax_interp.nn.kernels.occupancy import PROCESSORS

TILE_M, TILE_N, TILE_K = 128, 256, 128
"""The tile of the result, and the part of the contraction that is in one slot; a slot's rows are 128 bytes."""
SLOTS = 4
"""The number of slots for operands in shared memory, as many as it holds."""
COMPUTE_GROUPS = 2
GROUP_M = TILE_M // COMPUTE_GROUPS
WRITTEN, WRITING = 64, 2
"""The columns that are written together, and the number of buffers for them."""
COMPUTE_REGISTERS, FETCH_REGISTERS = 232, 40


class Order(NamedTuple):
    """The order in which tiles are computed: stripes `width` tiles wide along rows (0) or columns (1), to and fro."""

    minor: int
    width: int


ORDERS = (Order(1, 4), Order(0, 8), Order(0, 16))
"""The orders among which the fastest one is chosen for a shape; the first serves where nothing has been measured."""


@partial(jax.jit, static_argnames=("dtype", "parts", "gelu", "order"))
def int8_matmul_hopper(
    x: Int8[Array, "M K"],
    x_scale: Float[Array, " M"],
    weight: Int8[Array, "N K"],
    weight_scale: Float[Array, " N"],
    dtype: DTypeLike,
    *,
    parts: int = 1,
    gelu: bool = False,
    order: Order = ORDERS[0],
) -> tuple[Float[Array, "M part_N"], ...]:
    """Return `(x weightᵀ) · x_scale · weight_scale`, with the exact GELU applied if asked for, rounded once to `dtype`.

    The result is in `parts` arrays of as many columns each. The sums are int32. M, N and K have to be multiples of 8,
    64 and 128, M and N no less than a tile, and the columns of each of several parts a multiple of `TILE_N`. `dtype`
    has two bytes. The kernel runs on compute capability 9.0 only.
    """
    rows, columns = x.shape[0], weight.shape[0]
    grid = pl.cdiv(rows, TILE_M), pl.cdiv(columns, TILE_N)
    programs = min(_processors(), grid[0] * grid[1])
    # Operands past the end are filled with zeros and results there are not written; scales are read without such care.
    x_scale = jnp.pad(x_scale, (0, grid[0] * TILE_M - rows))
    weight_scale = jnp.pad(weight_scale, (0, grid[1] * TILE_N - columns))
    steps = pl.cdiv(x.shape[1], TILE_K)
    return plgpu.kernel(
        partial(_multiply, grid=grid, steps=steps, programs=programs, order=order, gelu=gelu),
        out_type=(jax.ShapeDtypeStruct((rows, columns // parts), dtype),) * parts,
        grid=(programs,),
        grid_names=("program",),
        num_threads=COMPUTE_GROUPS + 1,
        thread_name="group",
        compiler_params=plgpu.CompilerParams(approx_math=True),
    )(x, x_scale, weight, weight_scale)


def _processors() -> int:
    device = jax.devices()[0]
    return device.core_count if device.platform == "gpu" else PROCESSORS  # type: ignore[attr-defined]


def _multiply(
    x_ref: Any,
    x_scale_ref: Any,
    weight_ref: Any,
    weight_scale_ref: Any,
    *out_refs: Any,
    grid: tuple[int, int],
    steps: int,
    programs: int,
    order: Order,
    gelu: bool,
) -> None:
    """Reserve shared memory and barriers, then part the warpgroups."""
    operand = plgpu.TilingTransform((8, TILE_K)), plgpu.SwizzleTransform(128)
    result = plgpu.TilingTransform((8, WRITTEN)), plgpu.SwizzleTransform(128)

    def part(x_smem, weight_smem, out_smem, here, done):
        group, program = lax.axis_index("group"), lax.axis_index("program")
        tiles = lax.div(grid[0] * grid[1] - program + programs - 1, programs)

        def place(number: Array) -> tuple[Array, Array]:
            """Return the first row and column of the program's tile `number`."""
            row, column = plgpu.planar_snake(program + number * programs, grid, order.minor, order.width)
            return row * TILE_M, column * TILE_N

        def put(row: Array, column: Array, source: Any, start: int) -> None:
            """Write columns of a tile to the part of the result that they belong to."""
            width = out_refs[0].shape[1]
            for number, out_ref in enumerate(out_refs):
                target = out_ref.at[pl.ds(row, GROUP_M), pl.ds(column - number * width + start, WRITTEN)]
                copy = partial(plgpu.copy_smem_to_gmem, source, target)
                copy() if len(out_refs) == 1 else pl.when(lax.div(column, width) == number)(copy)

        @pl.when(group < COMPUTE_GROUPS)
        def _():
            plgpu.set_max_registers(COMPUTE_REGISTERS, action="increase")

            @pl.loop(0, tiles)
            def _(number):
                row, column = place(number)
                row += group * GROUP_M
                operands = x_smem.at[:, pl.ds(group * GROUP_M, GROUP_M)], weight_smem
                sums = _sum_up(*operands, here, done, first=number * steps, steps=steps)
                scales = x_scale_ref.at[pl.ds(row, GROUP_M)], weight_scale_ref.at[pl.ds(column, TILE_N)]
                _write(sums, *scales, out_smem.at[group], partial(put, row, column), gelu=gelu)

            plgpu.wait_smem_to_gmem(0)

        @pl.when(group == COMPUTE_GROUPS)
        def _():
            plgpu.set_max_registers(FETCH_REGISTERS, action="decrease")

            @pl.loop(0, tiles)
            def _(number):
                row, column = place(number)
                sources = x_ref.at[pl.ds(row, TILE_M)], weight_ref.at[pl.ds(column, TILE_N)]
                _fetch(sources, (x_smem, weight_smem), here, done, first=number * steps, steps=steps)

    pl.run_scoped(
        part,
        plgpu.SMEM((SLOTS, TILE_M, TILE_K), jnp.int8, transforms=operand),
        plgpu.SMEM((SLOTS, TILE_N, TILE_K), jnp.int8, transforms=operand),
        plgpu.SMEM((COMPUTE_GROUPS, WRITING, GROUP_M, WRITTEN), out_refs[0].dtype, transforms=result),
        plgpu.Barrier(num_arrivals=2, num_barriers=SLOTS),
        plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=SLOTS),
        collective_axes="group",
    )


def _slot(count: Array) -> Array:
    return lax.rem(count, jnp.asarray(SLOTS, count.dtype))


def _fetch(sources: Any, buffers: Any, here: Any, done: Any, *, first: Array, steps: int) -> None:
    """Copy the operands of one tile, a part of the contraction into each slot as it comes free."""

    @pl.loop(0, steps)
    def _(step):
        count = first + step
        slot = _slot(count)
        pl.when(count >= SLOTS)(lambda: plgpu.barrier_wait(done.at[slot]))
        for source, buffer in zip(sources, buffers, strict=True):
            part = source.at[:, pl.ds(step * TILE_K, TILE_K)]
            plgpu.copy_gmem_to_smem(part, buffer.at[slot], here.at[slot])


def _sum_up(x_smem: Any, weight_smem: Any, here: Any, done: Any, *, first: Array, steps: int) -> Array:
    """Return the int32 sums of a warpgroup's half of a tile."""

    def accumulate(sums_ref):
        @pl.loop(0, steps)
        def _(step):
            count = first + step
            slot = _slot(count)
            plgpu.barrier_wait(here.at[slot])
            plgpu.wgmma(sums_ref, x_smem.at[slot], weight_smem.at[slot].transpose((1, 0)))
            plgpu.wgmma_wait(1)  # the product before this one is done, and its slot is free
            pl.when(step > 0)(lambda: plgpu.barrier_arrive(done.at[_slot(count + SLOTS - 1)]))

        plgpu.wgmma_wait(0)
        plgpu.barrier_arrive(done.at[_slot(first + steps - 1)])
        return sums_ref[...]

    return pl.run_scoped(accumulate, plgpu.ACC((GROUP_M, TILE_N), jnp.int32))  # pyright: ignore[reportPrivateImportUsage]


def _load(ref: Any, layout: Any) -> Array:
    """Load `ref` from global memory; up to JAX 0.10 the function wants an index beside it, and later ones refuse it."""
    needs_index = signature(plgpu.load).parameters.get("idx")
    index = () if needs_index is None or needs_index.default is not Parameter.empty else ((),)
    return plgpu.load(ref, *index, layout=layout, optimized=False)


def _write(
    sums: Array,
    row_scale_ref: Any,
    column_scale_ref: Any,
    out_smem: Any,
    put: Callable[[Any, int], None],
    *,
    gelu: bool,
) -> None:
    """Scale and round the sums and write them, a few columns at a time, with `put(buffer, first column)`."""
    layout = plgpu.Layout.WGMMA
    of_rows = _load(row_scale_ref, layout.reduce(1))
    for index in range(TILE_N // WRITTEN):
        start, slot = index * WRITTEN, index % WRITING
        columns = pl.ds(start, WRITTEN)
        of_columns = _load(column_scale_ref.at[columns], layout.reduce(0))
        values = sums[:, start : start + WRITTEN].astype(jnp.float32)
        values *= lax.broadcast_in_dim(of_rows, values.shape, [0])
        values *= lax.broadcast_in_dim(of_columns, values.shape, [1])
        if gelu:
            values = gelu_in_kernel(values)
        plgpu.wait_smem_to_gmem(WRITING - 1, wait_read_only=True)
        out_smem[slot] = values.astype(out_smem.dtype)
        plgpu.commit_smem()
        put(out_smem.at[slot], start)
