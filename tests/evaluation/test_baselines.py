"""The nearest keyframe and the blend of both, by hand."""

import numpy as np

from jax_interp.evaluation.baselines import blend, nearest

FIRST, LAST = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 90, np.uint8)


def test_the_nearer_keyframe_is_held():
    assert nearest(FIRST, LAST, 8)[:, 0, 0, 0].tolist() == [0] * 4 + [90] * 4
    assert nearest(FIRST, LAST, 3)[:, 0, 0, 0].tolist() == [0, 90, 90]
    assert nearest(FIRST, LAST, 8).dtype == np.uint8


def test_a_blend_fades_evenly():
    np.testing.assert_allclose(blend(FIRST, LAST, 8)[:, 0, 0, 0], np.arange(10, 90, 10), rtol=1e-6)
