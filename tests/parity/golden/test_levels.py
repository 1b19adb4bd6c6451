"""What cannot be compared in a recording is an error that names file and array, and never holds."""

from types import SimpleNamespace

import numpy as np
import pytest

from jax_interp.errors import CheckpointError
from jax_interp.parity.golden.levels import LEVELS, Run
from jax_interp.parity.golden.recording import channels_last, open_recording
from tests import golden
from tests.parity.golden.recordings import recording, rewrite, saved

DIT, T5 = "L1_dit_case0", "L7_t5"


def nan_first(array):
    return np.where(np.arange(array.size).reshape(array.shape) == 0, np.nan, array)


def findings(root, name, precision, **methods):
    """The findings of a pipeline whose methods give what is here."""
    run = Run(open_recording(root), SimpleNamespace(**methods), precision)  # pyright: ignore[reportArgumentType]
    return list(LEVELS[name[:2]].replay(run, name))


def evaluated(root, precision, **changes):
    """The findings of an evaluation whose output is that of upstream in bfloat16 before `changes` to the recording."""
    arrays = golden.load(DIT)
    rewrite(root, DIT, saved(**arrays | {name: change(arrays[name]) for name, change in changes.items()}))
    ours = channels_last(arrays["out_bfloat16"])
    return findings(root, DIT, precision, denoise_net=lambda **inputs: ours)


def test_the_same_as_upstreams_has_the_ratio_1(tmp_path):
    [finding] = evaluated(recording(tmp_path / "recorded"), "bfloat16")
    assert finding.value == pytest.approx(1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("array", "change", "message"),
    [
        ("out_bfloat16", nan_first, "values that are no finite numbers"),
        ("out_float32", nan_first, "values that are no finite numbers"),
        ("out_bfloat16", lambda x: x[:, :, :1], "has the shape .*, but in float32 it was recorded in"),
        ("out_bfloat16", lambda x: x[:0], "is empty or"),
        ("out_bfloat16", lambda x: x.astype(str), "no finite numbers"),
    ],
)
def test_a_recorded_output_that_nothing_compares_with_is_named(tmp_path, precision, array, change, message):
    with pytest.raises(CheckpointError, match=rf"{DIT}.npz: {array} .*{message}.*; record it again"):
        evaluated(recording(tmp_path / "recorded"), precision, **{array: change})


def test_beside_zeros_in_float32_nothing_holds(tmp_path):
    [finding] = evaluated(recording(tmp_path / "recorded"), "bfloat16", out_float32=np.zeros_like)
    assert finding.value == np.inf
    assert not finding.held


def test_an_embedding_without_rows_is_named(tmp_path):
    root = recording(tmp_path / "recorded")
    rows = {f"emb_{index}": np.zeros((0, 64), np.float32) for index in range(6)}
    rewrite(root, T5, saved(**rows))
    with pytest.raises(CheckpointError, match=rf"{T5}.npz: emb_0 is empty"):
        findings(root, T5, "float32", encode_text=lambda texts: np.zeros((len(texts), 512, 64), np.float32))


def test_condition_latents_of_no_pair_are_an_error(tmp_path):
    root = recording(tmp_path / "recorded", "inputs_clip")
    rewrite(root, "L4_condition", saved(other=np.zeros(3)))
    with pytest.raises(CheckpointError, match=r"L4_condition.npz: has no array 'bfloat16.pair_i\{index\}_s\{stride\}'"):
        findings(root, "L4_condition", "bfloat16")
