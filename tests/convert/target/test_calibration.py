"""The files of a calibration: written and read again, and refused where they are damaged or another network's."""

import json
import shutil

import numpy as np
import pytest

from convert import inspect
from convert.formats.safetensors_writer import Entry, write_safetensors
from convert.target.calibration import read_statistics
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.finding import find_component
from tests.convert.checkpoints import DIT
from tests.made_up_calibration import drawn_factors

FAULT = "calibration.json: damaged"


def opened(folder):
    return find_component(folder, "diffusion_transformer")


@pytest.fixture
def spoilt(smoothed_folder, tmp_path):
    """A copy whose manifest is told the sizes of files that a test changes."""
    return shutil.copytree(smoothed_folder / DIT, tmp_path / "spoilt" / DIT)


def sized(folder):
    """Have the manifest agree with the sizes of the calibration's files."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("calibration.json", "calibration.safetensors"):
        manifest["files"][name] = (folder / name).stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder.parent


def rewritten(folder, change):
    report = json.loads((folder / "calibration.json").read_text())
    change(report)
    (folder / "calibration.json").write_text(json.dumps(report))
    return sized(folder)


def test_statistics_come_back(smoothed_folder):
    found = opened(smoothed_folder)
    values, factors = read_statistics(found), drawn_factors(found.config)
    assert values.keys() == factors.keys()
    for product, array in values.items():
        np.testing.assert_array_equal(array, 1 / factors[product])


REPORTS = {
    "cut short": (lambda report: report["products"].pop(), "damaged, or of another network"),
    "a product twice": (lambda report: report["products"].append(report["products"][0]), "or of another network"),
    "other weights": (lambda report: report["sources"].update({"model.pt": "0" * 64}), "or of another network"),
    "another clip": (lambda report: report.update(clip_sha256="0" * 64), "or of another network"),
    "other factors": (lambda report: report.update(factors_sha256="f" * 64), "or of another network"),
    "a strength beyond 1": (lambda report: report["products"][0].update(strength=2), r"strength is 2, expected"),
    "an error that is a text": (lambda report: report["products"][0].update(int8="small"), r"int8 is 'small', expect"),
    "a key too many": (lambda report: report.update(more=1), "more"),
    "no products": (lambda report: report.update(products=[]), "products"),
}


@pytest.mark.parametrize("case", REPORTS)
def test_reports_that_cannot_be(spoilt, case):
    change, text = REPORTS[case]
    with pytest.raises(CheckpointError, match=f"calibration.json: damaged.*{text}|{text}.*manifest.json"):
        opened(rewritten(spoilt, change))
    [finding] = [each for each in inspect(spoilt) if each.path == spoilt]
    assert "calibration.json" in finding.faults[0]
    assert finding.calibration is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"products": ' + b"[" * 100_000, b"\xff\xfe", b" " * (1 << 23)]
)
def test_reports_that_are_no_json(spoilt, content):
    (spoilt / "calibration.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=FAULT):
        opened(sized(spoilt))


def test_missing_files_are_named(spoilt):
    for name in ("calibration.json", "calibration.safetensors"):
        kept = (spoilt / name).read_bytes()
        (spoilt / name).unlink()
        with pytest.raises(CheckpointError, match=f"incomplete, {name} is missing"):
            opened(spoilt.parent)
        (spoilt / name).write_bytes(kept)
    manifest = json.loads((spoilt / "manifest.json").read_text())
    del manifest["settings"]["calibration"]
    (spoilt / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest.json: damaged, its settings have no calibration"):
        opened(spoilt.parent)


def write(folder, arrays):
    (folder / "calibration.safetensors").unlink()
    entries = [Entry(name, array.shape, array.dtype, lambda array=array: array) for name, array in arrays.items()]
    write_safetensors(folder / "calibration.safetensors", entries)
    sized(folder)


STATISTICS = {
    "a product less": lambda arrays: arrays.pop("mlp/up"),
    "a block less": lambda arrays: arrays.update({"mlp/up": arrays["mlp/up"][1:]}),
    "integers": lambda arrays: arrays.update({"mlp/up": arrays["mlp/up"].astype(np.int32)}),
    "an unknown product": lambda arrays: arrays.update({"mlp/other": arrays["mlp/up"]}),
    "infinite": lambda arrays: arrays["mlp/up"].fill(np.inf),
    "negative": lambda arrays: arrays["mlp/up"].fill(-1),
}


@pytest.mark.parametrize("case", STATISTICS)
def test_statistics_that_cannot_be(spoilt, case):
    arrays = read_statistics(opened(spoilt.parent))
    arrays = {name: array.copy() for name, array in arrays.items()}
    STATISTICS[case](arrays)
    write(spoilt, arrays)
    with pytest.raises(CheckpointError, match=r"calibration.safetensors: damaged"):
        read_statistics(opened(spoilt.parent))
    [finding] = inspect(spoilt)
    assert "calibration.safetensors: damaged" in finding.faults[0]


@pytest.mark.parametrize("content", [b"", b"\x08" + b"\0" * 7 + b"not json", b"\xff" * 64])
def test_statistics_that_are_no_safetensors(spoilt, content):
    (spoilt / "calibration.safetensors").write_bytes(content)
    sized(spoilt)
    with pytest.raises(CheckpointError, match=r"calibration.safetensors"):
        read_statistics(opened(spoilt.parent))
