"""One pass of an encoder, on networks whose output can be computed by hand."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from jax_interp.nn.collectives import ONE_DEVICE
from jax_interp.nn.params import flatten
from jax_interp.pipeline.stages.encoder import EncoderStage
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.description import PARAMS_FOLDER, Manifest
from jax_interp.runtime.checkpoint.param_files import write_params
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import Placement


class Block(nnx.Module):
    """Adds to the input what is shared, then multiplies it."""

    PARTS = (("added",), ("gain",))

    def __init__(self, rngs):
        self.added, self.gain = (nnx.Param(jax.random.uniform(rngs.params(), ())) for _ in range(2))

    def attend(self, x, *others):
        *shared, collectives = others
        assert collectives is not None
        return x + self.added[...] * sum(shared, start=jnp.ones_like(x))

    def transform(self, x, collectives=ONE_DEVICE):
        return x * self.gain[...]


class Toy(nnx.Module):
    """Three blocks between `x - offset` and `-x`."""

    def __init__(self, config, *, dtype, rngs):
        self.offset = nnx.Param(jnp.asarray(config["offset"], dtype))
        self.blocks = nnx.vmap(lambda keys: Block(keys), in_axes=0, out_axes=0)(rngs.split(3))

    def finish(self, x):
        return -x


class Alone(Toy):
    def embed(self, x):
        return x - self.offset[...]


class Sharing(Toy):
    def embed(self, x, by):
        return x - self.offset[...], by


class AloneStage(EncoderStage[Alone]):
    NETWORK = Alone

    @classmethod
    def activations(cls, config, size, workload):
        return 0


class SharingStage(AloneStage):
    NETWORK = Sharing
    SHARED_SPECS = P(None, "tensor")


ADDED, GAIN = np.asarray([1.0, 2.0, 4.0], np.float32), np.asarray([2.0, 0.5, 3.0], np.float32)
X = np.asarray([[1.0, -2.0, 5.0, 0.25]], np.float32)
BY = np.asarray([[10.0, 20.0, 30.0, 40.0]], np.float32)


def expected(x, by: Any = 0.0):
    x = x - 3
    for added, gain in zip(ADDED, GAIN, strict=True):
        x = (x + added * (1 + by)) * gain
    return -x


@pytest.fixture
def found(tmp_path):
    params = {"offset": np.float32(3), "blocks": {"added": ADDED, "gain": GAIN}}
    write_params(tmp_path / PARAMS_FOLDER, params)
    described = {path: {"shape": list(np.shape(leaf)), "dtype": "float32"} for path, leaf in flatten(params)}
    return ConvertedComponent(
        tmp_path, "text_encoder", {"offset": 3.0}, "float32", cast(Manifest, {"params": described})
    )


@pytest.mark.parametrize("kind", ["resident", "offloaded", "streamed"])
def test_a_pass_by_hand(found, kind):
    stage = AloneStage(found, "float32")
    stage.place(Placement(kind))
    for x in (X, 2 * X, X[:, :2]):
        np.testing.assert_array_equal(stage.forward(x), expected(x))
    stage.offload()
    np.testing.assert_array_equal(stage.forward(X), expected(X))


def test_what_all_blocks_read_reaches_each(found):
    stage = SharingStage(found, "float32")
    np.testing.assert_array_equal(stage.forward(X, BY), expected(X, BY))
    assert (stage.forward(X, 2 * BY) != expected(X, BY)).all()


@pytest.mark.parametrize("kind", ["resident", "sharded", "streamed"])
@pytest.mark.parametrize("shape", [MeshShape(sequence=2), MeshShape(data=2, tensor=2)], ids=str)
def test_every_device_of_a_mesh_has_the_whole_input(found, shape, kind):
    stage = AloneStage(found, "float32", DeviceMesh(shape))
    stage.place(Placement(kind))
    np.testing.assert_array_equal(stage.forward(X), expected(X))


def test_what_is_shared_is_divided_as_the_class_says(found):
    stage = SharingStage(found, "float32", DeviceMesh(MeshShape(tensor=2)))
    _, [shared] = stage._embed(stage.outer, *stage.devices.put((X, BY)))
    assert {shard.data.shape for shard in shared.addressable_shards} == {(1, 2)}


def test_the_same_shapes_compile_once(found):
    stage: Any = AloneStage(found, "float32")
    stage.forward(X)
    stage.forward(2 * X)
    assert stage._embed._cache_size() == stage._finish._cache_size() == 1
    assert [part._cache_size() for part in stage._parts] == [1, 1]
