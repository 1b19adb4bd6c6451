"""Replaying recorded outputs: they hold, a wrong weight does not, and a damaged recording is said to be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from convert.progress import no_progress
from jax_interp.components import TABLE
from jax_interp.errors import CheckpointError
from jax_interp.parity.golden.levels import LEVELS
from jax_interp.parity.golden.recording import open_recording
from jax_interp.parity.golden.replay import replay, why_left_out
from jax_interp.parity.request import ParityRequest
from tests import golden
from tests.parity.controls import copied, flip

L5 = tuple(f"L5_{dtype}_shipped_g-1_n6" for dtype in ("float32", "bfloat16"))
REST = {"float32": ("L2_tokenizer", "L6_clip1_float32"), "bfloat16": ("L4_condition", *L5)}
"""Files of the levels that are slow; those of two levels in each dtype."""
QUICK = ("L1_dit_case0", "L4_condition", "L5_float32_fixed_g1_nonegative_n6", "L7_t5", "L3_sampler", "inputs_clip")


SPEC = {"spec": {"height": 64, "width": 96, "fps": 24}}


def recording(root, *names):
    """A recording of these files alone."""
    (root / "golden").mkdir(parents=True)
    shutil.copyfile(golden.ROOT / "manifest.json", root / "manifest.json")
    for name in names:
        (root / "golden" / f"{name}.npz").symlink_to(golden.ROOT / "golden" / f"{name}.npz")
    return root


def replayed(converted, root, **changes):
    request = ParityRequest(converted=converted, golden=root, **changes)
    return replay(open_recording(root), request, no_progress)


def test_files_of_most_levels_hold(converted, tmp_path):
    findings, left_out = replayed(converted, recording(tmp_path / "recorded", *QUICK), dtype="float32")
    assert all(finding.held for finding in findings), findings
    assert {finding.file for finding in findings} == {"L1_dit_case0", "L5_float32_fixed_g1_nonegative_n6", "L7_t5"}
    assert left_out == {"L3_sampler": "the sampler on formulas, without a network", "inputs_clip": "an input"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", REST)
def test_the_other_levels_hold(converted, tmp_path, dtype):
    """Frames, tokenizer, condition latents and whole clips are replayed nowhere else by the command's own code."""
    root = recording(tmp_path / "recorded", *REST[dtype], "L7_t5", "inputs_clip")
    findings, left_out = replayed(converted, root, dtype=dtype)
    assert all(finding.held for finding in findings), [finding for finding in findings if not finding.held]
    assert left_out == {"inputs_clip": "an input"}
    levels = {"float32": {"L2", "L6", "L7"}, "bfloat16": {"L4", "L5"}}
    assert {finding.file[:2] for finding in findings} == levels[dtype]
    assert {finding.dtype for finding in findings} == {dtype}
    assert "frames" in {finding.output for finding in findings}


def test_of_every_recorded_file_it_is_known_what_to_do():
    names = open_recording(golden.ROOT).files
    left_out = {name for name in names if why_left_out(name)}
    assert {name for name in names if name.startswith(("L3", "L1_rope", "inputs"))} < left_out
    assert {name[:2] for name in names if name not in left_out} == LEVELS.keys()
    assert why_left_out("L9_new") == "not a file of this format"


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


def rewrite(root: Path, name: str, content: bytes) -> None:
    path = root / "golden" / f"{name}.npz"
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def saved(**arrays: np.ndarray) -> bytes:
    from io import BytesIO

    file = BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def pickled() -> bytes:
    return saved(emb_0=np.array([object()], dtype=object))
