"""The language model against transformers' Mistral and Llama, live, and its cache, rotary pairs and parts by hand."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from convert.mapping.ops import halved_pairs
from jax_interp.config import LLAMA_2_7B, LLAMA_3_1_8B, PIXTRAL_12B_TEXT, DecoderConfig, from_json, to_json
from jax_interp.models.decoder_lm import DecoderBlock, DecoderLM, empty_cache, last_of, rotary_speeds
from jax_interp.nn.params import Network, StackedNetwork, flatten, unflatten
from tests.golden import relative_l2
from tests.models.decoder_peers import CONFIGS, LLAMA, MISTRAL, cast, logits_of, peer
from tests.tolerances import BF16_RATIO, BLOCK_F32, ELEMENTWISE_F32, NETWORK_F32, PEER_F32


@cache
def network(config, dtype=jnp.float32):
    return Network(lambda rngs: DecoderLM(config, dtype=dtype, rngs=rngs))


@cache
def steps(config, dtype=jnp.float32):
    """(whole, prefill, decode), each jitted on its own."""
    bind = network(config, dtype).bind

    def prefill(params, ids, lengths, cache):
        model = bind(params)
        return model.prefill(model.embed(ids), lengths, cache)

    return (
        jax.jit(lambda params, ids: bind(params)(ids)),
        jax.jit(prefill),
        jax.jit(lambda params, ids, positions, cache: bind(params).decode(ids, positions, cache)),
    )


def prompts(rng, *lengths, size=20):
    """Prompts of these lengths, with noise as padding."""
    return rng.integers(0, 97, (len(lengths), size)).astype(np.int32), jnp.array(lengths, jnp.int32)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_transformers(name, rng):
    model, params = peer(name)
    ids, _ = prompts(rng, 100, 100, size=100)
    ours = steps(CONFIGS[name])[0](params, ids)
    assert ours.dtype == jnp.float32
    assert relative_l2(ours, logits_of(model, ids)) < PEER_F32


@pytest.mark.parametrize(
    "path", ["embedding", "blocks/attention/key/kernel", "blocks/mlp/gate/kernel", "blocks/mlp_norm/scale"]
)
@pytest.mark.parametrize("name", ["mistral", "llama 3.1"])
def test_one_changed_weight_is_noticed(name, path, rng):
    model, params = peer(name)
    ids, _ = prompts(rng, 100, 100, size=100)
    leaves = dict(flatten(params))
    leaves[path] = leaves[path].copy()
    leaves[path][(ids[0, 0],) if path == "embedding" else (0,) * leaves[path].ndim] += 0.05
    assert relative_l2(steps(CONFIGS[name])[0](unflatten(leaves), ids), logits_of(model, ids)) > PEER_F32


@pytest.mark.parametrize(
    "change", [{"norm_epsilon": 1e-6}, {"rotary_stretch": 1.0}, {"rotary_stretched_turns": (2.0, 4.0)}]
)
def test_one_changed_setting_is_noticed(change, rng):
    model, params = peer("llama 3.1")
    ids, _ = prompts(rng, 100, 100, size=100)
    changed = network(replace(LLAMA, **change)).bind(params)(ids)
    assert relative_l2(changed, logits_of(model, ids)) > PEER_F32


@pytest.mark.parametrize("name", ["mistral", "llama 3.1"])
def test_bfloat16_is_as_accurate_as_pytorchs(name, rng):
    model: Any
    model, params = peer(name)
    ids, _ = prompts(rng, *[64] * 4, size=64)
    oracle = logits_of(model, ids)
    theirs = logits_of(copy.deepcopy(model).to(torch.bfloat16), ids)
    ours = steps(CONFIGS[name], jnp.bfloat16)[0](cast(params, jnp.bfloat16), ids)
    assert relative_l2(ours, oracle) < BF16_RATIO * relative_l2(theirs, oracle)


@pytest.mark.parametrize(
    ("name", "lengths"),
    [("mistral", (9,)), ("mistral", (20, 7)), ("mistral", (1, 13)), ("llama 3.1", (20, 7)), ("llama 2", (20, 7))],
)
def test_decoding_with_the_cache_is_the_full_computation(name, lengths, rng):
    config, (_, params) = CONFIGS[name], peer(name)
    ids, lengths = prompts(rng, *lengths)
    _, prefill, decode = steps(config)
    logits, cache = prefill(params, ids, lengths, empty_cache(config, len(lengths), 32, dtype=jnp.float32))
    rows, seen = np.arange(len(lengths)), [logits]
    texts = np.zeros((2, 100), np.int32)
    texts[rows, :20] = ids
    for step in range(6):
        tokens = np.argmax(logits, axis=-1).astype(np.int32)
        texts[rows, lengths + step] = tokens
        logits, cache = decode(params, tokens, lengths + step, cache)
        seen.append(logits)
    full = np.asarray(steps(config)[0](params, texts))
    for step, logits in enumerate(seen):
        for row in rows:
            assert relative_l2(logits[row], full[row, lengths[row] - 1 + step]) < NETWORK_F32


def test_a_wrong_position_or_cache_is_noticed(rng):
    _, params = peer("mistral")
    ids, lengths = prompts(rng, 9)
    whole, prefill, decode = steps(MISTRAL)
    text = np.zeros((2, 100), np.int32)
    text[0, :20] = ids
    _, cache = prefill(params, ids, lengths, empty_cache(MISTRAL, 1, 32, dtype=jnp.float32))
    expected = whole(params, text)[:1, 9]
    right, _ = decode(params, ids[:, 9], lengths, cache)
    late, _ = decode(params, ids[:, 9], lengths + 1, cache)
    forgetful, _ = decode(params, ids[:, 9], lengths, jax.tree.map(lambda leaf: leaf.at[:, :, 3].set(0), cache))
    assert relative_l2(right, expected) < NETWORK_F32
    assert min(relative_l2(late, expected), relative_l2(forgetful, expected)) > PEER_F32


def test_an_image_takes_the_place_of_tokens(rng):
    """Embeddings are a prompt like any other: those of another's tokens give that one's logits."""
    _, params = peer("mistral")
    ids, lengths = prompts(rng, 20, 20)
    lengths, cache = lengths[:1], empty_cache(MISTRAL, 1, 32, dtype=jnp.float32)

    def prefill_shown(params, ids):
        model = network(MISTRAL).bind(params)
        plain, other = model.embed(ids)
        return model.prefill(plain.at[:5].set(other[:5])[None], lengths, cache)[0]

    shown = np.where(np.arange(20) < 5, ids[1], ids[0])[None]
    prefill = steps(MISTRAL)[1]
    logits = jax.jit(prefill_shown)(params, ids)
    assert relative_l2(logits, prefill(params, shown, lengths, cache)[0]) < NETWORK_F32
    assert relative_l2(logits, prefill(params, ids[:1], lengths, cache)[0]) > PEER_F32


def test_blocks_part_by_part_are_the_forward(rng):
    _, params = peer("llama 3.1")
    ids, lengths = prompts(rng, 20, 7)
    _, prefill, decode = steps(LLAMA)
    logits, whole = prefill(params, ids, lengths, empty_cache(LLAMA, 2, 32, dtype=jnp.float32))
    following, whole = decode(params, ids[:, 0], lengths, whole)

    stack = StackedNetwork(lambda rngs: DecoderLM(LLAMA, dtype=jnp.float32, rngs=rngs))
    ends = stack.bind_outer({name: leaf for name, leaf in params.items() if name != "blocks"})
    blocks = [jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"]) for i in range(stack.num_blocks)]
    empty = empty_cache(LLAMA, 2, 32, dtype=jnp.float32)
    caches = [jax.tree.map(lambda leaf, i=i: leaf[i], empty) for i in range(stack.num_blocks)]

    attend = jax.jit(lambda params, *args: stack.bind_part(0, params).attend(*args))
    transform = jax.jit(lambda params, x: stack.bind_part(1, params).transform(x))

    def run(x, inputs, order):
        for i in order:
            attention, mlp = ({name: blocks[i][name] for name in names} for names in stack.parts)
            x, caches[i] = attend(attention, x, caches[i], inputs)
            x = transform(mlp, x)
        return x

    x = run(ends.embed(ids), ends.prompt_inputs(20), (0, 1))
    assert relative_l2(ends.finish(last_of(x, lengths))[:, 0], logits) < NETWORK_F32
    x = run(ends.embed(ids[:, :1]), ends.token_inputs(lengths), (0, 1))
    assert relative_l2(ends.finish(x)[:, 0], following) < NETWORK_F32
    for ours, theirs in zip(jax.tree.leaves(jax.tree.map(lambda *c: jnp.stack(c), *caches)), whole, strict=True):
        assert relative_l2(ours, theirs) < NETWORK_F32
    x = run(ends.embed(ids[:, :1]), ends.token_inputs(lengths), (1, 0))
    assert relative_l2(ends.finish(x)[:, 0], following) > NETWORK_F32


@pytest.mark.parametrize("name", CONFIGS)
def test_one_block_by_hand_with_neighbours_as_rotary_pairs(name, rng):
    """Weights whose rotary pairs are components 2i and 2i + 1, moved as the conversion moves them."""
    config = CONFIGS[name]
    width, shared, head = config.num_heads * config.head_width, config.num_kv_heads, config.head_width
    raw = {"query": rng.normal(0, 0.3, (width, 24)), "key": rng.normal(0, 0.3, (shared * head, 24))}
    block = Network(lambda rngs: DecoderBlock(config, dtype=jnp.float32, rngs=rngs))
    params = jax.tree.map(lambda leaf: rng.normal(0.2, 0.3, leaf.shape).astype(np.float32), block.abstract)
    for part, weight in raw.items():
        params["attention"][part]["kernel"] = halved_pairs(head).forward(weight.astype(np.float32))
    x = rng.normal(size=(5, 24)).astype(np.float32)
    outer = network(config).bind(network(config).abstract)
    cache = jax.tree.map(lambda leaf: leaf[0], empty_cache(config, 1, 5, dtype=jnp.float32))
    ours, _ = block.bind(params)(x[None], cache, outer.prompt_inputs(5))

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon) * scale

    def turn(x):
        """One complex number for each pair of neighbours."""
        pairs = x[..., 0::2] + 1j * x[..., 1::2]
        return pairs * np.exp(1j * np.arange(5)[:, None, None] * rotary_speeds(config))

    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    h = norm(x.astype(np.float64), p["attention_norm"]["scale"])
    q, k = (turn((h @ raw[part].astype(np.float32).T).reshape(5, -1, head)) for part in ("query", "key"))
    v = (h @ p["attention"]["value"]["kernel"]).reshape(5, shared, head)
    mixed = np.zeros((5, config.num_heads, head))
    for n in range(config.num_heads):
        g = n * shared // config.num_heads
        for i in range(5):
            weights = np.exp([(q[i, n] @ k[j, g].conj()).real / np.sqrt(head) for j in range(i + 1)])
            mixed[i, n] = weights / weights.sum() @ v[: i + 1, g]
    y = x + mixed.reshape(5, -1) @ p["attention"]["out"]["kernel"]
    h = norm(y, p["mlp_norm"]["scale"])
    gate = h @ p["mlp"]["gate"]["kernel"]
    y = y + (gate / (1 + np.exp(-gate)) * (h @ p["mlp"]["up"]["kernel"])) @ p["mlp"]["down"]["kernel"]
    assert relative_l2(ours[0], y) < BLOCK_F32


def test_moving_rotary_pairs_moves_back(rng):
    weight = rng.normal(size=(12, 5))  # two heads of width 6
    op = halved_pairs(6)
    np.testing.assert_array_equal(op.forward(weight).T, weight[[0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]])
    np.testing.assert_array_equal(op.inverse(op.forward(weight)), weight)


def test_slow_components_are_stretched_and_fast_ones_left():
    """Base 10000 and head width 8: 1, 0.1, 0.01 and 0.001 radians a position."""
    plain = DecoderConfig(head_width=8, rotary_base=1e4)
    np.testing.assert_allclose(rotary_speeds(plain), [1, 0.1, 0.01, 0.001], rtol=ELEMENTWISE_F32)
    # 1257 positions: 200, 20, 2 and 0.2 turns; 2 of them lie a third of the way from 1 to 4
    stretched = replace(plain, rotary_stretch=8.0, rotary_trained_length=round(400 * np.pi))
    np.testing.assert_allclose(rotary_speeds(stretched), [1, 0.1, 0.01 * (1 / 3 + 2 / 3 / 8), 0.001 / 8], rtol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_computes_in_the_dtype_of_its_parameters(dtype):
    model = network(MISTRAL, dtype)
    assert {leaf.dtype for _, leaf in flatten(model.abstract)} == {jnp.dtype(dtype)}
    cache = empty_cache(MISTRAL, 2, 9, dtype=dtype)
    ids, lengths = np.zeros((2, 4), np.int32), np.array([4, 2], np.int32)
    _, prefill, decode = steps(MISTRAL, dtype)
    logits, filled = jax.eval_shape(prefill, model.abstract, ids, lengths, cache)
    assert (logits.shape, logits.dtype) == ((2, 97), jnp.float32)
    assert jax.tree.map(jnp.shape, filled) == jax.tree.map(jnp.shape, cache)
    logits, filled = jax.eval_shape(decode, model.abstract, lengths, lengths, cache)
    assert (logits.shape, {leaf.dtype for leaf in filled}) == ((2, 97), {jnp.dtype(dtype)})


@pytest.mark.parametrize(("config", "billions"), [(PIXTRAL_12B_TEXT, 12.25), (LLAMA_2_7B, 6.74), (LLAMA_3_1_8B, 8.03)])
def test_presets_have_the_published_number_of_parameters(config, billions):
    sizes = [leaf.size for _, leaf in flatten(network(config, jnp.bfloat16).abstract)]
    assert round(sum(sizes) / 1e9, 2) == billions
    assert from_json(DecoderConfig, to_json(config), "test") == config


def test_a_tied_head_is_no_parameter_of_its_own():
    assert "head" not in network(LLAMA).abstract
    assert network(MISTRAL).abstract["head"]["kernel"].shape == (24, 97)
