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
    def __init__(self, *, rngs):
        self.layer = nnx.Linear(2, 2, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.layer(x))


class Stack(nnx.Module):
    """Start, three blocks, end."""

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


def row(params, index):
    return jax.tree.map(lambda leaf: leaf[index], params["blocks"])


def outer(params):
    return {name: leaf for name, leaf in params.items() if name != "blocks"}


def test_a_stack_is_taken_apart(stacked):
    assert stacked.num_blocks == 3
    assert {path: leaf.shape for path, leaf in flatten(stacked.block_abstract)} == {"layer/kernel": (2, 2)}
    ends = {path: leaf.shape for path, leaf in flatten(stacked.outer_abstract)}
    assert ends == {"start/kernel": (3, 2), "end/kernel": (2, 1)}
    assert dict(flatten(stacked.abstract))["blocks/layer/kernel"].shape == (3, 2, 2)


def test_blocks_and_ends_compute_apart(stacked):
    params = stacked.random_params(1)
    x = np.asarray([[0.5, -1.0, 2.0]], np.float32)
    expected = x @ np.asarray(params["start"]["kernel"])
    for kernel in np.asarray(params["blocks"]["layer"]["kernel"]):
        expected = np.tanh(expected @ kernel)
    expected = expected @ np.asarray(params["end"]["kernel"])

    ends = outer(params)
    run_block = jax.jit(lambda block, h: stacked.bind_block(block)(h))
    h = jax.jit(lambda ends, x: stacked.bind_outer(ends).embed(x))(ends, x)
    for index in range(3):
        h = run_block(row(params, index), h)
    assert run_block._cache_size() == 1
    out = jax.jit(lambda ends, h: stacked.bind_outer(ends).finish(h))(ends, h)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    assert not np.allclose(run_block(row(params, 0), h), run_block(row(params, 2), h))


def test_blocks_are_refused_where_only_the_ends_belong(stacked):
    params = stacked.random_params()
    with pytest.raises(ValueError, match="unknown blocks/layer/kernel"):
        stacked.bind_outer(params)
    with pytest.raises(ValueError, match="missing end/kernel"):
        stacked.bind_outer({"start": params["start"]})


def test_blocks_that_do_not_fit_are_refused(stacked):
    params = stacked.random_params()
    with pytest.raises(ValueError, match=r"layer/kernel: shape \(3, 2, 2\), expected \(2, 2\)"):
        stacked.bind_block(params["blocks"])
    with pytest.raises(ValueError, match="missing layer/kernel"):
        stacked.bind_block({})
