"""What a user asks is checked as it comes, kept as JSON, and always gives the same request."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from jax_interp.app.asked import Asked
from jax_interp.app.settings import AppSettings
from jax_interp.errors import UsageError
from jax_interp.media.shape import Size
from jax_interp.pipeline.settings import InterpolationSettings, Video2WorldSettings

APP = AppSettings(height=64, width=96)
CLIP = (Path("clip.mp4"),)


def job(**values):
    return Asked.parse(values).job(Path("folder"), CLIP, APP)


def test_it_is_the_request_of_the_command_line():
    made = job(prompt="rain", rate="60000/1001", steps=4, guidance=0, seed=5, frame_stride=2)
    assert made.video == Path("folder/result.mp4")
    assert made.timeline.output_rate(Fraction(24)) == Fraction(60000, 1001)
    assert isinstance(made.settings, InterpolationSettings)
    assert (made.settings.prompt, made.settings.frame_stride, made.settings.height) == ("rain", 2, 64)
    sampling = made.settings.sampling
    assert (sampling.num_steps, sampling.guidance, sampling.seed) == (4, 0.0, 5)


def test_kept_as_json_it_is_the_same():
    asked = Asked.parse({"prompt": "<b>é</b>", "slow_motion": "2.5", "precision": "int8", "aspect": "96x64"})
    assert Asked.of_text(asked.as_json()) == asked


@pytest.mark.parametrize(
    ("precision", "dtype", "quantization"),
    [("bfloat16", "bfloat16", None), ("float32", "float32", None), ("int8", "bfloat16", "int8")],
)
def test_precisions(precision, dtype, quantization):
    asked = Asked.parse({"precision": precision})
    networks = asked.request(asked.job(Path("folder"), CLIP, APP), APP).networks
    assert (networks.dtype, networks.quantization) == (dtype, quantization)


def test_a_clip_that_is_continued_has_its_own_settings():
    made = job(pipeline="continue", prompt="rain", guidance=7, length=17, given_frames=9, aspect="96x64", rate="2x")
    assert isinstance(made.settings, Video2WorldSettings)
    assert (made.settings.num_video_frames, made.settings.num_input_frames) == (17, 9)
    assert Size(made.settings.height, made.settings.width) == Size(64, 96)
    assert not made.is_timed


def test_the_upsampler_writes_a_prompt_where_one_counts_and_is_missing():
    for values, wanted in (
        ({"guidance": 0}, True),
        ({"guidance": 0, "prompt": "rain"}, False),
        ({"guidance": -1}, False),
    ):
        assert Asked.parse(values).settled(has_upsampler=True).upsample is wanted
        assert not Asked.parse(values).settled(has_upsampler=False).upsample


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "expected an object, not NoneType"),
        ([], "expected an object, not list"),
        ({"stepz": 1}, "stepz is unknown; there are pipeline, prompt"),
        ({"steps": "many"}, "steps is 'many', expected a whole number"),
        ({"steps": True}, "steps is true"),
        ({"steps": 0}, "steps is 0; expected 1 to 200"),
        ({"steps": 10**30}, "expected 1 to 200"),
        ({"prompt": None}, "prompt is null"),
        ({"prompt": "x" * 4001}, "prompt has 4001 characters"),
        ({"rate": "1e999999999"}, "rate is '1e999999999'; expected 60"),
        ({"rate": "0"}, "--rate 0"),
        ({"slow_motion": "9e99"}, "slow_motion is '9e99'"),
        ({"slow_motion": "1/0"}, "--slow-motion 1/0"),
        ({"slow_motion": "9" * 300}, "slow_motion is '999"),
        ({"aspect": "../../etc"}, "aspect is '../../etc'"),
        ({"aspect": "17x17"}, "multiples of 16"),
        ({"frame_stride": 0}, "frame_stride is 0"),
        ({"precision": "float8"}, "precision is 'float8'"),
        ({"pipeline": "rm -rf"}, "pipeline is 'rm -rf'"),
        ({"guidance": "nan"}, "guidance is 'nan'"),
    ],
)
def test_what_cannot_work_is_named(values, message):
    with pytest.raises(UsageError) as caught:
        Asked.parse(values)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_prompt_that_is_no_text_is_refused():
    with pytest.raises(UsageError, match="prompt"):
        Asked.parse({"prompt": "\ud800"})


def test_every_field_has_a_json_value():
    assert {type(value) for value in dataclasses.asdict(Asked()).values()} <= {str, int, float, bool}
