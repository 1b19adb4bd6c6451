"""Trees in and out of modules."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jax_interp.nn.params import Network, flatten, unflatten


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
