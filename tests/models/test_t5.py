"""The T5 encoder against upstream's embeddings, and its parts by hand."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.config import T5Config
from jax_interp.models.t5 import T5Encoder, relative_buckets
from jax_interp.nn.params import Network, StackedNetwork, flatten, unflatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests import golden
from tests.golden import relative_l2
from tests.tolerances import BLOCK_F32, NETWORK_F32

CONFIG = T5Config(vocab_size=40, width=16, num_layers=3, num_heads=3, head_width=8, mlp_width=24)


@cache
def encoder(config=CONFIG):
    network = Network(lambda rngs: T5Encoder(config, dtype=jnp.float32, rngs=rngs))
    draw = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: draw.normal(0.1, 0.3, leaf.shape).astype(np.float32), network.abstract)
    return network, params


@cache
def forward(network):
    return jax.jit(lambda params, ids, mask: network.bind(params)(ids, mask))


def run(network, params, ids, mask):
    return np.asarray(forward(network)(params, ids, mask))


@pytest.fixture(scope="module")
def upstreams(converted):
    """(network, float32 parameters) of the golden checkpoint, through the real conversion."""
    found = find_component(converted, "text_encoder")
    network = Network(lambda rngs: T5Encoder(found.config, dtype=jnp.float32, rngs=rngs))
    return network, load_params(found, network.abstract, jnp.float32)


def golden_prompt(index):
    """(ids, mask) padded to 512, and upstream's rows of the prompt."""
    arrays = golden.load("L7_t5")
    ids = arrays[f"ids_{index}"]
    padded = np.zeros((1, 512), np.int32)
    padded[0, : len(ids)] = ids
    return padded, (np.arange(512) < len(ids))[None].astype(np.int32), arrays[f"emb_{index}"]


@pytest.mark.parametrize("index", range(7))
def test_embeddings_equal_upstreams(upstreams, index):
    ids, mask, expected = golden_prompt(index)
    assert relative_l2(run(*upstreams, ids=ids, mask=mask)[0, : len(expected)], expected) < NETWORK_F32


@pytest.mark.parametrize(
    "path", ["relative_bias", "blocks/attention/key/kernel", "blocks/mlp_norm/scale", "blocks/mlp/down/kernel"]
)
def test_one_changed_weight_is_noticed(upstreams, path):
    network, params = upstreams
    leaves = dict(flatten(params))
    leaves[path] = leaves[path].at[(0,) * leaves[path].ndim].add(0.05)
    ids, mask, expected = golden_prompt(5)
    assert relative_l2(run(network, unflatten(leaves), ids, mask)[0, : len(expected)], expected) > NETWORK_F32


def prompts(rng, *lengths, size=20):
    ids = rng.integers(0, CONFIG.vocab_size, (len(lengths), size)).astype(np.int32)
    mask = (np.arange(size) < np.array(lengths)[:, None]).astype(np.int32)
    return ids * mask, mask


def test_small_offsets_have_a_bucket_each_and_far_ones_share():
    # 32 buckets up to distance 128: 0..15 look back, 16..31 ahead; 8 single distances, then 8 ranges a side
    offsets = np.array([0, -1, -7, -8, -11, -12, -127, -128, -500, 1, 7, 8, 15, 16, 31, 32, 64, 128, 511])
    expected = [0, 1, 7, 8, 8, 9, 15, 15, 15, 17, 23, 24, 25, 26, 27, 28, 30, 31, 31]
    np.testing.assert_array_equal(relative_buckets(offsets, num_buckets=32, max_distance=128), expected)


def test_ranges_are_even_in_the_logarithm():
    offsets = -np.arange(8, 128)
    buckets = relative_buckets(offsets, num_buckets=32, max_distance=128)
    exact = [8 + math.log(d / 8) / math.log(16) * 8 for d in range(8, 128)]
    assert all(bucket in (math.floor(x), math.floor(x + 1e-9)) for bucket, x in zip(buckets, exact, strict=True))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_computes_in_the_dtype_of_its_parameters(dtype, rng):
    network = Network(lambda rngs: T5Encoder(CONFIG, dtype=dtype, rngs=rngs))
    out = jax.eval_shape(lambda p: network.bind(p)(*prompts(rng, 5, 20)), network.abstract)
    assert (out.shape, out.dtype) == ((2, 20, 16), dtype)
    assert {leaf.dtype for _, leaf in flatten(network.abstract)} == {jnp.dtype(dtype)}


def test_blocks_are_one_stack_and_the_bias_is_shared():
    shapes = {path: leaf.shape for path, leaf in flatten(encoder()[0].abstract)}
    assert shapes["blocks/attention/query/kernel"] == (3, 16, 24)
    assert shapes["relative_bias"] == (32, 3)
    assert {path for path in shapes if "bias" in path} == {"relative_bias"}
    assert all(shape[0] == 3 for path, shape in shapes.items() if path.startswith("blocks/"))


def test_stacked_blocks_start_different_from_each_other():
    kernel = encoder()[0].random_params()["blocks"]["attention"]["query"]["kernel"]
    assert relative_l2(kernel[0], kernel[1]) > 0.5


def test_one_layer_by_hand(rng):
    config = T5Config(vocab_size=9, width=4, num_layers=1, num_heads=2, head_width=3, mlp_width=5)
    network, params = encoder(config)
    ids, mask = np.array([[3, 1, 8, 0]], np.int32), np.array([[1, 1, 1, 0]], np.int32)
    out = run(network, params, ids, mask)[0]

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale

    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    block = jax.tree.map(lambda leaf: leaf[0], p["blocks"])
    x = p["embedding"][ids[0]]
    h = norm(x, block["attention_norm"]["scale"])
    q, k, v = ((h @ block["attention"][name]["kernel"]).reshape(4, 2, 3) for name in ("query", "key", "value"))
    mixed = np.zeros((4, 2, 3))
    for head in range(2):
        for i in range(4):
            scores = [q[i, head] @ k[j, head] + p["relative_bias"][16 * (j > i) + abs(j - i), head] for j in range(3)]
            weights = np.exp(scores) / np.exp(scores).sum()
            mixed[i, head] = sum(weights[j] * v[j, head] for j in range(3))
    x = x + mixed.reshape(4, 6) @ block["attention"]["out"]["kernel"]
    hidden = np.maximum(norm(x, block["mlp_norm"]["scale"]) @ block["mlp"]["up"]["kernel"], 0)
    x = x + hidden @ block["mlp"]["down"]["kernel"]
    assert relative_l2(out, norm(x, p["final_norm"]["scale"])) < BLOCK_F32


def test_padding_does_not_reach_the_prompt(rng):
    network, params = encoder()
    ids, mask = prompts(rng, 7, 20)
    noise = np.where(mask == 1, ids, rng.integers(0, CONFIG.vocab_size, ids.shape).astype(np.int32))
    plain, noisy = run(network, params, ids, mask), run(network, params, noise, mask)
    np.testing.assert_array_equal(noisy[0, :7], plain[0, :7])
    unmasked = run(network, params, ids, np.ones_like(mask))
    assert relative_l2(unmasked[0, :7], plain[0, :7]) > 1e-3
    assert np.isfinite(run(network, params, ids, np.zeros_like(mask))).all()


def test_a_prompt_does_not_depend_on_its_neighbours(rng):
    network, params = encoder()
    ids, mask = prompts(rng, 7, 20, 1)
    batch = run(network, params, ids, mask)
    for row in range(len(ids)):
        alone = run(network, params, ids[row : row + 1], mask[row : row + 1])
        assert relative_l2(batch[row], alone[0]) < NETWORK_F32


def test_block_by_block_is_the_forward(rng):
    network, params = encoder()
    ids, mask = prompts(rng, 7, 20)
    whole = run(network, params, ids, mask)
    stack = StackedNetwork(lambda rngs: T5Encoder(CONFIG, dtype=jnp.float32, rngs=rngs))
    assert stack.block_abstract["attention"]["query"]["kernel"].shape == (16, 24)
    ends = stack.bind_outer({name: leaf for name, leaf in params.items() if name != "blocks"})
    outputs = []
    for order in (range(CONFIG.num_layers), reversed(range(CONFIG.num_layers))):
        x, bias = ends.embed(jnp.asarray(ids), jnp.asarray(mask))
        for layer in order:
            block = jax.tree.map(lambda leaf, i=layer: leaf[i], params["blocks"])
            attention, mlp = ({name: block[name] for name in names} for names in stack.parts)
            x = stack.bind_part(1, mlp).transform(stack.bind_part(0, attention).attend(x, bias))
        outputs.append(ends.finish(x))
    assert relative_l2(outputs[0], whole) < NETWORK_F32
    assert relative_l2(outputs[1], whole) > NETWORK_F32
