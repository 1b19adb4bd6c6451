"""How the stages of a calibration compute and are compiled: quickly, since their programs run a few hundred times."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import jax


class Quick:
    """For a stage in float32: GPUs round operands of products and convolutions to tf32."""

    @contextmanager
    def numerics(self) -> Iterator[None]:
        with jax.default_matmul_precision("tensorfloat32"):
            yield


@cache
def without_trials() -> dict[str, int | bool]:
    """Return the options of XLA by which a GPU's products are cuBLAS' without trials; none where there is no GPU.

    XLA otherwise compiles and times dozens of kernels for every product. Options that it does not know are left out.
    """
    if jax.default_backend() != "gpu":
        return {}
    options = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_autotune_level": 0}
    return {name: value for name, value in options.items() if _is_known(name, value)}


def _is_known(option: str, value: int | bool) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={option: value})()
    except jax.errors.JaxRuntimeError:
        return False
    return True
