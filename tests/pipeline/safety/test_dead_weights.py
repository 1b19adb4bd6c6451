"""Guardrails whose networks do not look: weights that are no numbers, all zero or all one value block."""

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from jax_interp.nn.params import flatten, unflatten
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.pipeline.safety.text_guard import TextGuard
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from tests.changed_weights import change_weight
from tests.commands import jax_interp
from tests.guardrails.tiny_guards import noise, write_guardrails
from tests.pipeline.safety.asking import HOME, ask, assert_blocked_by


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
