"""The options for an output's time, from what is typed to what is asked for."""

from pathlib import Path

import pytest

from jax_interp.cli.options.timeline import TimelineOptions
from jax_interp.errors import UsageError
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.shape import Aspect, Size
from jax_interp.media.timeline.settings import Timeline


def test_without_any_it_is_upstreams_job():
    options = TimelineOptions()
    assert options.timeline() == Timeline(slow_motion="1")
    assert not options.timeline().follows_source
    assert options.shape() is None
    assert options.reading() == ReadSettings()


def test_a_factor_is_a_multiple_of_the_inputs_rate():
    assert TimelineOptions(factor=3).timeline().rate == "3x"


def test_words_become_values():
    options = TimelineOptions(
        rate="60000/1001", slow_motion="2.5", scene_cuts="cuts.txt", keyframes="decoded", duplicates="merge",
        aspect="960x704", hdr="refuse", interlaced="keep",
    )  # fmt: skip
    assert options.timeline() == Timeline(
        rate="60000/1001", slow_motion="2.5", scene_cuts=Path("cuts.txt"), keyframes="decoded", duplicates="merge"
    )
    assert options.shape() == Aspect(keep=True, size=Size(704, 960))
    assert options.reading() == ReadSettings(hdr="refuse", interlaced="keep")
    assert TimelineOptions(scene_cuts="off").timeline().scene_cuts == "off"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": "60", "factor": 2}, "--rate 60 and --factor 2: give one of them; --factor 3 is --rate 3x"),
        ({"factor": 0}, "--factor 0: expected the output frames for each input frame, from 1 on"),
        ({"factor": -2}, "--factor -2: expected"),
        ({"rate": "24/0"}, "--rate 24/0: expected frames a second"),
        ({"rate": "0"}, "--rate 0: expected frames a second, from"),
        ({"rate": "-24"}, "--rate -24: expected frames a second, from"),
        ({"slow_motion": "0"}, "--slow-motion 0: expected how many times as long"),
    ],
)
def test_what_can_never_work(given, message):
    with pytest.raises(UsageError, match=message):
        TimelineOptions(**given).timeline()
