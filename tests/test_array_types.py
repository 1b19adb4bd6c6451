"""Without this, annotations of arrays could be wrong and nobody would notice that they are not checked."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jax_interp.nn.norms import rms_norm
from jax_interp.nn.rotary import make_rotation


def test_what_is_meant_passes():
    assert rms_norm(jnp.ones((2, 3)), jnp.ones(3)).shape == (2, 3)
    assert make_rotation(jnp.zeros((5, 4))).shape == (2, 5, 4)


def test_arrays_of_numpy_count_as_those_of_jax():
    assert rms_norm(np.ones((2, 3), np.float32), np.ones(3, np.float32)).shape == (2, 3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("x", "scale"),
    [
        (jnp.ones((2, 3)), jnp.ones(1)),  # a letter of two sizes, which NumPy's rules would stretch
        (jnp.ones((2, 3)), jnp.ones((2, 3))),
        (jnp.ones((2, 3), jnp.int32), jnp.ones(3)),
    ],
    ids=["size", "axes", "kind"],
)
def test_what_is_not_meant_is_noticed(x, scale):
    with pytest.raises(TypeCheckError, match="rms_norm"):
        rms_norm(x, scale)
