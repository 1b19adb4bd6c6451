"""Which order of tiles is the fastest for a product of int8 matrices: measured once, and remembered on disk.

Orders differ in which operands are still in the cache when they are needed again, by up to 8 % of a product's time.
"""

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import jax
import jax.numpy as jnp

from jax_interp.files.atomic import write_atomically
from jax_interp.files.json_file import read_json
from jax_interp.files.json_schema import Between, JsonFault

if TYPE_CHECKING:
    from jax_interp.nn.kernels.int8_hopper import Order

logger = logging.getLogger("jax_interp")

FILE = "int8_orders.json"
"""The file, in the folder of compiled programs, that remembers the choices of earlier runs."""
REPEATS = 10
MIN_OPERATIONS = 2e10
"""Products of fewer operations take microseconds, for which no measurement pays."""

_Choices = dict[str, Annotated[int, Between(0, 63)]]


@cache
def fastest_order(rows: int, columns: int, inner: int) -> "Order":
    """Return the `int8_hopper.Order` for a product [rows, inner] times [columns, inner]ᵀ on this GPU.

    At the first use of a shape every order of `ORDERS` is timed, which takes some milliseconds and the compilation of
    a kernel for each. The choice is remembered in `FILE`; a file that is damaged or cannot be written costs a
    measurement in the next run and nothing else.
    """
    from jax_interp.nn.kernels.int8_hopper import ORDERS

    if 2.0 * rows * columns * inner < MIN_OPERATIONS:
        return ORDERS[0]
    name = f"{jax.devices()[0].device_kind} {rows}x{columns}x{inner}"
    number = _remembered().get(name)
    if number is None or number >= len(ORDERS):
        # A thread of its own: this is asked while a function is traced, which what is measured must not be part of.
        with ThreadPoolExecutor(1) as thread:
            times = thread.submit(_measure, rows, columns, inner).result()
        number = times.index(min(times))
        logger.debug("int8 product %s: %s ms", name, ", ".join(f"{1e3 * seconds:.3f}" for seconds in times))
        _remember(name, number)
    return ORDERS[number]


def _measure(rows: int, columns: int, inner: int) -> list[float]:
    """Return the seconds that the product takes in every order of `ORDERS`."""
    from jax_interp.nn.kernels.int8_hopper import ORDERS, int8_matmul_hopper

    x, weight = jnp.ones((rows, inner), jnp.int8), jnp.ones((columns, inner), jnp.int8)
    arguments = x, jnp.ones(rows), weight, jnp.ones(columns), jnp.bfloat16
    times = []
    for order in ORDERS:
        jax.block_until_ready(int8_matmul_hopper(*arguments, order=order))
        started = time.perf_counter()
        for _ in range(REPEATS - 1):
            int8_matmul_hopper(*arguments, order=order)  # is computed in turn, and needs memory for one result
        jax.block_until_ready(int8_matmul_hopper(*arguments, order=order))
        times.append((time.perf_counter() - started) / REPEATS)
    return times


def _file() -> Path | None:
    """Return the path of `FILE`; None if compiled programs are not kept in a folder of this machine."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return Path(folder) / FILE if folder and "://" not in folder else None


def _remembered() -> dict[str, int]:
    path = _file()
    try:
        return read_json(path, _Choices) if path else {}
    except (OSError, JsonFault):
        return {}


def _remember(name: str, number: int) -> None:
    path = _file()
    if path is None:
        return
    try:
        write_atomically(path, json.dumps(_remembered() | {name: number}, indent=1).encode(), mode=0o600)
    except OSError as error:
        logger.debug("%s: cannot be written (%s)", path, error)
