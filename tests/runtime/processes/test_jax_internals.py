"""The private names of JAX that are used are there, mean what they did, and are imported in one place."""

import ast
from pathlib import Path

import jax
import pytest

from jax_interp.runtime.processes.jax_internals import coordination_client, detect_process, is_started

ROOT = Path(__file__).parents[3]


def test_jax_is_started_once_its_devices_are_known():
    assert jax.devices()
    assert is_started()


def test_a_process_alone_has_no_client():
    assert coordination_client() is None


def test_what_is_given_is_kept():
    assert detect_process("host:1234", 2, 1, 5)[:3] == ("host:1234", 2, 1)


def test_slurm_is_asked_for_what_is_not_given(monkeypatch):
    for name, value in {"JOB_ID": "7", "STEP_NODELIST": "node1", "NTASKS": "4", "PROCID": "3", "LOCALID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    address, count, index, devices = detect_process(None, None, None, 5)
    assert address
    assert address.startswith("node1:")
    assert (count, index, list(devices)) == (4, 3, [1])


@pytest.mark.parametrize("folder", ["jax_interp", "convert"])
def test_nothing_else_imports_private_names(folder):
    importing = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.startswith("jax._src") for name in names):
                importing.add(path.name)
    assert importing == ({"jax_internals.py"} if folder == "jax_interp" else set())
