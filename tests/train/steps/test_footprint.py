"""Predicted memory: counts by hand, and what the settings change."""

from dataclasses import replace

import pytest

from jax_interp.config import DIT_7B
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.settings import LoraSettings, OptimizerSettings, TrainSettings
from jax_interp.train.steps.footprint import training_footprint

GIB = 2**30
LATENTS = (3, 88, 160, 16)
FULL = TrainSettings(optimizer=OptimizerSettings(ema_rate=None))
VALUES = 7.24e9


def test_full_training_of_the_7b_network():
    found = training_footprint(DIT_7B, FULL, LATENTS)
    assert found.weights == pytest.approx(4 * VALUES, rel=0.01)
    assert found.gradients == found.weights
    assert found.optimizer == pytest.approx(8 * VALUES, rel=0.01)
    assert found.host == 0
    averaged = training_footprint(DIT_7B, replace(FULL, optimizer=OptimizerSettings(ema_rate=0.1)), LATENTS)
    assert averaged.optimizer == pytest.approx(12 * VALUES, rel=0.01)


def test_an_adapter_takes_little_more_than_the_weights():
    found = training_footprint(DIT_7B, replace(FULL, lora=LoraSettings(rank=8)), LATENTS)
    assert found.peak / GIB == pytest.approx(18.5, abs=0.5)  # as measured
    assert found.gradients + found.optimizer < 0.3 * GIB


def test_a_streamed_network_waits_on_the_host():
    resident = replace(FULL, lora=LoraSettings(rank=8))
    found = training_footprint(DIT_7B, replace(resident, stream_base=True), LATENTS)
    assert found.peak < 8 * GIB
    assert found.host == pytest.approx(2 * VALUES, rel=0.02)
    assert found.activations == training_footprint(DIT_7B, resident, LATENTS).activations


def test_two_devices_share_everything_but_activations():
    alone, two = (training_footprint(DIT_7B, replace(FULL, batch_size=2), LATENTS, MeshShape(data=n)) for n in (1, 2))
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(two, name) == pytest.approx(getattr(alone, name) / 2, rel=0.01)
    assert two.peak < 76 * GIB


def test_the_optimizers_state_on_the_host():
    found = training_footprint(DIT_7B, replace(FULL, optimizer_on_host=True), LATENTS)
    assert found.host == pytest.approx(12 * VALUES, rel=0.01)
    assert found.weights == pytest.approx(2 * VALUES, rel=0.01)
    assert found.peak < 45 * GIB


def test_passes_spare_activations():
    whole, parts = (
        training_footprint(DIT_7B, replace(FULL, batch_size=4, accumulate=n), LATENTS).activations for n in (1, 4)
    )
    assert whole == 4 * parts


def test_what_is_kept_of_every_block():
    adapter = replace(FULL, lora=LoraSettings(rank=8))
    least, attention, products = (
        training_footprint(DIT_7B, replace(adapter, keep=keep), LATENTS).activations
        for keep in ("inputs", "attention", "products")
    )
    one = 28 * 10_560 * 4096 * 2
    assert attention - least == one
    assert products - least == 12 * one
