"""The guardrails with tiny networks that were converted: what passes, what does not, and that nothing fails open."""

import threading

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from jax_interp.errors import Blocked, CheckpointError, UsageError
from jax_interp.guardrails.frames.faces import Blurred
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.safety.guardrails import FRAME_GUARDRAILS, PROMPT_GUARDRAILS, Guardrails, combine_verdicts
from jax_interp.pipeline.safety.text_guard import TextGuard
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from jax_interp.runtime.placement import Placement
from tests.guardrails.tiny_guards import MARK, black, noise, white
from tests.models import video_peers
from tests.pipeline.safety.asking import BAD, EVERY, GOOD, HOME, LISTED, ask, assert_blocked_by

PLACEMENTS = (Placement("offloaded"), Placement("streamed"), Placement("streamed", 1))


def test_a_good_prompt_passes(guardrails):
    verdicts = guardrails.prompt_verdicts(GOOD)
    assert list(verdicts) == list(PROMPT_GUARDRAILS)
    assert verdicts["text_safety"].reason == "the classifier calls it safe"
    assert guardrails.check_prompt(GOOD).allowed


def test_the_classifier_blocks_with_its_category(guardrails):
    verdict = guardrails.check_prompt(BAD)
    assert verdict == Verdict.block("text_safety: the classifier calls it unsafe: O1 (Green Tea)", "O1")


@pytest.mark.parametrize("prompt", [LISTED, ""])
def test_the_blocklist_blocks_first(guardrails, prompt):
    verdicts = guardrails.prompt_verdicts(prompt)
    assert list(verdicts) == ["blocklist"]
    assert guardrails.check_prompt(prompt).category == "Blocklist"


def test_an_answer_without_end_blocks(guardrails):
    verdict = guardrails.check_prompt(MARK * 40)
    assert not verdict.allowed
    assert "does not end within 100 tokens" in verdict.reason


def test_the_text_guard_alone(guarded):
    from jax_interp.runtime.checkpoint.finding import find_component

    guard = TextGuard(find_component(guarded, "text_safety"))
    assert [guard.check_words(prompt).allowed for prompt in (GOOD, BAD, LISTED)] == [True, True, False]
    assert [guard.classify(prompt).allowed for prompt in (GOOD, BAD)] == [True, False]


def test_safe_frames_pass_with_their_faces_pixelated(guardrails):
    frames = noise(5)
    given = frames.copy()
    checked = guardrails.check_video(frames)
    assert list(checked.verdicts) == list(FRAME_GUARDRAILS)
    assert checked.verdict.allowed
    assert checked.frames is not None
    assert checked.frames.shape == frames.shape
    assert (checked.frames != frames).mean() > 0.5
    assert (frames == given).all()


def test_one_unsafe_frame_blocks_all(guardrails):
    checked = guardrails.check_video(np.concatenate([black(9), white(1)]), 30)
    assert checked.verdict == Verdict.block("video_safety: frame 39 is not safe", "Violence")
    assert checked.frames is None


def test_a_stride_counts_from_the_clips_beginning(guardrails, monkeypatch):
    monkeypatch.setattr(guardrails, "frame_stride", 4)
    frames = black(6)
    frames[2] = 255
    for first, allowed in ((0, True), (1, True), (2, False), (3, True), (6, False)):
        assert guardrails.check_video(frames, first).verdict.allowed == allowed
    assert guardrails.check_video(frames[:2], 1).verdict.allowed  # frames 1 and 2: none is looked at
    assert "frame 8 " in guardrails.check_video(frames, 6).verdict.reason


@pytest.mark.parametrize(
    ("frames", "first"),
    [(black(0), 0), (black(2).astype(np.float32), 0), (black(2)[0], 0), (None, 0), (black(2), -1), (black(2), 0.5)],
    ids=["none", "float32", "one frame", "nothing", "before the first", "half a frame"],
)
def test_what_are_no_frames_is_blocked(guardrails, frames, first):
    checked = guardrails.check_video(frames, first)
    assert not checked.verdict.allowed
    assert checked.frames is None


@pytest.mark.parametrize("prompt", [None, 3, ["a"], b"a", float("nan")], ids=str)
def test_what_is_no_text_is_blocked(guardrails, prompt):
    assert not guardrails.check_prompt(prompt).allowed


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("error", [RuntimeError("odd"), MemoryError(), RecursionError("deep")], ids=repr)
def test_one_that_raises_blocks(guardrails, monkeypatch, name, error):
    def fail(*_):
        raise error

    assert ask(guardrails, name).allowed
    monkeypatch.setattr(*HOME[name], fail)
    assert_blocked_by(guardrails, name, type(error).__name__)
    monkeypatch.undo()
    assert ask(guardrails, name).allowed


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("answer", [None, True, float("nan"), (True, 1)], ids=str)
def test_one_that_answers_nonsense_blocks(guardrails, monkeypatch, name, answer):
    monkeypatch.setattr(*HOME[name], lambda *_: answer)
    assert_blocked_by(guardrails, name)


def test_blurred_frames_have_to_be_those_that_were_given(guardrails, monkeypatch):
    for frames in (noise(3), noise(2)[:, 1:], noise(2).astype(np.int16), noise(2).tolist()):
        monkeypatch.setattr(FaceGuard, "blur", lambda *_, frames=frames: Blurred(frames, (0, 0)))
        assert_blocked_by(guardrails, "face_blur")


@pytest.mark.parametrize("name", EVERY)
def test_one_that_takes_too_long_blocks_from_then_on(guarded, monkeypatch, name):
    guardrails = Guardrails.open(guarded)
    assert guardrails.check_ready().allowed
    released = threading.Event()
    if name in ("text_safety", "face_blur"):  # the one before lets everything pass
        before = {"text_safety": "blocklist", "face_blur": "video_safety"}[name]
        answer = Verdict.allow() if before == "blocklist" else (Verdict.allow(), 2)
        monkeypatch.setattr(*HOME[before], lambda *_: answer)
    monkeypatch.setattr(*HOME[name], lambda *_: released.wait(30))
    guardrails._fail_closed.timeout = 0.3
    try:
        verdict = ask(guardrails, name)
        assert not verdict.allowed
        assert f"{name}: it could not tell: it took longer than 0.3 s" in verdict.reason
        for other in EVERY:
            later = ask(guardrails, other)
            assert not later.allowed
            assert f"the check of {name} was not waited for" in later.reason
        guardrails.place(Placement("offloaded"))  # touches nothing that may be in use
        guardrails.offload()
        guardrails.unload()
        assert guardrails._guards[FrameGuard].placement == guardrails._guards[FaceGuard].placement == Placement()
    finally:
        released.set()


@pytest.mark.parametrize(
    "placement", [Placement("offloaded"), Placement("streamed"), Placement("streamed", 1)], ids=str
)
def test_placement_changes_no_verdict(guardrails, placement):
    def everything():
        checked = guardrails.check_video(noise(3))
        assert checked.frames is not None
        prompts = [guardrails.prompt_verdicts(prompt) for prompt in (GOOD, BAD, LISTED)]
        return prompts, checked.verdicts, checked.frames.tobytes(), guardrails.check_video(white(2)).verdicts

    expected = everything()
    try:
        guardrails.place(placement)
        assert guardrails.placement == placement
        for _ in range(2):  # once more after the networks have left
            assert everything() == expected
            stages = (guardrails._guards[TextGuard].language, guardrails._guards[FrameGuard])
            assert all(stage._outer is None and stage._stream is None for stage in stages)
            assert guardrails._guards[FaceGuard]._on_device is None
    finally:
        guardrails.place(Placement())


def test_placement_that_cannot_be_is_refused(guardrails):
    with pytest.raises(UsageError, match="has 2 blocks"):
        guardrails.place(Placement("streamed", 3))
    assert guardrails.placement == Placement()


def test_free_gives_everything_back(guardrails):
    guardrails.unload()
    before = {id(array) for array in jax.live_arrays()}
    assert guardrails.check_prompt(GOOD).allowed
    assert guardrails.check_video(noise(2)).verdict.allowed
    guardrails.unload()
    left = [array for array in jax.live_arrays() if id(array) not in before]
    assert sum(array.nbytes for array in left) < 1024  # constants


def test_it_runs_on_one_device(guardrails):
    assert guardrails.check_ready().allowed
    assert guardrails._guards[FrameGuard].devices.alone
    assert [found.component for found in guardrails.converted_components] == [
        "text_safety",
        "video_safety",
        "face_blur",
    ]


def test_facts_are_about_the_clip_at_hand(guardrails, monkeypatch):
    monkeypatch.setattr(guardrails, "frame_stride", 2)
    assert guardrails.check_video(noise(4), 0).verdict.allowed
    guardrails.start_counting()
    for first in (0, 3):
        assert guardrails.check_video(noise(3), first).verdict.allowed
    facts = guardrails.facts()
    assert facts["faces"] > 0
    assert guardrails.facts()["guardrails"] == list(FRAME_GUARDRAILS)  # no prompt was asked about
    assert facts | {"faces": 0} == {
        "state": "on",
        "guardrails": list(FRAME_GUARDRAILS),
        "frame_stride": 2,
        "frames": 6,
        "checked_frames": 3,
        "faces": 0,
    }


@pytest.mark.parametrize("options", [{"frame_stride": 0}, {"timeout": 0}])
def test_flags_that_cannot_work_are_refused(guarded, options):
    with pytest.raises(UsageError, match="--guardrail-"):
        Guardrails.open(guarded, **options)


def test_only_all_of_them_together_allow():
    allow, block = Verdict.allow(), Verdict.block("bad", "S1")
    assert combine_verdicts({"a": allow, "b": allow}, ("a", "b")).allowed
    assert combine_verdicts({"a": allow, "b": block}, ("a", "b")) == Verdict.block("b: bad", "S1")
    assert not combine_verdicts({"a": allow}, ("a", "b")).allowed
    assert not combine_verdicts({}, ()).allowed


def test_blocked_carries_its_verdict():
    verdict = Verdict.block("video_safety: frame 3 is not safe", "Violence")
    error = Blocked("clip.mp4", verdict)
    assert str(error) == "clip.mp4 is blocked by the guardrails (category Violence): video_safety: frame 3 is not safe"
    assert error.verdict is verdict
    others = {kind.exit_code for kind in (UsageError, CheckpointError)}
    assert error.exit_code == 8 not in others


def test_the_brightness_classifier_is_the_peers(guardrails):
    """The tiny network decides as its peer does, so that the verdicts above come from the frames."""

    from jax_interp.guardrails.frames.frame_safety import prepare_for_classifier
    from tests.guardrails.guard_networks import brightness_classifier

    tower = video_peers.siglip().vision_model
    for frames, expected in ((black(1), 0), (white(1), 2)):
        pixels = prepare_for_classifier(frames, 45)
        with torch.no_grad():
            pooled = tower(pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).pooler_output
            theirs = brightness_classifier()(pooled / pooled.norm(dim=-1, keepdim=True)).numpy()
        ours = guardrails._guard(FrameGuard).classify(pixels)
        assert theirs.argmax() == ours.argmax() == expected
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
