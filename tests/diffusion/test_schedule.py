"""Noise levels against upstream's, exactly."""

import numpy as np
import pytest

from jax_interp.diffusion.schedule import sigmas
from jax_interp.errors import UsageError
from tests import golden


@pytest.mark.parametrize("num_steps", [1, 6, 35])
def test_levels_equal_upstreams(num_steps):
    np.testing.assert_allclose(sigmas(num_steps), golden.load("L3_sampler")[f"sigmas_n{num_steps}"], rtol=1e-15)


def test_no_step_is_refused():
    with pytest.raises(UsageError, match="--num-steps is 0"):
        sigmas(0)
