"""Parameters in pinned memory, and in ordinary memory where that runs out."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_interp.runtime import host
from jax_interp.runtime.host import nbytes, out_of_memory, pins, to_device, to_host


@pytest.fixture
def params(rng):
    return {
        "layer": {"kernel": rng.standard_normal((3, 4)).astype(ml_dtypes.bfloat16), "bias": np.arange(4, dtype=np.int8)}
    }


@pytest.fixture
def device():
    return jax.devices()[1]


@pytest.fixture
def warned():
    """The warning has not been given yet."""
    host._warn_pageable.cache_clear()
    yield
    host._warn_pageable.cache_clear()


def assert_same(ours, params):
    for array, original in zip(jax.tree.leaves(ours), jax.tree.leaves(params), strict=True):
        assert array.dtype == original.dtype
        assert np.asarray(array).tobytes() == original.tobytes()


def test_there_and_back(params, device):
    assert pins(device)
    waiting = to_host(params, device)
    assert_same(waiting, params)
    for leaf in jax.tree.leaves(waiting):
        assert (leaf.sharding.memory_kind, leaf.devices()) == ("pinned_host", {device})
    for origin in (waiting, params):
        there = to_device(origin, device)
        assert_same(there, params)
        for leaf in jax.tree.leaves(there):
            assert (leaf.sharding.memory_kind, leaf.devices()) == (device.default_memory().kind, {device})
    assert device.default_memory().kind != "pinned_host"


def test_a_device_without_pinned_memory(params, caplog):
    class Plain:
        def addressable_memories(self):
            return [type("Memory", (), {"kind": "device"})()]

    assert not pins(Plain())
    assert to_host(params, Plain()) is params
    assert not caplog.records


def refuse(monkeypatch, message):
    def device_put(*args, **kwargs):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(jax, "device_put", device_put)


@pytest.mark.parametrize(
    "message", ["RESOURCE_EXHAUSTED: Failed to allocate request for 2.0GiB", "INTERNAL: CUDA: out of memory"]
)
def test_pinned_memory_that_runs_out_is_said_once(params, device, warned, monkeypatch, caplog, message):
    refuse(monkeypatch, message)
    for _ in range(3):
        assert to_host(params, device) is params
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "pinned host memory ran out" in caplog.text
    assert "XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB" in caplog.text


def test_other_errors_pass_through(params, device, warned, monkeypatch, caplog):
    refuse(monkeypatch, "INTERNAL: the device is gone")
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        to_host(params, device)
    assert not caplog.records


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
    assert nbytes({"there": to_device(params, jax.devices()[0])}) == nbytes(params)
    assert nbytes([jax.ShapeDtypeStruct((5, 7), jnp.bfloat16), jax.ShapeDtypeStruct((), jnp.float32)]) == 74
    assert nbytes({}) == 0
