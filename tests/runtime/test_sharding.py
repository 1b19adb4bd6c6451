"""How weights are split and divided among devices, on the trees of the real networks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jax_interp.config import DIT_7B, DIT_14B, T5_11B, DiTConfig, T5Config
from jax_interp.errors import UsageError
from jax_interp.models.dit import DiT
from jax_interp.models.t5 import T5Encoder
from jax_interp.nn.params import StackedNetwork, flatten, unflatten
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh import DeviceMesh, local_shapes
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.sharding import check_split, gather, gathered_specs, sharded_specs

SMALL_DIT = DiTConfig(
    width=32, num_heads=4, head_width=12, num_blocks=2, mlp_width=48, text_width=20, adaln_rank=8, grid=(3, 4, 4)
)
SMALL_T5 = T5Config(vocab_size=30, width=20, num_layers=2, num_heads=4, head_width=6, mlp_width=36)
NETWORKS = {"small DiT": SMALL_DIT, "7B": DIT_7B, "14B": DIT_14B, "small T5": SMALL_T5, "T5 11B": T5_11B}

QUERIES, OUT = P(None, "tensor"), P("tensor", None)
SPLIT = {
    DiT: [
        {
            f"{kind}_attention/{name}/kernel": OUT if name == "out" else QUERIES
            for kind in ("self", "cross")
            for name in ("query", "key", "value", "out")
        },
        {"mlp/up/kernel": QUERIES, "mlp/down/kernel": OUT},
    ],
    T5Encoder: [
        {f"attention/{name}/kernel": OUT if name == "out" else QUERIES for name in ("query", "key", "value", "out")},
        {"mlp/up/kernel": QUERIES, "mlp/down/kernel": OUT},
    ],
}
"""What `tensor` splits, by network and part; everything else is whole."""


def stacked(config):
    build: Any = DiT if isinstance(config, DiTConfig) else T5Encoder
    return build, StackedNetwork(lambda rngs: build(config, dtype=jnp.bfloat16, rngs=rngs))


def parts(config):
    build, network = stacked(config)
    assert len(network.parts) == len(SPLIT[build])
    return [(network.part_abstract(part), SPLIT[build][part]) for part in range(len(network.parts))]


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_heads_and_hidden_units_are_split_and_nothing_else(config):
    for abstract, split in parts(config):
        specs = dict(flatten(gathered_specs(abstract)))
        assert {path: spec for path, spec in specs.items() if any(spec)} == split
        leaves = dict(flatten(abstract))
        assert specs.keys() == leaves.keys()
        assert all(len(spec) == leaves[path].ndim for path, spec in specs.items())


def test_an_unknown_weight_is_kept_whole():
    abstract = {"gate": {"kernel": jax.ShapeDtypeStruct((4, 4), jnp.float32)}, "attention": {"scale": np.ones(3)}}
    assert gathered_specs(abstract) == {"gate": {"kernel": P(None, None)}, "attention": {"scale": P(None)}}


REAL_MESHES = [
    MeshShape(sequence=2),
    MeshShape(data=2, sequence=2),
    MeshShape(sequence=8),
    MeshShape(2, 2, 2),
    MeshShape(sequence=4, tensor=2),
]


@pytest.mark.parametrize("shape", REAL_MESHES, ids=str)
@pytest.mark.parametrize("config", [DIT_7B, DIT_14B, T5_11B], ids=["7B", "14B", "T5 11B"])
def test_every_device_holds_its_share_of_the_published_networks(config, shape):
    devices = DeviceMesh(shape)
    for abstract, split in parts(config):
        shares = sharded_specs(abstract, devices)
        local = dict(flatten(local_shapes(abstract, devices.shardings(abstract, shares))))
        for path, leaf in flatten(abstract):
            pieces = devices.num_shards * (shape.tensor if path in split else 1) if leaf.ndim > 1 else 1
            assert math.prod(local[path].shape) * pieces == math.prod(leaf.shape), path
        # What is not divided among all are norms, and modulations for `tensor`.
        kernels = nbytes([leaf for path, leaf in flatten(abstract) if path in split])
        assert nbytes(local) < (kernels / shape.tensor + nbytes(abstract) - kernels) / devices.num_shards + 4096


def test_shares_by_hand():
    abstract = {
        "attention": {
            "query": {"kernel": jax.ShapeDtypeStruct((8, 6), jnp.float32)},
            "out": {"kernel": jax.ShapeDtypeStruct((8, 6), jnp.float32)},
        },
        "thin": jax.ShapeDtypeStruct((3, 4), jnp.float32),
        "odd": jax.ShapeDtypeStruct((3, 5), jnp.float32),
        "scale": jax.ShapeDtypeStruct((8,), jnp.float32),
    }
    both = ("data", "sequence")
    assert sharded_specs(abstract, DeviceMesh(MeshShape(2, 2, 2))) == {
        "attention": {
            "query": {"kernel": P(both, "tensor")},
            "out": {"kernel": P(("tensor", *both), None)},
        },
        "thin": P(None, both),
        "odd": P(None, None),
        "scale": P(None),
    }
    for shape in (MeshShape(tensor=2), MeshShape()):
        assert sharded_specs(abstract, DeviceMesh(shape)) == gathered_specs(abstract)


def random_like(abstract, rng):
    return unflatten({path: rng.standard_normal(leaf.shape).astype(leaf.dtype) for path, leaf in flatten(abstract)})


def put_together(params, devices, shares, whole):
    """`params`, put on the devices as `shares` say and gathered there as `whole` say."""
    return jax.jit(
        jax.shard_map(
            lambda params: gather(params, shares, whole),
            mesh=devices.mesh,
            in_specs=(shares,),
            out_specs=whole,
            check_vma=False,
        )
    )(devices.put(params, shares))


def assert_whole_everywhere(gathered, params, devices, whole):
    """Every device has every bit that `whole` gives it."""
    shardings = dict(flatten(devices.shardings(params, whole)))
    originals = dict(flatten(params))
    for path, array in flatten(gathered):
        assert array.sharding.is_equivalent_to(shardings[path], array.ndim), path
        assert len(array.addressable_shards) == devices.shape.size
        for shard in array.addressable_shards:
            assert np.asarray(shard.data).tobytes() == originals[path][shard.index].tobytes(), path


GATHER_MESHES = [
    MeshShape(data=2),
    MeshShape(sequence=4),
    MeshShape(data=2, sequence=2, tensor=2),
    MeshShape(data=4, tensor=2),
    MeshShape(sequence=2, tensor=4),
    MeshShape(sequence=3),
    MeshShape(data=3, tensor=2),
]


@pytest.mark.parametrize("shape", GATHER_MESHES, ids=str)
@pytest.mark.parametrize("config", [SMALL_DIT, SMALL_T5], ids=["DiT", "T5"])
def test_shares_put_together_are_the_original(config, shape, rng):
    devices = DeviceMesh(shape)
    divided = 0
    for abstract, _ in parts(config):
        params = random_like(abstract, rng)
        shares, whole = sharded_specs(abstract, devices), gathered_specs(abstract)
        divided += shares != whole
        assert_whole_everywhere(put_together(params, devices, shares, whole), params, devices, whole)
    assert divided


def test_shares_in_another_order_would_be_noticed(rng):
    devices = DeviceMesh(MeshShape(data=2, sequence=2))
    params = {"kernel": rng.standard_normal((8, 3)).astype(np.float32)}
    whole, shares = {"kernel": P(None, None)}, {"kernel": P(("data", "sequence"), None)}
    assert_whole_everywhere(put_together(params, devices, shares, whole), params, devices, whole)
    turned = put_together(params, devices, {"kernel": P(("sequence", "data"), None)}, whole)
    assert_whole_everywhere(turned, params, devices, whole)
    mixed = jax.jit(
        jax.shard_map(
            lambda params: gather(params, {"kernel": P(("sequence", "data"), None)}, whole),
            mesh=devices.mesh,
            in_specs=(shares,),
            out_specs=whole,
            check_vma=False,
        )
    )(devices.put(params, shares))
    with pytest.raises(AssertionError):
        assert_whole_everywhere(mixed, params, devices, whole)


COUNTS = {"heads": 32, "hidden units": 16384}


@pytest.mark.parametrize("tensor", [1, 2, 4, 8, 16])
def test_a_split_that_works(tensor):
    check_split("diffusion_transformer", MeshShape(tensor=tensor), COUNTS)


def test_a_split_that_does_not_work_is_said_with_those_that_would():
    with pytest.raises(UsageError) as caught:
        check_split("diffusion_transformer", MeshShape(data=2, tensor=3), COUNTS)
    assert str(caught.value) == (
        "--mesh data=2,sequence=1,tensor=3: tensor=3 does not divide the 32 heads and 16384 hidden units of the"
        " diffusion_transformer; tensor may be 1, 2, 4, 8, 16"
    )


def test_only_what_does_not_divide_is_named():
    with pytest.raises(UsageError, match=r"does not divide the 40 heads of the .*; tensor may be 1, 2, 4, 5, 8, 10$"):
        check_split("diffusion_transformer", MeshShape(tensor=16), {"heads": 40, "hidden units": 20480})
