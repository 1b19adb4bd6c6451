"""Large channels at known positions: where they are, what int8 loses by them, and what saves it."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.measure import FPS, forward_inputs
from benchmarks.planted_outliers import outliers, plant_outliers, planted
from jax_interp.config import Precision, Quantization
from jax_interp.pipeline.calibration.calibrator import calibrate
from jax_interp.pipeline.calibration.evaluations import noised
from jax_interp.pipeline.calibration.recording import RecordingDenoiser
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.placement import RESIDENT
from tests import golden
from tests.pipeline.test_many_devices import Quick, Quickly
from tests.tolerances import INT8_RATIO, INT8_ROTATED_RATIO, INT8_SMOOTHED_RATIO


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


def evaluated(found, precision):
    """What a network with outliers predicts."""
    stage = Quick(found, precision)
    plant_outliers(stage)
    stage.place(RESIDENT)
    return np.asarray(stage.net(**forward_inputs(stage.config, 1, 48, 64), fps=FPS), np.float32)


@pytest.fixture(scope="module")
def evaluations(converted):
    """What the golden network with outliers predicts, by what it runs in."""
    found = find_component(converted, "diffusion_transformer")
    kinds: list[tuple[Precision, Quantization]] = [
        *(("float32", "none"), ("bfloat16", "none"), ("bfloat16", "int8"), ("bfloat16", "int8-rotated"))
    ]
    return {kind: evaluated(found.quantized(kind[1]), kind[0]) for kind in kinds}


def test_the_rotation_holds_where_a_scale_for_each_token_does_not(evaluations):
    right, halves, plain, rotated = evaluations.values()
    half = golden.relative_l2(halves, right)
    assert golden.relative_l2(plain, right) > 2 * INT8_RATIO * half
    assert half < golden.relative_l2(rotated, right) < INT8_ROTATED_RATIO * half


class QuickRecording(Quickly, RecordingDenoiser):
    pass


def test_a_calibration_makes_int8_as_exact_as_without_outliers(evaluations, converted):
    """It sees other latents and another text than the evaluation."""
    right, halves, *_ = evaluations.values()
    found = find_component(converted, "diffusion_transformer")
    stage = QuickRecording(found)
    plant_outliers(stage)
    latents = 0.5 * np.random.default_rng(7).standard_normal((3, 8, 8, 16)).astype(np.float32)
    text = np.random.default_rng(8).standard_normal((1, 32, 64)).astype(np.float32)
    known = np.array([1, 0, 1], np.float32).reshape(3, 1, 1, 1)
    factors, _, reports = calibrate(stage, list(noised(stage, latents, known, text)))
    down = [report for report in reports if report.product == "mlp/down"]
    assert all(report.largest_channel > 30 and report.strength for report in down)
    assert all(report.smoothed < 0.2 * report.int8 for report in down)
    half = golden.relative_l2(halves, right)
    ours = evaluated(replace(found, quantization="int8-smoothed", factors=factors), "bfloat16")
    assert half < golden.relative_l2(ours, right) < INT8_SMOOTHED_RATIO * half
