import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.media.resize import as_input_levels, normalize_and_resize, resize_levels, to_uint8
from tests import golden, tolerances


def ordinals(x) -> np.ndarray:
    """bfloat16 values as integers that count representable numbers, so that differences are in last places."""
    bits = np.asarray(x).view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


def upstream(name: str) -> np.ndarray:
    """[F, Y, X, 3] bfloat16; the file holds the same values as float32."""
    return np.asarray(jnp.asarray(golden.channels_last(golden.load("L4_condition")[name])[0]).astype(jnp.bfloat16))


def test_resized_frames_equal_upstream():
    ours = normalize_and_resize(golden.load("inputs_clip")["frames"], 64, 96)
    theirs = upstream("frames_resized")
    assert ours.dtype == jnp.bfloat16
    assert ours.shape == theirs.shape
    steps = np.abs(ordinals(ours) - ordinals(theirs))
    assert (steps > 0).mean() <= tolerances.RESIZE_BF16_OFF_GOLDEN
    near_zero = np.abs(theirs.astype(np.float32)) < 1e-3  # where steps are finer than float32's own error
    assert steps[~near_zero].max() <= 1
    other_frame = np.abs(ordinals(ours[1:]) - ordinals(theirs[:-1]))
    assert (other_frame > 0).mean() > 0.5, "the comparison must tell one frame from the next"


def test_frames_of_the_right_size_are_exact():
    frames = golden.load("inputs_clip")["frames"]
    ours = normalize_and_resize(frames, 72, 120)
    assert np.array_equal(np.asarray(ours[:1]), upstream("frame0_unresized"))
    assert np.array_equal(np.asarray(ours.astype(jnp.float32)), frames.astype(np.float32) / 128 - 1)


def test_every_level_is_exact_in_bfloat16():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    ours = np.asarray(normalize_and_resize(levels, 16, 16).astype(jnp.float32))
    assert np.array_equal(ours, levels.astype(np.float64) / 128 - 1)
    assert (ours.min(), ours.max(), ours.reshape(-1, 3)[128, 0]) == (-1, 127 / 128, 0)


def test_one_frame_and_several_agree():
    frames = golden.load("inputs_clip")["frames"]
    together = normalize_and_resize(frames, 96, 64)
    assert together.shape == (4, 96, 64, 3)
    alone = normalize_and_resize(frames[2], 96, 64)
    assert np.abs(ordinals(alone) - ordinals(together[2])).max() <= 1


def test_hand_computed_cubic():
    """Doubling a row: cubic weights (a = -0.5) at offset 1/4 are -0.0703125, 0.8671875, 0.2265625, -0.0234375."""
    row = np.array([0, 0, 0, 128, 128, 128], np.uint8)
    frame = np.broadcast_to(row[None, :, None], (6, 6, 3))
    doubled = np.asarray(normalize_and_resize(frame, 6, 12).astype(jnp.float32))[0, :, 0]
    # Output 5 lies a quarter right of input 2: inputs 1..4 are black, black, gray, gray.
    expected = -1 + 0.2265625 - 0.0234375
    assert doubled[5] == pytest.approx(expected, abs=2**-8)
    assert doubled[3] < -1, "overshoot is not clamped"
    assert doubled[0] == pytest.approx(-1, abs=2**-8)


@pytest.mark.parametrize(
    "frames", [np.zeros((8, 8, 3), np.float32), np.zeros((2, 8, 8, 4), np.uint8), np.zeros((8, 3), np.uint8)]
)
def test_other_arrays_are_refused(frames):
    with pytest.raises(ValueError, match="expected uint8 frames"):
        normalize_and_resize(frames, 16, 16)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_to_uint8_clamps_and_truncates_every_value(dtype):
    if dtype == jnp.bfloat16:
        values = jnp.asarray(np.arange(2**16, dtype=np.uint16).view(jnp.bfloat16))
        values = values[jnp.isfinite(values)]
    else:
        values = jnp.linspace(-1.1, 1.1, 2**16, dtype=jnp.float32)
    x = np.asarray(values.astype(jnp.float32))
    expected = np.trunc(np.clip(np.float32(1) + x, np.float32(0), np.float32(2)) / np.float32(2) * np.float32(255))
    assert np.array_equal(np.asarray(to_uint8(values)), expected.astype(np.uint8))
    assert to_uint8(values).dtype == jnp.uint8


def test_to_uint8_truncates_rather_than_rounds():
    halves = jnp.asarray([-1.5, -1.0, 0.0, 0.999, 1.0, 1.5], jnp.float32)
    assert to_uint8(halves).tolist() == [0, 0, 127, 254, 255, 255]


def test_no_second_conversion_is_needed():
    """Upstream divides by 255 and multiplies again at the end; its own table shows that no level changes."""
    table = golden.load("L6_uint8_roundtrip")
    assert np.array_equal(table["before"], np.arange(256))
    assert np.array_equal(table["after"], table["before"])
    levels = jnp.asarray((table["before"].astype(np.float64) + 0.5) / 127.5 - 1, jnp.float32)
    assert np.array_equal(np.asarray(to_uint8(levels)), table["after"])


def test_levels_that_went_through_come_back_on_their_scale():
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 1, 3))
    back = np.asarray(to_uint8(normalize_and_resize(levels, 256, 1).astype(jnp.float32)))
    assert np.array_equal(back[1:], levels[1:] - 1), "upstream's scale"
    assert np.array_equal(as_input_levels(back)[2:], levels[2:])
    assert as_input_levels(back)[:2].max() == 0


def test_resized_levels_are_rounded_and_those_of_the_size_are_untouched(rng):
    frames = rng.integers(0, 256, (2, 12, 20, 3), np.uint8)
    assert resize_levels(frames, 12, 20) is frames
    resized = resize_levels(frames, 24, 30)
    expected = jax.image.resize(frames.astype(np.float32), (2, 24, 30, 3), "cubic", antialias=True)
    assert np.abs(resized - np.clip(np.asarray(expected), 0, 255)).max() <= 0.5001
