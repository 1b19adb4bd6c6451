"""Whether memory can be pinned, which errors say that it ran out, and the bytes of parameters."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_interp.runtime import host
from jax_interp.runtime.host import nbytes, out_of_memory, pins, warn_pageable_once


@pytest.fixture
def params():
    return {"layer": {"kernel": np.ones((3, 4), ml_dtypes.bfloat16), "bias": np.arange(4, dtype=np.int8)}}


def test_which_devices_pin():
    class Plain:
        def addressable_memories(self):
            return [type("Memory", (), {"kind": "device"})()]

    assert not pins(Plain())
    assert pins(jax.devices()[1])


def test_pageable_memory_is_said_once(caplog):
    host._warn_pageable.cache_clear()
    for _ in range(3):
        warn_pageable_once()
    host._warn_pageable.cache_clear()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "pinned host memory ran out" in caplog.text
    assert "XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB" in caplog.text


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), True),
        (jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (jax.errors.JaxRuntimeError("INTERNAL: illegal instruction"), False),
        (ValueError("memory kind"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_errors_that_are_about_memory(error, is_memory):
    assert out_of_memory(error) is is_memory


def test_host_memory_is_told_from_the_devices():
    pool = "RESOURCE_EXHAUSTED: Out of host memory trying to allocate 512.00MiB"
    assert host.host_out_of_memory(MemoryError())
    assert host.host_out_of_memory(jax.errors.JaxRuntimeError(pool))
    assert not host.host_out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying"))


def test_bytes_of_arrays_and_of_their_descriptions(params):
    assert nbytes(params) == 3 * 4 * 2 + 4
    assert nbytes({"there": jax.device_put(params, jax.devices()[0])}) == nbytes(params)
    assert nbytes([jax.ShapeDtypeStruct((5, 7), jnp.bfloat16), jax.ShapeDtypeStruct((), jnp.float32)]) == 74
    assert nbytes({}) == 0
