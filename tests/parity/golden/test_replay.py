"""Replaying recorded outputs: they hold, a wrong weight does not, and a damaged recording is said to be."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from convert.progress import no_progress
from jax_interp.components import TABLE
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.parity.golden.levels import LEVELS
from jax_interp.parity.golden.recording import open_recording
from jax_interp.parity.golden.replay import plan_replay, replay, why_left_out
from jax_interp.parity.request import ParityRequest
from tests import golden
from tests.parity.controls import copied, flip
from tests.parity.golden.recordings import pickled, recording, rewrite, saved

L5 = tuple(f"L5_{dtype}_shipped_g-1_n6" for dtype in ("float32", "bfloat16"))
REST = {"float32": ("L2_tokenizer", "L6_clip1_float32"), "bfloat16": ("L4_condition", *L5)}
"""Files of the levels that are slow; those of two levels in each dtype."""
QUICK = ("L1_dit_case0", "L4_condition", "L5_float32_fixed_g1_nonegative_n6", "L7_t5", "L3_sampler", "inputs_clip")


BOTH = ("float32", "bfloat16")
SPEC = {"spec": {"height": 64, "width": 96, "fps": 24}}


def replayed(converted, root, **changes):
    request = ParityRequest(converted=converted, golden=root, **changes)
    plan = plan_replay(open_recording(root), request)
    return replay(plan, no_progress), plan.left_out


def test_files_of_most_levels_hold(converted, tmp_path):
    findings, left_out = replayed(converted, recording(tmp_path / "recorded", *QUICK), dtype="float32")
    assert all(finding.held for finding in findings), findings
    assert {finding.file for finding in findings} == {"L1_dit_case0", "L5_float32_fixed_g1_nonegative_n6", "L7_t5"}
    assert left_out == {
        "L3_sampler": "the sampler on formulas, without a network",
        "L4_condition": why_left_out("L4_condition", ["float32"]),
        "inputs_clip": "an input",
    }


@pytest.mark.slow
@pytest.mark.parametrize("dtype", REST)
def test_the_other_levels_hold(converted, tmp_path, dtype):
    """Frames, tokenizer, condition latents and whole clips are replayed nowhere else by the command's own code."""
    root = recording(tmp_path / "recorded", *REST[dtype], "L7_t5", "inputs_clip")
    findings, left_out = replayed(converted, root, dtype=dtype)
    assert all(finding.held for finding in findings), [finding for finding in findings if not finding.held]
    assert left_out.keys() == {"inputs_clip"} | ({L5[0], "L7_t5"} if dtype == "bfloat16" else set())
    levels = {"float32": {"L2", "L6", "L7"}, "bfloat16": {"L4", "L5"}}
    assert {finding.file[:2] for finding in findings} == levels[dtype]
    assert {finding.dtype for finding in findings} == {dtype}
    assert "frames" in {finding.output for finding in findings}


def test_of_every_recorded_file_it_is_known_what_to_do():
    names = open_recording(golden.ROOT).files
    left_out = {name for name in names if why_left_out(name, BOTH)}
    assert {name for name in names if name.startswith(("L3", "L1_rope", "inputs"))} < left_out
    assert {name[:2] for name in names if name not in left_out} == LEVELS.keys()
    assert why_left_out("L9_new", BOTH) == "not a file of this format"


@pytest.mark.parametrize(
    ("name", "dtypes", "why"),
    [
        ("L4_condition", ["float32"], "rounded to bfloat16 in both dtypes.*; --dtype bfloat16 or both replays it"),
        ("L5_bfloat16_shipped", ["float32"], "recorded in bfloat16; --dtype bfloat16 or both replays it"),
        ("L6_clip0_float32", ["bfloat16"], "recorded in float32; --dtype float32 or both replays it"),
        ("L7_t5", ["bfloat16"], "computed in float32 by upstream .*; --dtype float32 or both replays it"),
        ("L5_float16_shipped", BOTH, r"not a file .* would be L5_\{dtype\}_\* in float32 or bfloat16"),
        ("L5_float32", BOTH, "not a file of this format"),
        ("L2_tokenizer_new", BOTH, "not a file of this format, which would be L2_tokenizer"),
        ("L10_new", BOTH, "not a file of this format"),
        ("L1_dit_case0_inner", BOTH, "activations inside of a network"),
    ],
)
def test_why_a_file_is_left_out(name, dtypes, why):
    assert re.match(why, why_left_out(name, dtypes) or "")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("L3_sampler", "both"),
        ("L4_condition", "float32"),
        ("L7_t5", "bfloat16"),
        ("L5_bfloat16_shipped_g-1_n6", "float32"),
        ("L5_float16_shipped", "both"),
    ],
)
def test_nothing_to_replay_is_an_error(tmp_path, name, dtype):
    root = recording(tmp_path / "recorded")
    rewrite(root, name, b"")
    with pytest.raises(
        CheckpointError, match=rf"nothing to replay in .*\({name}.npz: .*\); what is .* L1_dit_case\*.npz"
    ):
        replayed(tmp_path / "converted", root, dtype=dtype)


def test_networks_in_8_bits_are_refused(quantized, tmp_path):
    root = recording(tmp_path / "recorded", "L1_dit_case0")
    with pytest.raises(UsageError, match=r"stored in int8, .*without --quantization"):
        replayed(quantized, root, dtype="float32")


@pytest.mark.parametrize(("first", "device"), [("gpu", "cpu"), ("cpu", "cuda")])
def test_another_device_than_was_asked_for_is_refused(converted, tmp_path, monkeypatch, first, device):
    root = recording(tmp_path / "recorded", "L1_dit_case0")
    monkeypatch.setattr(jax, "default_backend", lambda: first)
    with pytest.raises(UsageError, match=rf"takes the {first} first .*--device {device}; set JAX_PLATFORMS={device}"):
        replayed(converted, root, device=device)


def test_a_wrong_weight_does_not_hold(converted, tmp_path):
    for name in ("diffusion_transformer", "tokenizer", "text_encoder"):
        network = copied(converted, TABLE[name].folder, tmp_path / "wrong")
        if name == "diffusion_transformer":
            flip(network, "blocks/self_attention/out/kernel")
    wrong = recording(tmp_path / "recorded", "L1_dit_case0", "L7_t5")
    findings, _ = replayed(tmp_path / "wrong", wrong, dtype="float32")
    assert {finding.file for finding in findings if not finding.held} == {"L1_dit_case0"}


def test_the_noise_of_shipped_runs_is_the_recorded_one():
    opened = open_recording(golden.ROOT)
    recorded = golden.load("L5_float32_shipped_g-1_n6")
    draw = opened.drawn_noise(recorded["sample"].shape[1:])
    sigmas, noises = zip(*map(draw, range(len(recorded["aug_sigma"]))), strict=True)
    np.testing.assert_allclose(sigmas, recorded["aug_sigma"], rtol=1e-6)
    np.testing.assert_array_equal(noises[0][[0, -1]], np.moveaxis(recorded["aug_noise_first_last"][0], 0, -1))
    assert draw(0)[0] == sigmas[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root / "golden"), "no recorded outputs, there is no folder"),
        (lambda root: [path.unlink() for path in (root / "golden").iterdir()], r"has no recorded outputs \(\*\.npz\)"),
        (lambda root: (root / "manifest.json").unlink(), "manifest.json: is missing"),
        (lambda root: (root / "manifest.json").write_text("{"), "manifest.json: damaged, it is not JSON"),
        (
            lambda root: rewrite(root, "L1_dit_case0", saved(**dict(golden.load("L1_dit_case0")) | {"x": np.zeros(3)})),
            r"recorded \(L1_dit_case0\): does not fit the networks in .*converted .*with the same weights",
        ),
        (lambda root: (root / "manifest.json").write_text('{"spec": {}}'), 'lacks "spec", "height"'),
        (lambda root: rewrite(root, "L7_t5", b"PK"), "L7_t5.npz: cannot be read"),
        (lambda root: rewrite(root, "L7_t5", pickled()), "L7_t5.npz: cannot be read .*allow_pickle"),
        (lambda root: rewrite(root, "L7_t5", saved(emb_0=np.zeros((1, 64)))), "L7_t5.npz: has no array 'emb_1'"),
        (lambda root: (root / "manifest.json").write_text(json.dumps(SPEC)), 'lacks "golden", "L7_t5.npz"'),
        (
            lambda root: (root / "manifest.json").write_text(json.dumps(SPEC | {"golden": []})),
            'lacks "golden", "L7_t5.npz"',
        ),
        (
            lambda root: (root / "manifest.json").write_text(json.dumps(SPEC | {"golden": None})),
            'lacks "golden", "L7_t5.npz"',
        ),
        (
            lambda root: (root / "manifest.json").write_text(
                json.dumps(SPEC | {"golden": {"L7_t5.npz": {"prompts": [1]}}})
            ),
            r'lacks "golden", "L7_t5.npz", "prompts" \(at least six texts\)',
        ),
    ],
)
def test_a_damaged_recording_is_said_to_be(converted, tmp_path, damage, message):
    root = recording(tmp_path / "recorded", "L7_t5")
    damage(root)
    with pytest.raises(CheckpointError, match=message):
        replayed(converted, root, dtype="float32")
