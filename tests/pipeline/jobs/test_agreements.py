"""What the processes of a run say to each other: every one the same, in the same order, or they wait forever."""

from dataclasses import replace
from pathlib import Path

import pytest

from jax_interp import GenerateRequest, InterpolationSettings, Job, NetworkSettings, SampleSettings, generate
from jax_interp.errors import Blocked, JaxInterpError, MediaError, ProcessFailure, UsageError
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.jobs.agreements import agreed_to_be_there, ends_all, least_memory, only_writer
from jax_interp.pipeline.jobs.clip import open_clip
from jax_interp.pipeline.jobs.job import run_job
from jax_interp.pipeline.jobs.outputs import held_results
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.runtime import processes
from tests import golden
from tests.pipeline.jobs.watched_guardrails import Watched

SETTINGS = InterpolationSettings(
    sampling=SampleSettings(num_steps=1), num_frame_pairs=1, height=64, width=96, prompt="rain"
)


@pytest.fixture
def job(tmp_path):
    return Job(inputs=(golden.CLIP,), video=tmp_path / "out" / "film.mp4", settings=SETTINGS)


@pytest.fixture
def first(monkeypatch):
    """This process is the first one, and its own words are all there are; the list of what it says: (name, value)."""
    said = []
    monkeypatch.setattr(processes, "everyone", lambda name, value, timeout=None: said.append((name, value)) or [value])
    return said


@pytest.fixture
def become_second(monkeypatch):
    """Makes this process the second one of two, which hears what the first one has said."""

    def become(said):
        left = list(said)

        def everyone(name, value, timeout=None):
            theirs, heard = left.pop(0)
            assert name == theirs
            return [heard, value]

        monkeypatch.setattr(processes, "everyone", everyone)
        monkeypatch.setattr(processes, "index", lambda: 1)
        monkeypatch.setattr(processes, "count", lambda: 2)
        return left

    return become


@pytest.mark.slow
def test_two_processes_of_a_batch_say_the_same_in_the_same_order(job, converted, first, become_second):
    request = GenerateRequest(
        jobs=(job,),
        networks=NetworkSettings(checkpoint_dir=converted, dtype="float32"),
        guardrails=None,
        batch=Path("clips.jsonl"),
    )
    [record] = generate(request)
    assert [name for name, _ in first] == [
        "the machines", "the mesh", "the work", "GPU memory",
        "whether film.mp4 is there", "the input of film.mp4", "who writes film.mp4", "finished pairs of film.mp4",
        "whether the prompt was encoded before",
    ]  # fmt: skip
    written = {path: path.read_bytes() for path in job.video.parent.iterdir()}
    left = become_second(first)
    assert generate(request) == []
    assert not left
    assert {path: path.read_bytes() for path in job.video.parent.iterdir()} == written
    assert record["frames"] == 10


def test_so_they_do_with_guardrails_and_a_prompt_that_is_written(job, interpolators, first, become_second, monkeypatch):
    interpolator, asked = interpolators["float32"], replace(job, upsampler=UpsamplerSettings())
    monkeypatch.setattr(interpolator, "upsample_prompt", lambda *_, **__: "a street")
    monkeypatch.setattr(interpolator, "guardrails", guardrails := Watched())
    assert run_job(interpolator, asked) is not None
    assert [name for name, _ in first] == [
        "the input of film.mp4", "who writes film.mp4", "the prompt of film.mp4", "finished pairs of film.mp4",
        "what the guardrails say about the prompt", "whether the prompt was encoded before",
        "what the guardrails say about the video",
    ]  # fmt: skip
    assert guardrails.asked == ["a street"]
    left = become_second(first)
    assert run_job(interpolator, asked) is None
    assert not left
    assert guardrails.asked == ["a street"]  # the first one asks for all


def test_a_missing_call_is_noticed(job, interpolators, become_second):
    """The control of the tests above: the first process left out to look at the input."""
    become_second([("who writes film.mp4", [False, None])])
    with pytest.raises(AssertionError):
        run_job(interpolators["float32"], job)


def test_what_the_first_process_cannot_hold_fails_in_all_alike(job, first, become_second):
    job.video.parent.mkdir()
    with held_results(job), pytest.raises(MediaError) as own, only_writer(job):
        pytest.fail("held twice")
    become_second(first)
    with pytest.raises(JaxInterpError) as heard, only_writer(job):
        pytest.fail("the first one does not hold it")
    assert (str(heard.value), heard.value.exit_code) == (str(own.value), MediaError.exit_code)
    assert heard.value.in_all_processes
    assert not ends_all(heard.value)


def test_others_do_not_look(job, become_second):
    become_second([("whether film.mp4 is there", True)])
    assert agreed_to_be_there(job, lambda: pytest.fail("looked")) is True


def test_processes_that_find_different_inputs_end(job, interpolators, become_second):
    become_second([("the input of film.mp4", {"pairs": 2, "problem": None})])
    with pytest.raises(ProcessFailure, match=r"pairs is 2 in process 0, 1 in process 1"):
        open_clip(interpolators["float32"], job)


@pytest.mark.parametrize(("theirs", "own", "least"), [(8, 5, 5), (5, 8, 5), (None, 8, None), (8, None, None)])
def test_all_plan_for_the_least_memory(become_second, theirs, own, least):
    become_second([("GPU memory", theirs)])
    assert least_memory(own) == least


def test_only_what_one_process_knows_ends_the_others(become_second):
    alone = UsageError("it is a test")
    assert not ends_all(alone)
    become_second([])
    assert ends_all(alone)
    assert not ends_all(Blocked("the video", Verdict.block("it is a test")))


def test_one_that_is_alone_keeps_its_own_error(job):
    job.video.parent.mkdir()
    error = None
    with held_results(job):
        try:
            with only_writer(job):
                pytest.fail("held twice")
        except MediaError as raised:
            error = raised
    assert error is not None
    assert not error.in_all_processes
