import errno
from typing import cast

import av.error
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.errors import MediaError
from jax_interp.media.output import as_media_error, check_frame_array


def test_frames_are_checked_and_come_to_the_host():
    frames = np.zeros((2, 4, 6, 3), np.uint8)
    assert check_frame_array(frames, 4, 6) is frames
    checked = check_frame_array(cast(np.ndarray, jnp.asarray(frames)), 4, 6)
    assert isinstance(checked, np.ndarray)
    flipped = check_frame_array(frames[:, ::-1], 4, 6)
    assert flipped.flags.c_contiguous
    with pytest.raises(ValueError, match=r"expected uint8 frames \[F, 4, 5, 3\], got uint8 \[2, 4, 6, 3\]"):
        check_frame_array(frames, 4, 5)


def test_disk_errors_name_the_file_and_the_free_space(tmp_path):
    path = tmp_path / "not" / "yet" / "out.mp4"
    with (
        pytest.raises(MediaError, match=rf"out\.mp4: cannot be written \(No space.*\d GB are free in {tmp_path}:"),
        as_media_error(path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(MediaError, match=r"out\.mp4: cannot be written \(Disk quota exceeded\)"), as_media_error(path):
        av.error.err_check(-errno.EDQUOT)
    with pytest.raises(MediaError, match=r"out\.mp4: cannot be written \(Invalid data"), as_media_error(path):
        raise av.error.InvalidDataError(0, "Invalid data found")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MediaError, ZeroDivisionError])
def test_other_errors_pass_unchanged(tmp_path, error):
    with pytest.raises(error, match=r"^as it was$"), as_media_error(tmp_path / "out.mp4"):
        raise error("as it was")
