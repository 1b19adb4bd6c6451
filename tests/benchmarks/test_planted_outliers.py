"""Large channels at known positions: where they are, what int8 loses by them, and what the rotation saves."""

import numpy as np
import pytest

from benchmarks.measure import FPS, forward_inputs
from benchmarks.planted_outliers import outliers, plant_outliers, planted
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.placement import RESIDENT
from tests import golden
from tests.pipeline.test_many_devices import Quick
from tests.tolerances import INT8_RATIO, INT8_ROTATED_RATIO


def test_writers_grow_and_readers_shrink():
    weight = np.ones((128, 512), np.float32)
    written, read = outliers(512), outliers(128)
    both = planted("blocks/mlp/up/kernel", weight)
    expected = np.ones((128, 512))
    expected[:, written] *= 64
    expected[read] /= 64
    np.testing.assert_array_equal(both, expected)
    assert (planted("blocks/self_attention/out/kernel", weight) != 1).sum() == 3 * 128
    assert (planted("blocks/self_attention/value/kernel", weight) != 1).sum() == 3 * 512
    for other in ("blocks/cross_attention/key/kernel", "blocks/mlp_modulation/up/kernel", "time_norm/scale"):
        assert planted(other, weight) is weight


@pytest.fixture(scope="module")
def evaluations(converted):
    """What the golden network with outliers predicts, by what it runs in."""

    def evaluated(precision, quantization):
        found = find_component(converted, "diffusion_transformer").quantized(quantization)
        stage = Quick(found, precision)
        plant_outliers(stage)
        stage.place(RESIDENT)
        return np.asarray(stage.net(**forward_inputs(stage.config, 1, 48, 64), fps=FPS), np.float32)

    kinds = ("float32", "none"), ("bfloat16", "none"), ("bfloat16", "int8"), ("bfloat16", "int8-rotated")
    return {kind: evaluated(*kind) for kind in kinds}


def test_the_rotation_holds_where_a_scale_for_each_token_does_not(evaluations):
    right, halves, plain, rotated = evaluations.values()
    half = golden.relative_l2(halves, right)
    assert golden.relative_l2(plain, right) > 2 * INT8_RATIO * half
    assert half < golden.relative_l2(rotated, right) < INT8_ROTATED_RATIO * half
