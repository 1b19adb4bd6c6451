"""A long run holds no more after its twentieth pair than after its third."""

import jax
import pytest

from jax_interp.diffusion.settings import SampleSettings
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.placement import Placement
from tests import golden

PAIRS, SOME = 20, 5
SETTINGS = InterpolationSettings(sampling=SampleSettings(num_steps=1), height=64, width=96)


@pytest.fixture(params=["resident", "streamed"])
def interpolator(request, interpolators):
    placed = interpolators["float32"]
    names = ("text_encoder", "tokenizer", "diffusion_transformer")
    placed.place(dict.fromkeys(names, Placement(request.param)))
    yield placed
    placed.place(dict.fromkeys(names, Placement()))


def live_bytes_after_each_pair(interpolator, keep):
    """Bytes of all arrays of this process as each pair comes out; `keep` is given every pair."""
    first, last = golden.load("inputs_clip")["frames"][:2]
    sizes = []
    for pair in interpolator.stream(((number, first, last) for number in range(PAIRS)), SETTINGS):
        keep(pair)
        sizes.append(sum(array.nbytes for array in jax.live_arrays()))
    return sizes


def growth(sizes):
    """Bytes by which the last pairs hold more than those behind the second, at the least of some pairs each.

    At one pair or another, a thread that copies blocks still holds one of them for a moment.
    """
    return min(sizes[-SOME:]) - min(sizes[2 : 2 + SOME])


def test_nothing_is_left_behind_by_a_pair(interpolator):
    sizes = live_bytes_after_each_pair(interpolator, lambda pair: None)
    assert len(sizes) == PAIRS
    assert growth(sizes) == 0


def test_what_is_left_behind_would_be_noticed(interpolators):
    kept = []

    def keep(pair):
        kept.append(jax.numpy.array(pair.latents))

    sizes = live_bytes_after_each_pair(interpolators["float32"], keep)
    assert growth(sizes) == (PAIRS - SOME - 2) * kept[0].nbytes
