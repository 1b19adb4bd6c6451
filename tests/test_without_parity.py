"""Without this, a test that imports torch would break `make test`, which does not install it, unseen where it is."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.without_parity import MISSING

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.without_parity", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_what_is_hidden_is_the_extra():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["parity"]
    assert {requirement.partition("==")[0] for requirement in extra} <= MISSING


@pytest.mark.slow
def test_the_suite_collects_without_the_extra():
    outcome = run("--collect-only", "-q")
    assert outcome.returncode == 0, outcome.stdout[-3000:] + outcome.stderr[-3000:]
    assert re.search(r"^\d{4,} tests collected", outcome.stdout.splitlines()[-1])
    skipped = re.findall(r"^SKIPPED .*? (tests/\S+?):\d+: could not import 'torch'", outcome.stdout, re.MULTILINE)
    peers = [path for path in (ROOT / "tests/parity").rglob("test_*.py") if "importorskip" in path.read_text()]
    assert len(peers) > 5
    assert {str(path.relative_to(ROOT)) for path in peers} <= set(skipped)


@pytest.mark.slow
def test_a_test_whose_checkpoints_torch_writes_is_skipped():
    outcome = run("-q", "tests/test_components.py", "-k", "test_a_run_has_the_stages_of_the_table")
    assert outcome.returncode == 0, outcome.stdout[-3000:] + outcome.stderr[-3000:]
    assert outcome.stdout.splitlines()[-1].startswith("1 skipped")
