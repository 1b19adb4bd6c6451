"""Defaults that train something, and upstream's that are met behind one name."""

from dataclasses import replace

import pytest

from jax_interp.errors import UsageError
from jax_interp.train.settings import LoraSettings, OptimizerSettings, TrainSettings, upstream_settings


def test_defaults_train():
    settings = TrainSettings()
    assert settings.learned_positions
    assert settings.data.pixels == "inference"
    assert settings.optimizer.learning_rate > 0
    assert settings.optimizer.warmup_steps < settings.steps


def test_upstreams_choices():
    settings = upstream_settings(TrainSettings())
    assert (settings.learned_positions, settings.data.pixels) == (False, "upstream")
    assert (settings.optimizer.learning_rate, settings.optimizer.warmup_steps) == (0, 2500)
    adapter = upstream_settings(TrainSettings(lora=LoraSettings()))
    chosen = adapter.optimizer
    assert (chosen.learning_rate, chosen.warmup_steps, chosen.ema_rate) == (1e-4, 0, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.0}, "--learning-rate is 0.0; expected more than 0"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"warmup_steps": 2000}, "the full rate is never reached"),
        ({"clip_norm": 0.0}, "--clip-norm is 0.0"),
        ({"ema_rate": 0.5}, "--ema-rate is 0.5"),
    ],
    ids=str,
)
def test_what_trains_nothing_is_refused(change, said):
    with pytest.raises(UsageError, match=said):
        TrainSettings(optimizer=replace(OptimizerSettings(), **change))


def test_every_fault_is_named():
    with pytest.raises(UsageError, match=r"--steps is 0.*--batch-size is 3.*--seed is -1"):
        TrainSettings(steps=0, batch_size=3, accumulate=2, seed=-1)
