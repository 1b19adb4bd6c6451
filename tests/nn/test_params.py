"""Trees in and out of modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_interp.nn.params import Network, StackedNetwork, flatten, unflatten


class Toy(nnx.Module):
    def __init__(self, *, rngs):
        self.inner = nnx.Linear(2, 3, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.inner(x)


@pytest.fixture
def network():
    return Network(lambda rngs: Toy(rngs=rngs))


def test_abstract_has_shapes_and_no_arrays(network):
    leaves = dict(flatten(network.abstract))
    assert list(leaves) == ["inner/kernel"]
    assert isinstance(leaves["inner/kernel"], jax.ShapeDtypeStruct)


def test_bind_inside_jit(network):
    params = {"inner": {"kernel": jnp.eye(2, 3)}}
    out = jax.jit(lambda p, x: network.bind(p)(x))(params, jnp.asarray([[5.0, 7.0]]))
    assert out.tolist() == [[5, 7, 0]]


def test_random_params_have_the_abstract_shapes(network):
    assert dict(flatten(network.random_params()))["inner/kernel"].shape == (2, 3)


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({}, "missing inner/kernel"),
        ({"inner": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}, "unknown inner/bias"),
        ({"inner": {"kernel": jnp.zeros((3, 2))}}, r"inner/kernel: shape \(3, 2\), expected \(2, 3\)"),
    ],
)
def test_bind_refuses_what_does_not_fit(network, params, fault):
    with pytest.raises(ValueError, match=fault):
        network.bind(params)


def test_unflatten_inverts_flatten():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert unflatten(dict(flatten(tree))) == tree


class Row(nnx.Module):
    PARTS = (("mix", "bias"), ("gain",))

    def __init__(self, *, rngs):
        self.mix = nnx.Linear(2, 2, use_bias=False, rngs=rngs)
        self.bias = nnx.Param(jnp.ones(2))
        self.gain = nnx.Linear(2, 2, use_bias=False, rngs=rngs)

    def attend(self, x):
        return jnp.tanh(self.mix(x) + self.bias[...])

    def transform(self, x):
        return jnp.sin(self.gain(x))


class Stack(nnx.Module):
    """Start, three blocks of two parts, end."""

    def __init__(self, *, rngs):
        self.start = nnx.Linear(3, 2, use_bias=False, rngs=rngs)
        self.blocks = nnx.vmap(lambda keys: Row(rngs=keys), in_axes=0, out_axes=0)(rngs.split(3))
        self.end = nnx.Linear(2, 1, use_bias=False, rngs=rngs)

    def embed(self, x):
        return self.start(x)

    def finish(self, x):
        return self.end(x)


@pytest.fixture
def stacked():
    return StackedNetwork(lambda rngs: Stack(rngs=rngs))


def piece(params, index, names):
    """The parameters `names` of block `index`."""
    return {name: jax.tree.map(lambda leaf: leaf[index], params["blocks"][name]) for name in names}


def outer(params):
    return {name: leaf for name, leaf in params.items() if name != "blocks"}


def test_a_stack_is_taken_apart(stacked):
    assert stacked.num_blocks == 3
    block = {path: leaf.shape for path, leaf in flatten(stacked.block_abstract)}
    assert block == {"mix/kernel": (2, 2), "bias": (2,), "gain/kernel": (2, 2)}
    assert stacked.parts == (("mix", "bias"), ("gain",))
    ends = {path: leaf.shape for path, leaf in flatten(stacked.outer_abstract)}
    assert ends == {"start/kernel": (3, 2), "end/kernel": (2, 1)}
    assert dict(flatten(stacked.abstract))["blocks/mix/kernel"].shape == (3, 2, 2)


def test_blocks_and_ends_compute_apart(stacked):
    params = stacked.random_params(1)
    x = np.asarray([[0.5, -1.0, 2.0]], np.float32)
    expected = x @ np.asarray(params["start"]["kernel"])
    blocks = jax.tree.map(np.asarray, params["blocks"])
    for mix, bias, gain in zip(blocks["mix"]["kernel"], blocks["bias"], blocks["gain"]["kernel"], strict=True):
        expected = np.sin(np.tanh(expected @ mix + bias) @ gain)
    expected = expected @ np.asarray(params["end"]["kernel"])

    ends = outer(params)
    traced = []

    @jax.jit
    def attend(part, h):
        traced.append("attend")
        return stacked.bind_part(0, part).attend(h)

    @jax.jit
    def transform(part, h):
        traced.append("transform")
        return stacked.bind_part(1, part).transform(h)

    h = jax.jit(lambda ends, x: stacked.bind_outer(ends).embed(x))(ends, x)
    for index in range(3):
        first, second = (piece(params, index, names) for names in stacked.parts)
        h = transform(second, attend(first, h))
    assert traced == ["attend", "transform"]  # one program serves all blocks
    out = jax.jit(lambda ends, h: stacked.bind_outer(ends).finish(h))(ends, h)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    other = (attend(piece(params, index, stacked.parts[0]), h) for index in (0, 2))
    assert not np.allclose(*other)


def test_blocks_are_refused_where_only_the_ends_belong(stacked):
    params = stacked.random_params()
    with pytest.raises(ValueError, match="unknown blocks/mix/kernel"):
        stacked.bind_outer(params)
    with pytest.raises(ValueError, match="missing end/kernel"):
        stacked.bind_outer({"start": params["start"]})


def test_parts_that_do_not_fit_are_refused(stacked):
    params = stacked.random_params()
    with pytest.raises(ValueError, match=r"gain/kernel: shape \(3, 2, 2\), expected \(2, 2\)"):
        stacked.bind_part(1, {"gain": params["blocks"]["gain"]})
    with pytest.raises(ValueError, match="missing bias"):
        stacked.bind_part(0, piece(params, 0, ("mix",)))
    with pytest.raises(ValueError, match="unknown gain/kernel"):
        stacked.bind_part(0, piece(params, 0, ("mix", "bias", "gain")))
    with pytest.raises(ValueError, match=r"missing gain/kernel.*unknown bias"):
        stacked.bind_part(1, piece(params, 0, ("mix", "bias")))


def test_a_slice_of_a_part_is_bound_where_it_is_said_to_be_one(stacked):
    half = {"gain": {"kernel": jnp.asarray([[1.0], [2.0]])}}
    abstract = {"gain": {"kernel": jax.ShapeDtypeStruct((2, 1), jnp.float32)}}
    out = jax.jit(lambda part, x: stacked.bind_part(1, part, abstract).transform(x))(half, jnp.asarray([[0.1, 0.2]]))
    np.testing.assert_allclose(out, np.sin([[0.5]]), rtol=1e-6)
    with pytest.raises(ValueError, match=r"gain/kernel: shape \(2, 1\), expected \(2, 2\)"):
        stacked.bind_part(1, half)
    with pytest.raises(ValueError, match=r"gain/kernel: shape \(2, 2\), expected \(2, 1\)"):
        stacked.bind_part(1, {"gain": {"kernel": jnp.ones((2, 2))}}, abstract)


def test_the_parameters_of_a_part(stacked):
    for part, paths in ((0, {"mix/kernel": (2, 2), "bias": (2,)}), (1, {"gain/kernel": (2, 2)})):
        assert {path: leaf.shape for path, leaf in flatten(stacked.part_abstract(part))} == paths


def test_every_parameter_of_a_block_belongs_to_one_part(stacked):
    names = [name for part in stacked.parts for name in part]
    assert sorted(names) == sorted(stacked.block_abstract)
