"""The guardrails with tiny networks that were converted: what passes, what does not, and that nothing fails open."""

import re
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from jax_interp.components import TABLE
from jax_interp.errors import Blocked, CheckpointError, UsageError
from jax_interp.guardrails.frames.faces import Blurred
from jax_interp.guardrails.verdict import Verdict
from jax_interp.nn.params import flatten, unflatten
from jax_interp.pipeline.safety.guardrails import FRAME_GUARDRAILS, PROMPT_GUARDRAILS, Guardrails, combine_verdicts
from jax_interp.pipeline.safety.text_guard import TextGuard
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from jax_interp.runtime.placement import Placement
from tests.changed_weights import change_weight
from tests.commands import jax_interp
from tests.guardrails.tiny_guards import MARK, black, noise, white, write_guardrails
from tests.models import video_peers

GOOD, BAD, LISTED = "a street in the rain", f"a {MARK} in the rain", "a florble in the rain"
PLACEMENTS = (Placement("offloaded"), Placement("streamed"), Placement("streamed", 1))
EVERY = (*PROMPT_GUARDRAILS, *FRAME_GUARDRAILS)
HOME = {
    "blocklist": (TextGuard, "check_words"),
    "text_safety": (TextGuard, "classify"),
    "video_safety": (FrameGuard, "check"),
    "face_blur": (FaceGuard, "blur"),
}


@pytest.fixture(scope="module")
def guardrails(guarded):
    """Shared, because every one compiles anew: tests that change it put it right again."""
    return Guardrails.open(guarded)


def ask(guardrails, name):
    """The verdict on what would pass, by the guardrails of prompts or of frames, whichever `name` is one of."""
    return guardrails.check_prompt(GOOD) if name in PROMPT_GUARDRAILS else guardrails.check_video(noise(2)).verdict


def assert_blocked_by(guardrails, name, *words):
    verdict = ask(guardrails, name)
    assert not verdict.allowed
    assert verdict.category is None
    for word in (f"{name}: it could not tell", "--disable-guardrail", *words):
        assert word in verdict.reason
    if name in FRAME_GUARDRAILS:
        assert guardrails.check_video(noise(2)).frames is None


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


@pytest.mark.parametrize(("name", "path"), [("text_safety", "head/kernel"), ("video_safety", "head/linear_2/bias")])
def test_weights_that_are_not_numbers_block(guardrails, monkeypatch, name, path):
    guard = guardrails._guard(HOME[name][0])
    stage = getattr(guard, "language", guard)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_stored", stage._stored)  # to be put right again
        change_weight(stage, path, lambda array: array * np.nan)
        verdict = ask(guardrails, name)
    stage.unload()
    assert not verdict.allowed
    assert "not numbers" in verdict.reason
    assert ask(guardrails, name).allowed


def test_a_face_detector_without_numbers_blocks(guardrails, monkeypatch):
    guard = guardrails._guard(FaceGuard)
    broken = jax.tree.map(lambda array: array * np.float32(np.nan), guard.params)
    monkeypatch.setattr(guard, "_on_device", broken)
    assert_blocked_by(guardrails, "face_blur", "not numbers")


@pytest.mark.parametrize(
    ("component", "file", "key"),
    [
        ("face_blur", "Resnet50_Final.pth", r"ClassHead\.0.*bias"),
        ("video_safety", "safety_filter.pt", r"layers\.1\.bias"),
    ],
)
def test_infinity_blocks_though_activations_swallow_it(guarded, tmp_path, component, file, key):
    """A detector whose scores for faces are minus infinity would find none, and its answer would look like numbers."""
    [path] = write_guardrails(tmp_path / "pt").rglob(file)
    state = torch.load(path, weights_only=True)
    arrays = state.get("model", state)
    changed = [arrays[name].fill_(-torch.inf) for name in arrays if re.search(key, name)]
    assert changed
    torch.save(state, path)
    root = shutil.copytree(guarded, tmp_path / "converted")
    folders = ("--checkpoint-dir", tmp_path / "pt", "--output-dir", root)
    outcome = jax_interp("convert", *folders, "--components", component, "--overwrite", "--allow-non-finite")
    assert outcome.code == 0, outcome.output
    assert_blocked_by(Guardrails.open(root), component, "hold values that are not numbers", str(root))


DEAD_DETECTORS = {
    "everything": ".*",
    "all heads of classes": "class_head",
    "one head of classes": "class_head_0/kernel",
    "one head of boxes": "box_head_0/kernel",
    "the first layer": "body/stem/conv",
    "the last stage": "body/stage_4",
    "what joins the feature maps": "neck/",
    "what sees around a cell": "context3/",
}


@pytest.mark.parametrize("paths", DEAD_DETECTORS.values(), ids=DEAD_DETECTORS)
def test_a_face_detector_that_does_not_look_blocks(guardrails, monkeypatch, paths):
    """Its scores are numbers, and none is a face."""
    guard = guardrails._guard(FaceGuard)
    params = dict(flatten(guard.params))
    dead = {path: jnp.zeros_like(array) for path, array in params.items() if re.match(paths, path)}
    assert dead
    monkeypatch.setattr(guard, "_on_device", unflatten(params | dead))
    monkeypatch.setattr(guard, "_is_tested", False)
    assert_blocked_by(
        guardrails, "face_blur", "the face_blur answers the same whatever it is shown", "convert it again"
    )


@pytest.mark.parametrize(
    "path",
    [
        "head/linear_2/kernel",
        "head/linear_0/kernel",
        "head/norm_1/scale",
        "patch_embedding/kernel",
        "pooling/out/kernel",
    ],
)
def test_a_classifier_of_frames_that_does_not_look_blocks(guardrails, monkeypatch, path):
    """To this one all frames may be safe."""
    guard = guardrails._guard(FrameGuard)
    with monkeypatch.context() as patch:
        patch.setattr(guard, "_stored", guard._stored)  # to be put right again
        change_weight(guard, path, np.zeros_like)
        verdict = ask(guardrails, "video_safety")
    guard.unload()
    assert not verdict.allowed
    assert "the video_safety answers the same whatever it is shown" in verdict.reason
    assert ask(guardrails, "video_safety").allowed


@pytest.mark.parametrize("kind", [FaceGuard, FrameGuard])
def test_weights_are_tested_once_and_again_when_they_are_read_again(guardrails, monkeypatch, kind):
    guard, seen = guardrails._guard(kind), []
    method = "detect" if kind is FaceGuard else "classify"
    ask_network = getattr(guard, method)
    monkeypatch.setattr(guard, method, lambda frames: seen.append(len(frames)) or ask_network(frames))
    guard.unload()
    counts = []
    for _ in range(3):
        assert guardrails.check_video(noise(2)).verdict.allowed
        counts.append(len(seen))
    guard.unload()
    assert guardrails.check_video(noise(2)).verdict.allowed
    counts.append(len(seen))
    first, *later = np.diff([0, *counts])
    assert first == later[-1] > later[0] == later[1]
    assert len(set(seen)) == 1  # always as many frames as the compiled program takes


@pytest.mark.parametrize(
    ("component", "file", "key"),
    [
        ("face_blur", "Resnet50_Final.pth", ".*"),
        ("face_blur", "Resnet50_Final.pth", r".*body\.layer1\.0\.conv2\.weight"),
        ("video_safety", "safety_filter.pt", ".*"),
        ("video_safety", "safety_filter.pt", r".*layers\.3\.weight"),
    ],
)
def test_converted_weights_that_are_one_value_block(guarded, tmp_path, component, file, key):
    """Also in a layer that others go around."""
    [path] = write_guardrails(tmp_path / "pt").rglob(file)
    state = torch.load(path, weights_only=True)
    arrays = state.get("model", state)
    changed = [array.fill_(0) for name, array in arrays.items() if re.fullmatch(key, name)]
    assert changed
    torch.save(state, path)
    root = shutil.copytree(guarded, tmp_path / "converted")
    folders = ("--checkpoint-dir", tmp_path / "pt", "--output-dir", root)
    outcome = jax_interp("convert", *folders, "--components", component, "--overwrite")
    assert outcome.code == 0, outcome.output
    assert_blocked_by(Guardrails.open(root), component, "hold one value throughout", str(root))


def test_a_text_classifier_that_is_all_zero_blocks(guardrails, monkeypatch):
    """Each of its logits is as large as the others, so that its answer does not end."""
    language = guardrails._guard(TextGuard).language

    class Zeros:
        def __init__(self, stored):
            self._stored = stored

        def __getattr__(self, name):
            return lambda *arguments: jax.tree.map(np.zeros_like, getattr(self._stored, name)(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(language, "_stored", Zeros(language._stored))
        language.unload()
        verdict = ask(guardrails, "text_safety")
    language.unload()
    assert not verdict.allowed
    assert verdict.reason.startswith("text_safety: ")
    assert ask(guardrails, "text_safety").allowed


MISSING = {
    "blocklist": "blocklist/custom/blocklist",
    "text_safety": "tokenizer/tokenizer.json",
    "video_safety": "params",
    "face_blur": "manifest.json",
}


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_file_blocks_and_is_known_at_the_door(guarded, tmp_path, name):
    root = shutil.copytree(guarded, tmp_path / "converted")
    component = "text_safety" if name == "blocklist" else name
    path = root / TABLE[component].folder / MISSING[name]
    path.rename(tmp_path / "away")
    guardrails = Guardrails.open(root)
    ready = guardrails.check_ready()
    first = "blocklist" if component == "text_safety" else name  # the first that looks at the folder
    both = "blocklist, text_safety" if component == "text_safety" else first
    assert ready.reason.startswith(f"{both}: it could not tell: {root / TABLE[component].folder}")
    assert ready.reason.count("could not tell") == 1
    assert component not in [found.component for found in guardrails.converted_components]
    assert_blocked_by(guardrails, first, "convert")
    (tmp_path / "away").rename(path)
    assert guardrails.check_ready().allowed  # what is put there is found


@pytest.mark.parametrize("name", ["text_safety", "video_safety", "face_blur"])
def test_weights_that_vanish_after_the_door_block(guarded, tmp_path, name):
    root = shutil.copytree(guarded, tmp_path / "converted")
    guardrails = Guardrails.open(root)
    assert guardrails.check_ready().allowed
    shutil.rmtree(root / TABLE[name].folder / "params")
    assert_blocked_by(guardrails, name, "cannot be read")


@pytest.mark.parametrize("name", ["custom/blocklist", "nltk_data/corpora/wordnet.zip"])
def test_word_lists_that_vanish_after_the_door_block(guarded, tmp_path, name):
    root = shutil.copytree(guarded, tmp_path / "converted")
    guardrails = Guardrails.open(root)
    assert len(guardrails.converted_components) == 3
    (root / TABLE["text_safety"].folder / "blocklist" / name).unlink()
    assert_blocked_by(guardrails, "blocklist", "download")


def test_without_any_folder_everything_is_blocked(tmp_path):
    guardrails = Guardrails.open(tmp_path / "converted")
    assert guardrails.converted_components == []
    guardrails.place(Placement("streamed"))
    for name in ("blocklist", "video_safety"):
        assert_blocked_by(guardrails, name, "jax-interp convert")
    assert not guardrails.check_ready(prompts=False).allowed
    assert not guardrails.check_ready(prompts=False, frames=False).allowed


def test_another_folder_can_be_named(guarded, tmp_path):
    root = shutil.copytree(guarded, tmp_path / "converted")
    (root / TABLE["face_blur"].folder).rename(root / "mine")
    assert Guardrails.open(root, face_blur_dir="mine").check_ready().allowed
    assert "face_blur" in Guardrails.open(root, face_blur_dir="other").check_ready().reason


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
    import torch

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
