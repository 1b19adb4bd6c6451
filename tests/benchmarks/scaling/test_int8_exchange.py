"""What travels in 8 bits arrives within half a step of the scale that every token and head has, in one all-to-all."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from benchmarks.scaling.exchange_ways import INT8
from benchmarks.scaling.int8_exchange import in_8_bits, pack, pack_by_kernel, unpack
from benchmarks.scaling.layer_error import LayerError
from jax_interp.nn.attention import attention
from jax_interp.nn.collectives import Collectives
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from tests.golden import relative_l2
from tests.tolerances import ELEMENTWISE_F32

TOKENS = P(None, "sequence")
HALF_A_STEP = 0.5 / 127
LARGE = 100
PACKS = {"by XLA": pack, "by a kernel": pack_by_kernel}


def on_devices(ranks, attend):
    devices = DeviceMesh(MeshShape(sequence=ranks))
    program = jax.jit(
        jax.shard_map(attend, mesh=devices.mesh, in_specs=(TOKENS,) * 3, out_specs=TOKENS, check_vma=False)
    )
    return program, lambda arrays: [devices.put(x, TOKENS) for x in arrays]


def with_one_large(rng, shape, token, head):
    x = rng.standard_normal(shape).astype(np.float32)
    x[:, token] *= LARGE
    x[:, :, head] *= LARGE
    return x


def largest(x):
    return np.abs(x).max(-1, keepdims=True)


@pytest.mark.parametrize("way", INT8)
def test_it_is_attention_but_for_rounding(rng, way):
    inputs = [rng.standard_normal((2, 16, 8, 8)).astype(np.float32) for _ in range(3)]
    program, place = on_devices(4, INT8[way](4))
    error = relative_l2(program(*place(inputs)), attention(*map(jnp.asarray, inputs)))
    assert ELEMENTWISE_F32 < error < 4 * HALF_A_STEP


@pytest.mark.parametrize("way", ["int8", "int8-output-groups", "int8-kernel", "int8-kernel-output-groups"])
def test_every_token_and_head_arrives_with_its_own_scale(rng, way, monkeypatch):
    """An attention that returns a sum shows what arrived; one token and one head of each array are 100 times larger."""
    inputs = [with_one_large(rng, (2, 16, 8, 8), token, head) for token, head in ((3, 1), (9, 6), (14, 4))]
    monkeypatch.setattr("benchmarks.scaling.int8_exchange.attention", lambda q, k, v: q + k + v)
    program, place = on_devices(2, INT8[way](2))
    expected = np.add.reduce(inputs)
    sent = sum(largest(x) for x in inputs)
    allowed = HALF_A_STEP * (sent + (1.02 * largest(expected) if "output" in way else 0)) + 1e-6
    assert (np.abs(program(*place(inputs)) - expected) <= 1.001 * allowed).all()


@pytest.mark.parametrize("packing", PACKS)
@pytest.mark.parametrize("centred", [False, True])
def test_packing_keeps_every_row_apart(rng, packing, centred):
    arrays = [with_one_large(rng, (1, 6, 8, 8), token, 5).reshape(6, 2, 2, 2, 8) for token in (0, 3, 5)]
    offsets = [x[2] for x in arrays] if centred else None
    packed = PACKS[packing]([jnp.asarray(x) for x in arrays], offsets and [jnp.asarray(x) for x in offsets])
    if offsets:
        arrays = [np.concatenate([offset[None], x - offset]) for x, offset in zip(arrays, offsets, strict=True)]
    for group, buffer in enumerate(packed):
        expected = np.concatenate([np.moveaxis(x[:, group], 1, 0) for x in arrays], 1)
        assert buffer.shape == (2, 21 if centred else 18, 2, 12)
        assert (np.abs(unpack(buffer) - expected) <= 1.001 * HALF_A_STEP * largest(expected) + 1e-9).all()


@pytest.mark.parametrize("centred", [False, True])
def test_the_kernel_packs_the_same_bytes(rng, centred):
    arrays = [jnp.asarray(rng.standard_normal((6, 2, 2, 4, 16)), jnp.bfloat16) for _ in range(3)]
    offsets = [x[1].astype(jnp.float32) for x in arrays] if centred else None
    for ours, theirs in zip(pack_by_kernel(arrays, offsets), pack(arrays, offsets), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fewer_queries_than_keys(rng):
    """The last block has queries of the frames between alone."""
    q, k, v = (rng.standard_normal((1, length, 4, 8)).astype(np.float32) for length in (8, 16, 16))
    for packing in PACKS.values():
        program, place = on_devices(2, in_8_bits(2, groups=2, centred=True, pack=packing))
        error = relative_l2(program(*place((q, k, v))), attention(*map(jnp.asarray, (q, k, v))))
        assert error < 4 * HALF_A_STEP


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("output", [False, True])
def test_each_exchange_is_one_all_to_all(rng, groups, output):
    program, place = on_devices(2, in_8_bits(2, groups=groups, output=output))
    inputs = place([rng.standard_normal((1, 16, 4, 8)).astype(np.float32) for _ in range(3)])
    sent = [line for line in program.lower(*inputs).as_text().splitlines() if '"stablehlo.all_to_all"' in line]
    assert len(sent) == 2 * groups
    assert sum("xi8>" in line for line in sent) == groups * (2 if output else 1)


def test_the_error_of_a_layer():
    devices = DeviceMesh(MeshShape(sequence=2))
    layer_error = LayerError(devices, (32, 4, 16), jnp.float32)
    exact = layer_error.of(lambda *_, **__: Collectives(all_tokens))
    assert max(exact.values()) < ELEMENTWISE_F32
    in_int8 = layer_error.of(lambda *_, **__: Collectives(in_8_bits(2)))
    assert ELEMENTWISE_F32 < in_int8["normal"] < 4 * HALF_A_STEP
    assert in_int8["normal"] < layer_error.of_products["normal"]
    centred = layer_error.of(lambda *_, **__: Collectives(in_8_bits(2, centred=True)))
    assert centred["large_key_channels"] < 0.5 * in_int8["large_key_channels"]


def all_tokens(q, k, v):
    gathered = partial(jax.lax.all_gather, axis_name="sequence", axis=1, tiled=True)
    return attention(q, gathered(k), gathered(v))
