"""Noise levels against upstream's functions, and the draws of a step."""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.train.objective.noise import first_frames, log_normal, make_draws
from jax_interp.train.settings import VIDEO2WORLD_NOISE, LogNormal, NoiseSettings
from tests import golden
from tests.tolerances import TRAINING_F32
from tests.train.golden_steps import load

SHAPE = (2000, 3, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("interpolator.sigma", NoiseSettings().sigma),
        ("interpolator.augment_sigma", NoiseSettings().augment_sigma),
        ("video2world3.sigma", LogNormal(0.0, 1.0, 3**0.5)),
    ],
)
def test_levels_are_upstreams(name, distribution):
    recorded = load("T2_schedules")
    normal = jnp.asarray([NormalDist().inv_cdf(value) for value in recorded["u"]], jnp.float32)
    assert golden.relative_l2(log_normal(normal, distribution), recorded[name]) < TRAINING_F32
    other = LogNormal(distribution.mean + 0.01, distribution.deviation, distribution.multiplier)
    assert golden.relative_l2(log_normal(normal, other), recorded[name]) > TRAINING_F32


def test_draws_have_the_distributions_that_they_are_of():
    settings = NoiseSettings(text_dropout=0.25)
    draws = make_draws(jax.random.key(0), SHAPE, settings)
    for values, wanted in ((draws.sigma, settings.sigma), (draws.augment_sigma, settings.augment_sigma)):
        logs = np.log(np.asarray(values) / wanted.multiplier)
        assert logs.mean() == pytest.approx(wanted.mean, abs=0.15)
        assert logs.std() == pytest.approx(wanted.deviation, rel=0.05)
    assert float(draws.text_kept.mean()) == pytest.approx(0.75, abs=0.03)
    assert float(draws.noise.std()) == pytest.approx(1, rel=0.05)
    assert abs(float((draws.noise * draws.augment_noise).mean())) < 0.05  # drawn apart
    assert not np.array_equal(draws.sigma[:1000], draws.sigma[1000:])


def test_the_ends_are_known():
    draws = make_draws(jax.random.key(0), (2, 4, 1, 1, 1), NoiseSettings())
    assert draws.indicator[..., 0, 0, 0].tolist() == [[1, 0, 0, 1]] * 2


def test_none_one_or_two_first_frames_are_known_in_a_whole_batch():
    seen = set()
    for seed in range(40):
        draws = make_draws(jax.random.key(seed), (3, 4, 1, 1, 1), VIDEO2WORLD_NOISE)
        indicator = np.asarray(draws.indicator)[..., 0, 0, 0]
        assert (indicator == indicator[:1]).all()
        seen.add(int(indicator[0].sum()))
        assert indicator[0].tolist() == np.asarray(first_frames(int(indicator[0].sum()), 4))[:, 0, 0, 0].tolist()
    assert seen == {0, 1, 2}


def test_a_draw_depends_on_its_key_alone():
    again = [make_draws(jax.random.key(seed), (2, 3, 1, 1, 1), NoiseSettings()).sigma.tolist() for seed in (5, 5, 6)]
    assert again[0] == again[1] != again[2]
