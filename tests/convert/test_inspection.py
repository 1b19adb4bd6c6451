import shutil
from contextlib import nullcontext

import pytest

from convert.inspection import inspect_path
from jax_interp.errors import CheckpointError
from tests import golden
from tests.convert.checkpoints import DIT, T5, TOKENIZER, write_dit


def count(label, total):
    return nullcontext(lambda done: None)


def test_an_upstream_folder():
    found = {
        finding.path.relative_to(golden.CHECKPOINTS).as_posix(): finding for finding in inspect_path(golden.CHECKPOINTS)
    }
    assert found.keys() == {DIT, TOKENIZER, T5}
    dit = found[DIT]
    assert (dit.kind, dit.faults, dit.parameters) == ("diffusion_transformer, not converted", (), 906752)
    assert (dit.dtypes, dit.config["width"]) == ({"bfloat16": 906752}, 128)
    assert dit.nbytes == (golden.CHECKPOINTS / DIT / "model.pt").stat().st_size
    assert len(found[TOKENIZER].origin) == 4
    assert list(found[TOKENIZER].dtypes) == ["bfloat16", "float32"]


def test_networks_of_a_download_that_lie_deep_are_found(tmp_path):
    deep = tmp_path / "nvidia/Cosmos-Guardrail1/part"
    shutil.copytree(golden.CHECKPOINTS / T5, deep)
    assert [finding.path for finding in inspect_path(tmp_path)] == [deep]


def test_a_converted_folder_is_the_same_network(converted):
    before, after = (inspect_path(root / DIT)[0] for root in (golden.CHECKPOINTS, converted))
    assert after.kind == "diffusion_transformer, converted"
    assert (after.faults, after.parameters, after.dtypes, after.config) == (
        before.faults,
        before.parameters,
        before.dtypes,
        before.config,
    )
    assert "sha256" in after.origin[0]
    assert "not the published one" in after.origin[0]
    assert {finding.path.name for finding in inspect_path(converted)} == {DIT, TOKENIZER, "t5-11b"}


def test_what_is_wrong_is_shown(converted, tmp_path):
    half = shutil.copytree(converted, tmp_path / "half")
    (half / DIT / "params" / "time_norm.scale" / "zarr.json").unlink()
    (half / T5 / "manifest.json").unlink()
    dit, _, t5 = inspect_path(half)
    assert dit.faults == ("params/time_norm.scale/zarr.json is missing",)
    assert "lacks manifest.json" in t5.faults[0]
    source = write_dit(tmp_path / "checkpoints", {"net.affline_norm.weight": None})
    (finding,) = inspect_path(source)
    assert "net.affline_norm.weight" in finding.faults[0]


def test_a_file_and_its_checksums():
    path = golden.CHECKPOINTS / T5 / "pytorch_model.bin"
    (finding,) = inspect_path(path, count)
    assert (finding.kind, len(finding.tensors)) == ("checkpoint file", 28)
    assert (finding.tensors[0].name, finding.tensors[0].shape, finding.tensors[0].dtype) == (
        "shared.weight",
        (364, 64),
        "float32",
    )
    assert "md5 0f5a2cb68f4e354209853be08c317870, not the published one" in finding.origin[0]


def test_nothing_known_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="holds no network"):
        inspect_path(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        inspect_path(tmp_path / "absent")
    (tmp_path / "model.pt").write_text("<html>")
    with pytest.raises(CheckpointError, match="web page"):
        inspect_path(tmp_path / "model.pt")
