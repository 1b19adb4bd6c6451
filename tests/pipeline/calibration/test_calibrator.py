"""The calibration of a clip: what identifies it, and what it refuses."""

import hashlib
from contextlib import nullcontext

import numpy as np
import pytest

from jax_interp import Calibrator
from jax_interp.config import CV8X8X8_720P, DIT_7B
from jax_interp.errors import CheckpointError, MediaError, UsageError
from jax_interp.pipeline.calibration.calibrator import calibrate, calibrate_on_clip
from jax_interp.pipeline.calibration.evaluations import noised
from jax_interp.runtime.checkpoint.finding import find_component
from tests import golden
from tests.pipeline.calibration.test_recording import QuickRecording


def test_a_clip_is_known_by_its_bytes(tmp_path):
    sha256 = hashlib.sha256(golden.CLIP.read_bytes()).hexdigest()
    facts = {"clip": "clip.mp4", "clip_sha256": sha256, "height": 704, "width": 1280}
    assert Calibrator(golden.CLIP).facts == facts
    assert Calibrator(str(golden.CLIP), 64, 96).facts == facts | {"height": 64, "width": 96}
    with pytest.raises(MediaError, match=r"nothing.mp4: cannot be read"):
        _ = Calibrator(tmp_path / "nothing.mp4").facts


def test_sizes_are_those_of_the_pipeline():
    calibrator = Calibrator(golden.CLIP)
    calibrator.check(DIT_7B, CV8X8X8_720P, "WorldInterpolator")
    calibrator.check(DIT_7B, CV8X8X8_720P, "Video2World")
    for kind in ("WorldInterpolator", "Video2World"):
        with pytest.raises(UsageError, match="--calibrate: --width 100: expected a multiple of 16"):
            Calibrator(golden.CLIP, 64, 100).check(DIT_7B, CV8X8X8_720P, kind)


@pytest.mark.slow
def test_parts_are_reported_in_bytes_and_products_once(converted):
    stage = QuickRecording(find_component(converted, "diffusion_transformer"))
    latents = np.random.default_rng(0).standard_normal((3, 4, 4, 16)).astype(np.float32)
    known = np.array([1, 0, 1], np.float32).reshape(3, 1, 1, 1)
    done = []
    factors, largest, reports = calibrate(stage, list(noised(stage, latents, known, None))[:2], done.append)
    assert len(done) == 6
    sizes = {product: array.shape for product, array in factors.items()}
    assert sizes == {product: array.shape for product, array in largest.items()}
    assert sizes["mlp/down"] == (3, 512)
    assert sorted((each.block, each.product) for each in reports) == sorted((b, p) for b in range(3) for p in sizes)
    # Without a text cross-attention gives zeros, of which there is nothing to learn.
    assert not largest["cross_attention/out"].any()
    assert (factors["cross_attention/out"] == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_refused(converted, value):
    stage = QuickRecording(find_component(converted, "diffusion_transformer"))
    latents = np.full((3, 4, 4, 16), value, np.float32)
    known = np.array([1, 0, 1], np.float32).reshape(3, 1, 1, 1)
    with pytest.raises(CheckpointError, match=r"not numbers at \S+ of block 0; check the checkpoint"):
        calibrate(stage, list(noised(stage, latents, known, None))[:1])


@pytest.mark.slow
def test_a_video2world_transformer_is_calibrated_on_its_own_windows(converted_world):
    stage = QuickRecording(find_component(converted_world, "diffusion_transformer"))
    calibrator = Calibrator(golden.CLIP, 32, 48)
    told = []
    found = calibrate_on_clip(
        calibrator,
        stage,
        find_component(converted_world, "tokenizer"),
        None,
        lambda label, total: nullcontext(told.append),
    )
    assert found.report.text == "zeros"
    assert found.report.windows == 1
    assert sum(told) == sum(4 * np.prod(leaf.shape) for leaf in leaves(stage.network.abstract["blocks"]))
    assert {product.block for product in found.report.products} == set(range(stage.network.num_blocks))


def leaves(tree):
    for value in tree.values():
        yield from leaves(value) if isinstance(value, dict) else [value]
