"""Factors in weights: without rounding they change nothing, and stored ones are those of smoothing at load."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.measure import FPS, forward_inputs
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.nn.params import flatten, unflatten
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.checkpoint.adapters import Adapter
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import StackedParams
from jax_interp.runtime.checkpoint.smoothing import Smoothing, are_factors
from jax_interp.runtime.placement import Placement
from tests import golden
from tests.convert.checkpoints import DIT
from tests.made_up_calibration import drawn_factors, smoothed_abstract
from tests.runtime.checkpoint.test_quantizing import at, change_array
from tests.tolerances import BLOCK_F32

INPUTS = {
    "self_attention/qkv": ("query", "key", "value"),
    "cross_attention/query": ("query",),
    "mlp/up": ("up",),
    "mlp/down": ("down",),
}
"""The products whose factors the network applies, with the layers that read their inputs."""


class Multiplied:
    """A layer whose input is multiplied by factors, without any rounding to integers."""

    def __init__(self, layer, factors):
        self._layer, self._factors = layer, jnp.asarray(factors)

    def __call__(self, x):
        return self._layer(x * self._factors)


def multiply(block, names, factors):
    """Have the layers of `block` that are in its parts `names` multiply their inputs."""
    for product, layers in INPUTS.items():
        parent = product.split("/")[0]
        for layer in layers if parent in names else ():
            module = getattr(block, parent)
            setattr(module, layer, Multiplied(getattr(module, layer), factors[product]))


def residual_stream(stage, factors, smoothing):
    """The residual stream after every block, with folded factors or without any (None)."""
    inputs = forward_inputs(stage.config, 1, 32, 48)
    names = ("x", "c_noise", "text", "mask", "padding_mask")
    angles = stage.angles(inputs["x"].shape, FPS)
    stream, shared = stage._embed(stage.outer, *(inputs[name] for name in names), angles)
    stream, streams = stream.reshape(1, -1, stream.shape[-1]), []
    for number in range(stage.network.num_blocks):
        for part, names in enumerate(stage.network.parts):
            stored = dict(flatten(stage._stored.part(number, names)))
            if factors is not None:
                for path in (path for path in stored if f"blocks/{path}" in smoothing.changed):
                    stored[path] = smoothing.weight(f"blocks/{path}", stored[path], number)
            block = stage.network.bind_part(part, jax.tree.map(jnp.asarray, unflatten(stored)))
            if factors is not None:
                multiply(block, names, {product: rows[number] for product, rows in factors.items()})
            stream = (block.transform if part else block.attend)(stream, shared)
        streams.append(np.asarray(stream))
    return streams


def test_folded_factors_change_nothing_without_rounding(converted):
    stage = Denoiser(find_component(converted, "diffusion_transformer"), "float32")
    stage.place(Placement("streamed"))
    factors = drawn_factors(stage.config)
    smoothing = Smoothing(smoothed_abstract(stage.config), factors)
    plain, folded = residual_stream(stage, None, None), residual_stream(stage, factors, smoothing)
    for ours, right in zip(folded, plain, strict=True):
        assert golden.relative_l2(ours, right) < BLOCK_F32
    others = drawn_factors(stage.config, seed=1)
    assert golden.relative_l2(residual_stream(stage, others, smoothing)[0], plain[0]) > 0.1
    stage.unload()


def test_weights_have_the_factors_of_every_product_that_concerns_them(converted):
    config = find_component(converted, "diffusion_transformer").config
    factors = drawn_factors(config)
    smoothing = Smoothing(smoothed_abstract(config), factors)
    inner = config.num_heads * config.head_width
    ones = np.ones((config.width, inner), jnp.bfloat16)
    value = smoothing.weight("blocks/self_attention/value/kernel", ones, 1)
    into, out = factors["self_attention/qkv"][1], factors["self_attention/out"][1]
    np.testing.assert_array_equal(value.astype(np.float32), out[None] / into[:, None])
    assert value.dtype == jnp.bfloat16
    text = smoothing.weight("blocks/cross_attention/value/kernel", ones, 2)
    np.testing.assert_array_equal(text[0].astype(np.float32), factors["cross_attention/out"][2])
    assert "blocks/cross_attention/key/kernel" not in smoothing.changed
    assert set(smoothing.applied.values()) == set(INPUTS)


def test_factors_that_do_not_fit_are_refused(converted):
    config = find_component(converted, "diffusion_transformer").config
    abstract, factors = smoothed_abstract(config), drawn_factors(config)
    with pytest.raises(ValueError, match="factors of the shapes"):
        Smoothing(abstract, factors | {"mlp/up": factors["mlp/up"][1:]})
    with pytest.raises(ValueError, match="factors of mlp/up that are no powers of two"):
        Smoothing(abstract, factors | {"mlp/up": factors["mlp/up"] * 3})


@pytest.mark.parametrize("value", [0, -2, 3, np.inf, np.nan])
def test_what_is_no_factor(value):
    assert are_factors(np.array([0.5, 1, 64], np.float32))
    assert not are_factors(np.array([0.5, 1, value], np.float32))


def blocks_of(found, precision):
    network = Denoiser.structure(found.config, precision, "int8-smoothed")
    stored = StackedParams(found, network.abstract, jnp.dtype(precision))
    names = {name for part in network.parts for name in part}
    return [dict(flatten(stored.part(block, names))) for block in range(network.num_blocks)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_smoothed_once_is_what_smoothing_at_load_gives(converted, smoothed_folder, precision):
    plain = find_component(converted, "diffusion_transformer")
    factors = drawn_factors(plain.config)
    at_load = blocks_of(replace(plain, quantization="int8-smoothed", factors=factors), precision)
    stored = blocks_of(find_component(smoothed_folder, "diffusion_transformer"), precision)
    for number, (ours, theirs) in enumerate(zip(at_load, stored, strict=True)):
        assert ours.keys() == theirs.keys()
        for path in ours:
            np.testing.assert_array_equal(ours[path].astype(np.float32), theirs[path].astype(np.float32))
        np.testing.assert_array_equal(theirs["mlp/down/factors"].astype(np.float32), factors["mlp/down"][number])


def test_an_ordinary_folder_needs_a_calibration(converted):
    found = find_component(converted, "diffusion_transformer")
    with pytest.raises(UsageError, match=r"without a calibration.*convert --quantization int8 --calibrate CLIP"):
        found.quantized("int8-smoothed")


def test_no_adapter_can_be_merged(smoothed_folder):
    found = find_component(smoothed_folder, "diffusion_transformer")
    abstract = Denoiser.structure(found.config, "float32", "int8-smoothed").abstract
    with pytest.raises(UsageError, match=r"stored in int8-smoothed, .*pass --quantization int8: the adapter"):
        StackedParams(replace(found, adapters=(Adapter("a.safetensors", "0" * 64, {}),)), abstract)


def test_stored_factors_that_cannot_be(smoothed_folder, tmp_path):
    folder = tmp_path / "spoilt"
    shutil.copytree(smoothed_folder / DIT, folder / DIT)
    change_array(folder / DIT, "blocks/mlp/down/factors", at(3))
    with pytest.raises(CheckpointError, match="damaged, blocks/mlp/down/factors hold factors that are no powers of"):
        blocks_of(find_component(folder, "diffusion_transformer"), "float32")
