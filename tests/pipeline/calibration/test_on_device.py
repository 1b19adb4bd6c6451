"""A calibration's work stays on the device: what comes to the host is small, and only the first block compiles."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.pipeline.calibration import recording
from jax_interp.pipeline.calibration.calibrator import calibrate
from jax_interp.pipeline.calibration.compiling import without_trials
from jax_interp.pipeline.calibration.evaluations import noised
from jax_interp.runtime.checkpoint.finding import find_component
from tests.pipeline.calibration.test_recording import QuickRecording


class Run(NamedTuple):
    chosen: tuple
    compiled: list[int]
    """The number of programs that had been compiled after each part of a block."""
    fetched: list[int]
    """The sizes of the arrays whose values the host asked for."""


@pytest.fixture(scope="module")
def calibrated(converted):
    """A function that calibrates the golden network on two evaluations, with room for streams on the device."""
    stage = QuickRecording(find_component(converted, "diffusion_transformer"))
    latents = np.random.default_rng(0).standard_normal((3, 4, 4, 16)).astype(np.float32)
    known = np.array([1, 0, 1], np.float32).reshape(3, 1, 1, 1)
    evaluations = list(noised(stage, latents, known, None))[:2]
    events: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, duration_secs, **kwargs: events.append(event))

    def run(room: int) -> Run:
        kind: Any = type(jnp.zeros(1))
        compiled, fetched = [], []
        value, asarray = kind._value, np.asarray

        def noting_value(array):
            fetched.append(array.size)
            return value.fget(array)

        def noting_asarray(array, *arguments, **named):
            if isinstance(array, jax.Array):
                fetched.append(array.size)
            return asarray(array, *arguments, **named)

        def done(count):
            compiled.append(sum("backend_compile" in event for event in events))

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(recording, "STREAM_BYTES", room)
            patched.setattr(kind, "_value", property(noting_value))  # for device_get, float and the like
            patched.setattr(np, "asarray", noting_asarray)  # which on a CPU needs no value
            chosen = calibrate(stage, evaluations, done)
        return Run(chosen, compiled, fetched)

    return run


@pytest.fixture(scope="module")
def on_device(calibrated):
    return calibrated(1 << 30)


def test_only_the_first_block_compiles(on_device):
    (_, first, *others) = on_device.compiled
    assert len(others) == 4
    assert first > 0
    assert set(others) == {first}


def test_only_vectors_come_to_the_host(on_device):
    """The longest has the hidden units; weights, samples and streams have many times as many values."""
    assert max(on_device.fetched) == 512


def test_streams_without_room_wait_in_host_memory(on_device, calibrated):
    stream = 3 * 2 * 2 * 128
    mixed = calibrated(4 * stream)  # of two
    assert mixed.fetched.count(stream) == 1 + 6  # as it begins, and after every part of a block
    for ours, right in zip(mixed.chosen[:2], on_device.chosen[:2], strict=True):
        for product in right:
            np.testing.assert_array_equal(ours[product], right[product])
    assert mixed.chosen[2] == on_device.chosen[2]


def test_options_are_those_that_the_compiler_knows(monkeypatch):
    """As on a GPU, whose options every build of XLA has."""
    without_trials.cache_clear()
    assert without_trials() == {}
    without_trials.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert without_trials()["xla_gpu_autotune_level"] == 0
    monkeypatch.undo()
    without_trials.cache_clear()


def test_an_option_that_is_gone_is_left_out():
    from jax_interp.pipeline.calibration.compiling import _is_known

    assert not _is_known("xla_gpu_has_no_such_option", 0)


@pytest.mark.parametrize(("limit", "room"), [(None, 6 << 30), (80 << 30, 6 << 30), (16 << 30, 4 << 30)])
def test_streams_have_a_quarter_of_a_small_device(limit, room):
    class Device:
        def memory_stats(self):
            return None if limit is None else {"bytes_limit": limit}

    assert recording._room(Device()) == room


def test_attention_to_many_keys_in_bfloat16_where_a_kernel_runs(rng, monkeypatch):
    q, k, v = (jnp.asarray(rng.standard_normal((1, 40, 2, 16)), jnp.float32) for _ in range(3))
    right = recording.attention(q, k, v)
    monkeypatch.setattr(recording, "MANY_KEYS", 39)
    np.testing.assert_array_equal(recording._quick_attention(q, k, v), right)
    monkeypatch.setattr(recording, "cudnn_available", lambda: True)
    monkeypatch.setattr(recording, "MANY_KEYS", 40)
    np.testing.assert_array_equal(recording._quick_attention(q, k, v), right)
    monkeypatch.setattr(recording, "MANY_KEYS", 39)
    halves = recording._quick_attention(q, k, v)
    assert halves.dtype == jnp.float32
    np.testing.assert_array_equal(halves, halves.astype(jnp.bfloat16).astype(jnp.float32))
    assert 0 < jnp.linalg.norm(halves - right) < 0.01 * jnp.linalg.norm(right)
