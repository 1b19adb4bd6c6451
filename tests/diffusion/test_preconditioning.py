"""Preconditioning by hand."""

import ml_dtypes
import numpy as np
import pytest

from jax_interp.diffusion.preconditioning import preconditioning


def test_factors_by_hand():
    # sigma = 0.5: variance 0.5, so c_skip = 1/2, c_out = 0.25/sqrt(0.5), c_in = 1/sqrt(0.5), c_noise = ln(0.5)/4
    factors = preconditioning(0.5, "float32")
    np.testing.assert_allclose(factors, [0.5, 0.25 / 0.5**0.5, 1 / 0.5**0.5, np.log(0.5) / 4], rtol=1e-6)


@pytest.mark.parametrize("sigma", [80.0, 1.2345, 0.002])
def test_bfloat16_rounds_after_every_operation(sigma):
    def rounded(x):
        return np.float32(ml_dtypes.bfloat16(x))

    s = rounded(sigma)
    variance = rounded(rounded(s * s) + 0.25)
    deviation = rounded(np.sqrt(variance))
    factors = preconditioning(sigma, "bfloat16")
    assert factors.c_skip == rounded(0.25 / variance)
    assert factors.c_out == rounded(rounded(s * np.float32(0.5)) / deviation)
    assert factors.c_in == rounded(1 / deviation)
    assert factors.c_noise == rounded(np.float32(0.25) * rounded(np.log(s)))
