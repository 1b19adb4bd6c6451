"""Windows of a video against upstream's data set class."""

import numpy as np
import pytest

from jax_interp.errors import UsageError
from jax_interp.train.data.windows import WindowSettings, list_windows
from tests.train.golden_steps import load


def test_windows_are_upstreams():
    recorded = load("T5_dataset")
    count = len(recorded["clip"])
    assert len(list_windows(count, WindowSettings(num_frames=18))) == recorded["length"]
    spaced = WindowSettings(num_frames=9, sequence_interval=2, start_frame_interval=3)
    assert np.array_equal([list(window) for window in list_windows(count, spaced)], recorded["frame_ids_s2_i3"])


def test_the_last_window_ends_with_the_video():
    assert list_windows(4, WindowSettings(num_frames=3)) == [range(3), range(1, 4)]
    assert list_windows(3, WindowSettings(num_frames=3)) == [range(3)]
    assert list_windows(2, WindowSettings(num_frames=3)) == []


def test_every_wrong_setting_is_named():
    with pytest.raises(UsageError, match=r"--num-frames is 0.*--start-frame-interval is -1"):
        WindowSettings(num_frames=0, start_frame_interval=-1)
