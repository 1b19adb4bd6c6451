"""What a calibration shows the network: windows of clips, and noise as the sampler puts it on them."""

import numpy as np
import pytest

from jax_interp.diffusion.condition import frame_indicator
from jax_interp.errors import MediaError
from jax_interp.pipeline.calibration import evaluations
from jax_interp.pipeline.calibration.evaluations import NOISE_LEVELS, encode_window, noised, read_windows
from jax_interp.pipeline.calibration.recording import RecordingDenoiser
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.runtime.checkpoint.finding import find_component


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """A file whose frame k has the value k, and a function that says how many frames it has."""

    def make(num_frames, broken_at=None):
        class Source:
            pass

        def frames():
            for number in range(num_frames if broken_at is None else broken_at):
                yield np.full((2, 2, 3), number, np.uint8)

        source = Source()
        source.num_frames = num_frames  # type: ignore[attr-defined]
        Source.__iter__ = lambda self: frames()  # type: ignore[attr-defined]
        monkeypatch.setattr(evaluations, "open_frames", lambda paths, at_least: source)
        return tmp_path / "clip.mp4"

    return make


def numbers(windows):
    return [[int(frame[0, 0, 0]) for frame in window] for window in windows]


def test_windows_are_spread_over_the_clip(clip):
    assert numbers(read_windows(clip(100), 10, 2)) == [list(range(10)), list(range(90, 100))]
    assert numbers(read_windows(clip(100), 10, 1)) == [list(range(10))]
    assert numbers(read_windows(clip(12), 10, 2)) == [list(range(10))]


def test_of_a_long_clip_the_beginning_is_read(clip, monkeypatch):
    monkeypatch.setattr(evaluations, "MAX_FRAMES", 40)
    assert numbers(read_windows(clip(100, broken_at=41), 10, 2))[1] == list(range(30, 40))


def test_a_short_clip_is_one_window_in_which_frames_are_repeated(clip):
    assert numbers(read_windows(clip(2), 10, 2)) == [[0] * 5 + [1] * 5]
    assert numbers(read_windows(clip(4), 10, 2)) == [[0, 0, 1, 1, 1, 2, 2, 2, 3, 3]]


def test_a_clip_that_ends_too_soon_is_named(clip):
    with pytest.raises(MediaError, match=r"clip.mp4: ended before frame 5"):
        read_windows(clip(10, broken_at=5), 10, 2)


def test_known_frames_have_their_own_noise(converted):
    stage = RecordingDenoiser(find_component(converted, "diffusion_transformer"))
    latents = np.random.default_rng(0).standard_normal((3, 4, 6, 16)).astype(np.float32)
    given = list(noised(stage, latents, frame_indicator(3), None))
    assert len(given) == len(NOISE_LEVELS)
    assert (NOISE_LEVELS[0], round(NOISE_LEVELS[-1], 6)) == (80, 0.002)
    first, last = given[0], given[-1]
    # c_in is 1/√(sigma² + 1/4): at 80 the state is noise, at 0.002 twice the latents; known frames are always that.
    assert float(np.std(first.x[:, 1])) == pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(last.x[0, 1], 2 * latents[1], atol=0.05)
    for each in given:
        np.testing.assert_allclose(each.x[0, [0, 2]], 2 * latents[[0, 2]], atol=0.05)
        np.testing.assert_array_equal(each.mask[0, :, 0, 0, 0], [1, 0, 1])
        assert not each.text.any()
    assert float(first.c_noise[0]) == pytest.approx(np.log(80) / 4)


@pytest.mark.slow
def test_a_window_of_an_interpolator_has_the_ends_of_its_pair(converted, rng):
    codec = Codec(find_component(converted, "tokenizer"), "float32")
    frames = rng.integers(0, 256, (10, 32, 32, 3)).astype(np.uint8)
    latents, known = encode_window(codec, frames, 32, 32, "WorldInterpolator")
    pair = np.asarray(codec.encode_pair(frames[0], frames[-1], 32, 32, 10))
    np.testing.assert_array_equal(latents[[0, -1]], pair[[0, -1]])
    assert (latents[1] != pair[1]).any()  # of the frames between, which the pair does not know
    np.testing.assert_array_equal(known.reshape(-1), [1, 0, 1])
    latents, known = encode_window(codec, frames[:9], 32, 32, "Video2World")
    assert latents.shape == (2, 4, 4, 16)
    np.testing.assert_array_equal(known.reshape(-1), [1, 0])
