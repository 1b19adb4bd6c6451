"""A request is checked as it is made, and says everything that is wrong with it."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from jax_interp.errors import UsageError
from jax_interp.media.shape import Aspect
from jax_interp.media.timeline.settings import Timeline
from jax_interp.media.video.codecs import EncodingSettings
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.requests.settings import DeviceSettings, NetworkSettings, ProcessSettings
from jax_interp.pipeline.safety.settings import GuardrailSettings
from jax_interp.pipeline.settings import InterpolationSettings, Video2WorldSettings
from jax_interp.runtime.mesh_shape import MeshShape

JOB = Job(inputs=(Path("a.mp4"),), video=Path("out/a.mp4"))


def test_the_defaults_are_those_of_the_command_line():
    request = GenerateRequest(jobs=(JOB,))
    assert request.guardrails == GuardrailSettings(frame_stride=1, timeout=600.0)
    assert request.networks.checkpoint_dir == Path("converted")
    assert (request.devices, request.processes) == (DeviceSettings(), ProcessSettings())
    assert JOB.settings == InterpolationSettings()
    assert not request.is_batch


def test_it_stays_as_it_was_checked():
    request: Any = GenerateRequest(jobs=(JOB,))
    with pytest.raises(FrozenInstanceError):
        request.jobs = ()


def test_several_clips_are_a_batch():
    assert GenerateRequest(jobs=(JOB, replace(JOB, video=Path("out/b.mp4")))).is_batch
    assert GenerateRequest(jobs=(JOB,), batch=Path("clips.jsonl")).is_batch


def test_encoding_and_suffix_have_to_go_together():
    with pytest.raises(UsageError, match=r"out/a.mp4: codec ffv1 needs .mkv, not .mp4; codec ffv1 is lossless and"):
        GenerateRequest(jobs=(replace(JOB, encoding=EncodingSettings(codec="ffv1", crf=3)),))
    with pytest.raises(UsageError, match=r"out/a.json is the record of several clips, whose names differ in their"):
        GenerateRequest(jobs=(JOB, replace(JOB, video=Path("out/a.gif"))))


def test_what_is_left_open_is_filled_in_by_codec_and_container():
    assert EncodingSettings().complete(Path("a.mov")) == EncodingSettings(codec="h264", crf=14, pixel_format="yuv420p")
    given = EncodingSettings(codec="hevc", crf=0, pixel_format="yuv420p10le")
    assert given.complete(Path("a.mkv")) == given
    assert EncodingSettings().complete(Path("a.GIF")) == EncodingSettings(codec="gif", pixel_format="pal8")
    assert EncodingSettings(codec="ffv1").facts(Path("a.mkv")) == {
        "codec": "ffv1",
        "crf": None,
        "pixel_format": "bgr0",
    }


@pytest.mark.parametrize("asked", [{"timeline": Timeline(rate=60)}, {"aspect": Aspect(keep=True)}, {"audio": "auto"}])
def test_a_clip_that_is_continued_has_no_time_of_the_inputs(asked):
    job = replace(JOB, settings=Video2WorldSettings(), timeline=Timeline(slow_motion="1"))
    assert GenerateRequest(jobs=(job,)).jobs == (job,)
    with pytest.raises(UsageError, match=r"out/a.mp4: is continued, which takes no timeline, aspect or audio"):
        GenerateRequest(jobs=(replace(job, **asked),))


def test_no_clip():
    with pytest.raises(UsageError, match="there is no clip"):
        GenerateRequest(jobs=())


def test_every_offence_is_in_one_message():
    prompted = replace(JOB, settings=InterpolationSettings(prompt="rain"), upsampler=UpsamplerSettings())
    with pytest.raises(UsageError) as caught:
        GenerateRequest(jobs=(JOB, JOB, prompted))
    assert "out/a.mp4 is the output of several clips" in str(caught.value)
    assert "has both a prompt and an upsampler" in str(caught.value)


def test_networks_and_precisions_that_there_are_not():
    unknown: dict[str, Any] = {"dtype": "float16", "text_encoder_dtype": "int8", "folders": {"vae": "mine"}}
    with pytest.raises(UsageError, match=r"dtype is 'float16'.*text_encoder_dtype is 'int8'.*no network vae"):
        NetworkSettings(**unknown)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeviceSettings(num_gpus=0), "--num-gpus 0"),
        (lambda: DeviceSettings(mesh=MeshShape(data=4), num_gpus=2), r"has 4 devices and --num-gpus says 2"),
        (lambda: ProcessSettings(timeout=3.9), "--process-timeout 3.9"),
        (lambda: GuardrailSettings(frame_stride=0), "--guardrail-frame-stride 0"),
        (lambda: GuardrailSettings(timeout=0), "--guardrail-timeout 0"),
    ],
)
def test_parts_that_can_never_work(make, message):
    with pytest.raises(UsageError, match=message):
        make()
