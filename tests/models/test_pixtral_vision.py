"""Pixtral's picture encoder and projector against transformers' own, live, and its parts by hand."""

import copy
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from transformers.models.llava.configuration_llava import LlavaConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.models.mistral.configuration_mistral import MistralConfig
from transformers.models.pixtral.configuration_pixtral import PixtralVisionConfig as PeerConfig
from transformers.models.pixtral.modeling_pixtral import PixtralVisionModel

from convert.tables import pixtral
from jax_interp.config import PIXTRAL_12B_VISION, PixtralVisionConfig, from_json, to_json
from jax_interp.models.pixtral_vision import PixtralVision, grid_angles
from jax_interp.nn.params import Network, StackedNetwork, flatten, unflatten
from tests.convert.trees import arrays_of, tree_of
from tests.golden import relative_l2
from tests.tolerances import BF16_RATIO, ELEMENTWISE_F32, NETWORK_F32, PEER_F32

CONFIG = PixtralVisionConfig(
    width=32, num_layers=3, num_heads=4, head_width=8, mlp_width=48, text_width=40, patch_size=4, image_size=64
)
GRIDS = [(3, 3), (2, 5), (5, 2), (1, 7), (7, 1), (1, 1)]


@cache
def peers():
    """transformers' encoder and projector, with random weights large enough for attention to prefer some patches."""
    vision = PeerConfig(
        hidden_size=CONFIG.width,
        intermediate_size=CONFIG.mlp_width,
        num_hidden_layers=CONFIG.num_layers,
        num_attention_heads=CONFIG.num_heads,
        image_size=CONFIG.image_size,
        patch_size=CONFIG.patch_size,
        hidden_act="silu",
        rope_parameters={"rope_type": "axial", "rope_theta": CONFIG.rotary_base},
    )
    text = MistralConfig(hidden_size=CONFIG.text_width, num_attention_heads=4, num_hidden_layers=1)
    llava = LlavaConfig(vision_config=vision, text_config=text, projector_hidden_act="gelu", vision_feature_layer=-1)
    vision._attn_implementation = "eager"
    tower, projector = PixtralVisionModel(vision).eval(), LlavaMultiModalProjector(llava).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in (tower, projector):
            for parameter in module.parameters():
                deviation = 1.5 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
                parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, deviation, generator=generator)
    return tower, projector


@cache
def ours():
    """The network and the peers' weights in it, as conversion puts them there."""
    tensors = {}
    for prefix, peer in zip(("vision_tower.", "multi_modal_projector."), peers(), strict=True):
        tensors |= {prefix + name: array for name, array in arrays_of(peer).items()}
    rules = [
        replace(rule, dst=rule.dst.removeprefix(pixtral.VISION))
        for rule in pixtral.RULES
        if rule.dst.startswith(pixtral.VISION)
    ]
    network = Network(lambda rngs: PixtralVision(CONFIG, dtype=jnp.float32, rngs=rngs))
    return network, jax.tree.map(jnp.asarray, tree_of(tensors, rules, network.abstract))


@cache
def forward():
    network = ours()[0]
    return jax.jit(lambda params, pixels: network.bind(params)(pixels))


def run(params, pixels):
    return np.asarray(forward()(params, pixels))


def run_peers(pixels, dtype=torch.float32):
    tower, projector = (torch.nn.Module.to(copy.deepcopy(peer), dtype) for peer in peers())
    with torch.no_grad():
        hidden = tower(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype)).last_hidden_state
        return projector(hidden).float().numpy()


def picture(rng, rows, columns, batch=1):
    return rng.normal(size=(batch, rows * CONFIG.patch_size, columns * CONFIG.patch_size, 3)).astype(np.float32)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_grid_gives_the_peers_patches(grid, rng):
    pixels = picture(rng, *grid)
    expected = run_peers(pixels)
    assert expected.shape == (1, grid[0] * grid[1], CONFIG.text_width)
    assert relative_l2(run(ours()[1], pixels), expected) < PEER_F32


def test_projector_equals_the_peers(rng):
    network, params = ours()
    hidden = rng.normal(size=(2, 6, CONFIG.width)).astype(np.float32)
    with torch.no_grad():
        expected = peers()[1](torch.from_numpy(hidden)).numpy()
    assert relative_l2(network.bind(params).finish(jnp.asarray(hidden)), expected) < NETWORK_F32


@pytest.mark.parametrize("path", list(dict(flatten(ours()[1]))))
def test_one_changed_weight_is_noticed(path, rng):
    pixels = picture(rng, 2, 5)
    expected = run_peers(pixels)
    leaves = dict(flatten(ours()[1]))
    assert relative_l2(run(unflatten(leaves), pixels), expected) < PEER_F32
    leaves[path] = leaves[path].at[(0,) * leaves[path].ndim].add(0.1)
    assert relative_l2(run(unflatten(leaves), pixels), expected) > PEER_F32


def test_two_swapped_patches_are_noticed(rng):
    pixels = picture(rng, 2, 5)
    expected = run_peers(pixels)
    swapped = pixels.copy()
    swapped[:, :4, :4], swapped[:, 4:, 16:] = pixels[:, 4:, 16:], pixels[:, :4, :4]
    out = run(ours()[1], swapped)
    assert relative_l2(out, expected) > 0.1
    # swapping the results back does not undo it: a patch says something else in another place
    assert relative_l2(out[:, [9, *range(1, 9), 0]], expected) > 0.01


def test_a_picture_is_not_its_transpose(rng):
    """Rows and columns turn by different frequencies."""
    pixels = picture(rng, 3, 3)
    patches = pixels.reshape(1, 3, 4, 3, 4, 3).transpose(0, 3, 2, 1, 4, 5).reshape(pixels.shape)
    back = run(ours()[1], patches).reshape(3, 3, -1).transpose(1, 0, 2).reshape(1, 9, -1)
    assert relative_l2(back, run(ours()[1], pixels)) > 10 * PEER_F32


def test_pictures_of_a_batch_do_not_see_each_other(rng):
    pixels = picture(rng, 2, 5, batch=2)
    both = run(ours()[1], pixels)
    assert relative_l2(both[0], both[1]) > 0.1
    for index in range(2):
        assert relative_l2(both[index], run(ours()[1], pixels[index : index + 1])[0]) < NETWORK_F32


def test_part_by_part_is_the_forward(rng):
    pixels, params = picture(rng, 2, 5), ours()[1]
    whole = run(params, pixels)
    stack = StackedNetwork(lambda rngs: PixtralVision(CONFIG, dtype=jnp.float32, rngs=rngs))
    assert stack.num_blocks == CONFIG.num_layers
    assert {name for names in stack.parts for name in names} == set(stack.block_abstract)
    ends = stack.bind_outer({name: leaf for name, leaf in params.items() if name != "blocks"})
    outputs = []
    for order in (range(CONFIG.num_layers), reversed(range(CONFIG.num_layers))):
        x, rotation = ends.embed(jnp.asarray(pixels))
        for layer in order:
            block = jax.tree.map(lambda leaf, i=layer: leaf[i], params["blocks"])
            attention, mlp = ({name: block[name] for name in names} for names in stack.parts)
            x = stack.bind_part(1, mlp).transform(stack.bind_part(0, attention).attend(x, rotation))
        outputs.append(ends.finish(x))
    assert relative_l2(outputs[0], whole) < NETWORK_F32
    assert relative_l2(outputs[1], whole) > PEER_F32


def test_bfloat16_is_as_close_as_the_peers(rng):
    pixels = picture(rng, 3, 3)
    oracle = run_peers(pixels)
    network = Network(lambda rngs: PixtralVision(CONFIG, dtype=jnp.bfloat16, rngs=rngs))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), ours()[1])
    out = jax.jit(lambda p, x: network.bind(p)(x))(params, pixels)
    assert out.dtype == jnp.bfloat16
    error = relative_l2(out.astype(jnp.float32), oracle)
    assert 0 < error < BF16_RATIO * relative_l2(run_peers(pixels, torch.bfloat16), oracle)


def test_angles_by_hand():
    # head width 8, base 16: frequencies 1, 1/2, 1/4, 1/8; the even ones by row, the odd ones by column
    angles = grid_angles(2, 3, 8, base=16.0)
    assert angles.shape == (6, 4)
    np.testing.assert_allclose(angles[5], [1, 1 / 4, 2 / 2, 2 / 8], rtol=ELEMENTWISE_F32)
    np.testing.assert_allclose(angles[2], [0, 0, 1, 1 / 4], rtol=ELEMENTWISE_F32)
    np.testing.assert_allclose(angles[3], [1, 1 / 4, 0, 0], rtol=ELEMENTWISE_F32)


def test_angles_of_the_published_size_equal_the_peers():
    tower = PixtralVisionModel(PeerConfig(num_hidden_layers=0, intermediate_size=1))
    rows, columns = 36, 64
    places = torch.stack([torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)], dim=-1)
    cos, sin = tower.patch_positional_embedding(torch.zeros(1), places)
    angles = grid_angles(rows, columns, 64, base=PIXTRAL_12B_VISION.rotary_base)
    # an angle of up to 63 radians is known to 4e-6
    np.testing.assert_allclose(np.cos(angles), cos[:, :32].numpy(), atol=8e-6)
    np.testing.assert_allclose(np.sin(angles), sin[:, :32].numpy(), atol=8e-6)


def test_part_of_a_patch_is_refused():
    network = ours()[0]
    with pytest.raises(ValueError, match=r"10x8 .* whole patches of 4"):
        jax.eval_shape(lambda p, x: network.bind(p)(x), network.abstract, np.zeros((1, 8, 10, 3), np.float32))


def test_published_sizes():
    network = Network(lambda rngs: PixtralVision(PIXTRAL_12B_VISION, dtype=jnp.bfloat16, rngs=rngs))
    shapes = {path: leaf.shape for path, leaf in flatten(network.abstract)}
    assert shapes["patch_embedding/kernel"] == (768, 1024)
    assert shapes["blocks/mlp/gate/kernel"] == (24, 1024, 4096)
    assert shapes["projector/out/kernel"] == (5120, 5120)
    assert {path for path in shapes if "bias" in path} == {"projector/up/bias", "projector/out/bias"}
    assert {leaf.dtype for _, leaf in flatten(network.abstract)} == {jnp.dtype(jnp.bfloat16)}
    out = jax.eval_shape(lambda p, x: network.bind(p)(x), network.abstract, np.zeros((1, 576, 1024, 3), np.float32))
    assert (out.shape, out.dtype) == ((1, 36 * 64, 5120), jnp.bfloat16)
    assert from_json(PixtralVisionConfig, to_json(CONFIG), "here") == CONFIG
