"""What the fields of a form hold becomes settings that `Asked` takes."""

import asyncio

import pytest

gradio = pytest.importorskip("gradio", reason='no Gradio here: pip install -e ".[app]"')

from jax_interp.app.asked import Asked
from jax_interp.app.settings import AppSettings
from jax_interp.app.web.form import PACES, continuation_form, interpolation_form, pace_of, values_of
from jax_interp.errors import UsageError


def fields(make):
    """The pipeline of a form, and the values with which it begins."""

    async def begin():  # without a loop Gradio leaves one open
        with gradio.Blocks():
            return make(AppSettings(num_steps=7))

    form = asyncio.run(begin())
    return form.pipeline, tuple(field.value for field in form.fields)


def test_a_form_as_it_begins_doubles_the_rate():
    asked = Asked.parse(values_of(*fields(interpolation_form)))
    assert (asked.rate, asked.slow_motion, asked.steps, asked.precision) == ("2x", "1", 7, "bfloat16")


def test_the_other_form_as_it_begins_is_upstreams():
    asked = Asked.parse(values_of(*fields(continuation_form)))
    assert (asked.pipeline, asked.guidance, asked.seed, asked.length, asked.given_frames) == (
        "continue",
        7.0,
        1,
        121,
        1,
    )


@pytest.mark.parametrize(
    ("pace", "amount", "rate", "slow"),
    [
        ("Ten frames for every pair", "2", "", "1"),
        ("Frames a second", "60000/1001", "60000/1001", "1"),
        ("Frames a second", "2x", "2x", "1"),
        ("Times as many frames", "3", "3x", "1"),
        ("Times as many frames", "3x", "3x", "1"),
        ("Slow motion", " 4 ", "", "4"),
    ],
)
def test_paces(pace, amount, rate, slow):
    pipeline, values = fields(interpolation_form)
    asked = Asked.parse(values_of(pipeline, (pace, amount, *values[2:])))
    assert (asked.rate, asked.slow_motion) == (rate, slow)


def test_pictures_have_no_time_of_their_own():
    assert pace_of(["a.PNG", "b.jpg"]) in PACES
    for others in (["a.mp4"], ["a.png"], ["a.png", "b.mp4"], None, []):
        assert pace_of(others) not in list(PACES)


@pytest.mark.parametrize("pace", ["Frames a second", "Times as many frames", "Slow motion"])
def test_a_missing_number_is_asked_for_by_the_fields_own_name(pace):
    pipeline, values = fields(interpolation_form)
    with pytest.raises(UsageError, match=f'"How many" is empty; "{pace}" needs a number'):
        values_of(pipeline, (pace, " ", *values[2:]))
