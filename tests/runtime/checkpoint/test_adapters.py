"""Merging by hand, and the merged network in every placement and on several devices."""

from dataclasses import replace

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_interp.config import Precision
from jax_interp.pipeline.jobs.record import fingerprint, networks
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.checkpoint.adapters import Adapter, LowRankPair, merge
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import Placement
from tests import golden
from tests.tolerances import NETWORK_F32

PATH = "blocks/self_attention/query/kernel"


def adapter(strength=1.0, path=PATH, blocks=(0, 2), size=(128, 128), seed=0):
    draw = np.random.default_rng(seed)
    pairs = {
        (path, block): LowRankPair(
            *(0.1 * draw.standard_normal(shape).astype(np.float32) for shape in ((size[0], 4), (4, size[1])))
        )
        for block in blocks
    }
    return Adapter("style.safetensors", f"{seed:064x}", pairs, strength)


def test_merging_by_hand():
    weight = np.asarray([[1.0, -0.0], [2, 3]], np.float32)
    pair = LowRankPair(np.asarray([[1.0], [0]], np.float32), np.asarray([[10.0, 0]], np.float32))
    first, second = (Adapter("a", "0", {("w", 0): pair}, strength) for strength in (0.5, 0.25))
    merged = merge(weight, "w", 0, [first, second], np.float32)
    assert merged.tolist() == [[1 + 5 + 2.5, 0], [2, 3]]
    assert np.signbit(merged[0, 1])  # unchanged to the bit, also where the weight is -0
    for other in (merge(weight, "w", 1, [first], np.float32), merge(weight, "v", 0, [first], np.float32)):
        assert np.array_equal(other, weight)
        assert np.array_equal(np.signbit(other), np.signbit(weight))


def test_sums_are_rounded_once():
    weight = np.asarray([[1.0]], np.float32)
    pair = LowRankPair(np.asarray([[1.0]], np.float32), np.asarray([[2**-9]], np.float32))
    # bfloat16 is spaced 2**-7 above 1: each of the four would be lost by itself.
    four = [Adapter("a", "0", {("w", 0): pair}, 1.0)] * 4
    assert merge(weight, "w", 0, four, ml_dtypes.bfloat16).astype(np.float32) == 1 + 2**-7


def output(converted, adapters, placement=None, shape="data=1", precision: Precision = "float32"):
    found = replace(find_component(converted, "diffusion_transformer"), adapters=tuple(adapters))
    denoiser = Denoiser(found, precision, devices=DeviceMesh(MeshShape.parse(shape)))
    if placement is not None:
        denoiser.place(Placement(placement))
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.standard_normal((2, 3, 8, 12, 16)), jnp.float32)
    text = jnp.asarray(draw.standard_normal((2, 5, 64)), jnp.float32)
    mask = jnp.zeros((2, 3, 8, 12, 1), jnp.float32)
    return np.asarray(denoiser.net(x, jnp.zeros(2), text, mask, mask, 24.0), np.float32)


def test_the_network_changes_with_the_blocks_that_are_adapted(converted):
    base = output(converted, [])
    both, first = output(converted, [adapter()]), output(converted, [adapter(blocks=(0,))])
    assert golden.relative_l2(both, base) > 1e-3
    assert golden.relative_l2(both, first) > 1e-3
    for precision in ("float32", "bfloat16"):
        unchanged = output(converted, [adapter(strength=0.0)], precision=precision)
        assert np.array_equal(unchanged, output(converted, [], precision=precision))


@pytest.mark.parametrize("placement", ["offloaded", "streamed"])
def test_merged_in_every_placement(converted, placement):
    adapters = [adapter(), adapter(0.5, "blocks/mlp/down/kernel", (1,), (512, 128), seed=1)]
    assert np.array_equal(output(converted, adapters, placement), output(converted, adapters))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("placement", "shape"),
    [("resident", "data=2"), ("sharded", "data=2,sequence=2"), ("streamed", "sequence=4"), ("resident", "tensor=2")],
)
def test_merged_on_every_mesh(converted, placement, shape):
    alone, base = output(converted, [adapter()]), output(converted, [])
    spread = output(converted, [adapter()], placement, shape)
    assert golden.relative_l2(spread, alone) < NETWORK_F32
    assert golden.relative_l2(spread, base) > 1e-3


def test_a_whole_read_refuses_adapters(converted):
    found = find_component(converted, "diffusion_transformer")
    with pytest.raises(ValueError, match="StackedParams"):
        load_params(replace(found, adapters=(adapter(),)), {})


def test_records_and_fingerprints_name_the_adapters(converted):
    from jax_interp import Interpolator

    made = {}
    for name, adapters in {"none": [], "one": [adapter()], "half": [adapter(0.5)], "other": [adapter(seed=3)]}.items():
        interpolator = Interpolator.from_pretrained(converted, adapters=adapters)
        made[name] = fingerprint(interpolator, InterpolationSettings(), ())
        listed = networks(interpolator)["diffusion_transformer"].get("lora")
        assert listed == ([each.facts for each in adapters] or None)
    assert len(set(made.values())) == 4
    facts = {"file": "style.safetensors", "sha256": "0" * 64, "strength": 0.5, "layers": 2}
    assert adapter(0.5).facts == facts
