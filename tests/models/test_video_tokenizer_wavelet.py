import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.models.video_tokenizer.wavelet import STORED_FILTER, Patcher, Unpatcher, merge_bands, split_bands
from tests.golden import relative_l2
from tests.models.video_tokenizer_weights import FAST_COMPILE
from tests.tolerances import ELEMENTWISE_F32

EXACT = np.full(2, np.sqrt(0.5), np.float32)


def fast(function):
    return jax.jit(function, compiler_options=FAST_COMPILE)


split, merge = fast(split_bands), fast(merge_bands)


def cube(values):
    """A 2×2×2 video of one channel."""
    return np.asarray(values, np.float32).reshape(1, 2, 2, 2, 1)


def test_a_constant_video_is_all_lowest_band():
    bands = split(cube([3.0] * 8), EXACT)
    np.testing.assert_allclose(bands.reshape(8), [3, 0, 0, 0, 0, 0, 0, 0], rtol=ELEMENTWISE_F32, atol=ELEMENTWISE_F32)


@pytest.mark.parametrize(("axis", "band"), [("time", 4), ("height", 2), ("width", 1)])
def test_each_axis_has_its_bit_in_the_band_number(axis, band):
    signs = np.stack(np.meshgrid([1, -1], [1, -1], [1, -1], indexing="ij"))[["time", "height", "width"].index(axis)]
    bands = np.asarray(split(cube(signs), EXACT)).reshape(8)
    np.testing.assert_allclose(bands, np.eye(8)[band], rtol=ELEMENTWISE_F32, atol=ELEMENTWISE_F32)


def test_taps_are_applied_in_upstreams_order():
    # low = w1·even + w0·odd, high = w0·even - w1·odd; a video that is constant in time and height shows the width alone
    taps = np.array([0.5, 0.25], np.float32)
    bands = np.asarray(split(cube([8.0, 16.0] * 4), taps)).reshape(8) * 2 * np.sqrt(2)
    low, high = 0.25 * 8 + 0.5 * 16, 0.5 * 8 - 0.25 * 16
    both_low, low_high = 0.75 * 0.75, 0.75 * 0.25  # what two equal samples give along time and height
    expected = [both_low * low, both_low * high, low_high * low, low_high * high]
    np.testing.assert_allclose(bands[:4], expected, rtol=ELEMENTWISE_F32, atol=ELEMENTWISE_F32)


def test_channels_stay_together_inside_a_band(rng):
    x = rng.normal(size=(1, 2, 2, 2, 3)).astype(np.float32)
    together = split(x, EXACT).reshape(8, 3)
    for channel in range(3):
        alone = split(x[..., channel : channel + 1], EXACT).reshape(8)
        np.testing.assert_array_equal(together[:, channel], alone)


def test_merge_is_the_inverse_of_split(rng):
    x = rng.normal(size=(2, 4, 6, 8, 3)).astype(np.float32)
    assert relative_l2(merge(split(x, EXACT), EXACT), x) <= ELEMENTWISE_F32


@pytest.mark.parametrize(("size", "frames"), [(4, 1), (4, 9), (4, 17), (2, 9)])
def test_patches_of_a_clip_come_back(size, frames, rng):
    x = rng.normal(size=(1, frames, 8, 16, 3)).astype(np.float32)
    patches = fast(Patcher(size, dtype=jnp.float32))(x)
    assert patches.shape == (1, (frames - 1) // size + 1, 8 // size, 16 // size, 3 * size**3)
    # the square of the stored filter is a little short of a half: every axis of every round shrinks by 2w²
    shrunk = (2 * STORED_FILTER**2) ** (3 * (size // 2))
    assert relative_l2(fast(Unpatcher(size, dtype=jnp.float32))(patches), x * shrunk) <= ELEMENTWISE_F32


def test_the_first_frame_alone_decides_the_first_patch(rng):
    x = rng.normal(size=(1, 9, 8, 8, 3)).astype(np.float32)
    patcher = fast(Patcher(4, dtype=jnp.float32))
    np.testing.assert_allclose(patcher(x)[:, :1], patcher(x[:, :1]), rtol=ELEMENTWISE_F32, atol=ELEMENTWISE_F32)


def test_computes_in_float32():
    x = jax.ShapeDtypeStruct((1, 1, 8, 8, 3), jnp.bfloat16)
    patches = jax.eval_shape(Patcher(4, dtype=jnp.bfloat16), x)
    assert patches.dtype == jax.eval_shape(Unpatcher(4, dtype=jnp.bfloat16), patches).dtype == jnp.float32
