"""Learning rates against upstream's factors, and by hand."""

import numpy as np
import pytest

from jax_interp.train.optimization.schedule import learning_rate
from jax_interp.train.settings import OptimizerSettings
from tests.tolerances import TRAINING_F32
from tests.train.golden_steps import load


def test_upstreams_warm_up():
    recorded = load("T2_schedules")
    rate = learning_rate(OptimizerSettings(learning_rate=1.0, warmup_steps=2500, decay="constant"), 2000)
    for step, factor in zip(recorded["lr_steps"], recorded["lr_factor"], strict=True):
        assert float(np.asarray(rate(int(step)))) == pytest.approx(factor, rel=TRAINING_F32)
    later = learning_rate(OptimizerSettings(learning_rate=1.0, warmup_steps=2501, decay="constant"), 2000)
    assert float(np.asarray(later(1000))) != pytest.approx(recorded["lr_factor"][3], rel=TRAINING_F32)


@pytest.mark.parametrize(("decay", "middle", "end"), [("constant", 2, 2), ("linear", 1.1, 0.2), ("cosine", 1.1, 0.2)])
def test_course_after_the_warm_up(decay, middle, end):
    settings = OptimizerSettings(learning_rate=2.0, warmup_steps=10, decay=decay, final_factor=0.1)
    rate = learning_rate(settings, 110)
    assert float(np.asarray(rate(5))) == pytest.approx(1, rel=1e-4)
    assert float(np.asarray(rate(10))) == pytest.approx(2)
    assert float(np.asarray(rate(60))) == pytest.approx(middle)
    assert float(np.asarray(rate(110))) == pytest.approx(end)


def test_no_warm_up():
    settings = OptimizerSettings(learning_rate=2.0, warmup_steps=0, decay="constant")
    assert float(np.asarray(learning_rate(settings, 10)(0))) == 2
