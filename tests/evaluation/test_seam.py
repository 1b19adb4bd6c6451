"""The jump beside a keyframe, by hand."""

import numpy as np

from jax_interp.evaluation.seam import seam


def frames(*levels):
    return np.stack([np.full((2, 3, 3), level, np.uint8) for level in levels])


def test_equal_steps_have_no_seam():
    assert seam(frames(0)[0], frames(10, 20, 30), frames(40)[0]) == (10, 10)


def test_a_jump_at_the_keyframes_is_seen_and_not_the_sign_of_it():
    assert seam(frames(0)[0], frames(20, 21, 22), frames(12)[0]) == (15, 1)
    assert seam(frames(0)[0], frames(5), frames(7)[0]) == (3.5, None)
