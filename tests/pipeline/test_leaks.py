"""A long run holds no more after its twentieth pair than after its third, and a run that ends early nothing."""

import gc
import time
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import Blocked, JaxInterpError
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.safety.guardrails import Checked
from jax_interp.pipeline.settings import InterpolationSettings, Video2WorldSettings
from jax_interp.runtime.placement import Placement
from tests import golden
from tests.pipeline.jobs.watched_guardrails import Watched

PAIRS, SOME = 20, 5
SETTINGS = InterpolationSettings(sampling=SampleSettings(num_steps=1), height=64, width=96)


@contextmanager
def placed(pipeline, kind):
    """`pipeline` with all networks placed as `kind`, and resident ones afterwards."""
    names = ("text_encoder", "tokenizer", "diffusion_transformer")
    pipeline.place(dict.fromkeys(names, Placement(kind)))
    yield pipeline
    pipeline.place(dict.fromkeys(names, Placement()))


@pytest.fixture(params=["resident", "streamed"])
def interpolator(request, interpolators):
    with placed(interpolators["float32"], request.param) as pipeline:
        yield pipeline


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


# runs that end early


class Interrupted(Exception):
    pass


class Blocking(Watched):
    def check_video(self, frames, first_number):
        return Checked({"video_safety": Verdict.block("it is a test")}, None)


def interpolate(pipeline, prompt, progress=None):
    """A pair of frames; at a guidance of 0 the prompt is read."""
    settings = InterpolationSettings(
        prompt=prompt, sampling=SampleSettings(guidance=0, num_steps=2), height=64, width=96
    )
    first, last = golden.load("inputs_clip")["frames"][:2]
    return pipeline.stream([(0, first, last)], settings, progress)


def go_on(pipeline, prompt, progress=None):
    """A clip of nine frames that goes on from a picture."""
    sampling = SampleSettings(guidance=0, num_steps=2)
    settings = Video2WorldSettings(prompt=prompt, sampling=sampling, num_video_frames=9, height=48, width=64)
    return pipeline.stream([(0, np.full((1, 48, 64, 3), 100, np.uint8))], settings, progress)


RUNS = {"interpolators": interpolate, "worlds": go_on}
KINDS = ["streamed", pytest.param("offloaded", marks=pytest.mark.slow)]


@pytest.fixture(params=[pytest.param(name, id=name[:-1]) for name in RUNS])
def run(request):
    return request.param


@pytest.fixture(params=KINDS)
def pipeline(request, run, settled_heap):
    """A pipeline whose networks wait on the host (all but T5, which waits on disk), as a finished run leaves them."""
    with placed(request.getfixturevalue(run)["float32"], request.param) as away:
        list(RUNS[run](away, "rain"))
        gc.collect()
        yield away


def on_device():
    kind = jax.devices()[0].default_memory().kind
    return sum(array.nbytes for array in jax.live_arrays() if array.sharding.memory_kind == kind)


def left_behind(before):
    """Bytes on the device beyond `before`, once the threads that copy blocks have let go of the last one.

    What an exception's traceback refers to, and memory that JAX shares with NumPy, is freed by collecting garbage.
    """
    gc.collect()
    end = time.monotonic() + 2
    while on_device() > before and time.monotonic() < end:
        time.sleep(0.01)
    return on_device() - before


def cut_short(monkeypatch, place, name):
    """Have the function `name` of `place` raise `Interrupted` when its work is done."""
    work = getattr(place, name)

    def interrupted(*arguments, **named):
        list(work(*arguments, **named))
        raise Interrupted(f"there are {on_device()} bytes")

    monkeypatch.setattr(place, name, interrupted)


def raising(*_):
    raise Interrupted


@pytest.mark.parametrize("stage", ["text", "encode", "decode"])
def test_a_stage_that_fails_leaves_nothing(pipeline, run, stage, monkeypatch):
    codec = (pipeline.codec, "encode_pairs"), (pipeline.codec, "decode_pairs")
    clips = (pipeline, "encode_condition"), (getattr(pipeline, "clips", None), "decode")
    encode, decode = codec if run == "interpolators" else clips
    cut_short(monkeypatch, *{"text": (pipeline, "encode_text"), "encode": encode, "decode": decode}[stage])
    before = on_device()
    with pytest.raises(Interrupted) as ended:
        list(RUNS[run](pipeline, f"{pipeline.denoiser.placement.kind} rain, {stage}"))  # in no cache of embeddings
    assert int(str(ended.value).split()[2]) > before  # the stage had its network on the device
    del ended
    assert left_behind(before) == 0


def test_a_run_that_is_cancelled_leaves_nothing(pipeline, run):
    before = on_device()
    with pytest.raises(Interrupted):
        list(RUNS[run](pipeline, "rain", raising))
    assert left_behind(before) == 0


def test_values_that_are_not_finite_leave_nothing(pipeline, run, monkeypatch):
    nan = np.full((1, 512, pipeline.text_encoder.width), np.nan, np.float32)
    monkeypatch.setattr(pipeline, "encode_text", lambda texts: nan)
    before = on_device()
    with pytest.raises(JaxInterpError, match="values that are not numbers"):
        list(RUNS[run](pipeline, "rain"))
    assert left_behind(before) == 0


def test_frames_that_are_blocked_leave_nothing(pipeline, run, monkeypatch):
    monkeypatch.setattr(pipeline, "guardrails", Blocking())
    before = on_device()
    with pytest.raises(Blocked, match="it is a test"):
        list(RUNS[run](pipeline, "rain"))
    assert left_behind(before) == 0


def test_a_reader_of_pairs_that_fails_leaves_nothing(pipeline, run):
    before = on_device()
    with pytest.raises(Interrupted):
        list(map(raising, RUNS[run](pipeline, "rain")))
    assert left_behind(before) == 0
