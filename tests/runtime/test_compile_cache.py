"""What a second process finds of what the first compiled; each run here is a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, logging, jax, jax.numpy as jnp
from jax_interp.runtime.compile_cache import enable_compile_cache

logging.basicConfig()
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.rsplit("/", 1)[-1]))
jax.jit(lambda x: x - 1)(jnp.arange(3)).block_until_ready()
enable_compile_cache()

@jax.jit
def network(x):
    return jnp.sin(x) @ x.T

MORE
value = float(network(jnp.linspace(0.0, 1.0, 36).reshape(6, 6)).sum())
print(json.dumps({
    "value": value, "hits": events.count("cache_hits"), "misses": events.count("cache_misses"),
    "folder": jax.config.jax_compilation_cache_dir, "limit": jax.config.jax_compilation_cache_max_size,
}))
"""


@pytest.fixture
def run(tmp_path):
    """Run `PROGRAM` in a fresh process whose user cache is `tmp_path`; returns what it printed, and `log`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}

    def start(more="", **environment):
        found = subprocess.run(
            [sys.executable, "-c", PROGRAM.replace("MORE", more)],
            cwd=ROOT,
            env=inherited | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)} | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout) | {"log": found.stderr}

    return start


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "jax-interp" / "compiled"


def entry(folder):
    """The compiled `network`."""
    (path,) = folder.glob("jit_network-*-cache")
    return path


def test_a_second_process_compiles_nothing(run, folder):
    first = run()
    assert first["hits"] == 0
    assert first["misses"] > 0
    assert "WARNING" not in first["log"]
    assert first["folder"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    second = run()
    assert (second["hits"], second["misses"]) == (first["misses"], 0)
    assert second["value"] == first["value"]


def test_a_damaged_entry_costs_a_warning_and_a_compilation(run, folder):
    first = run()
    damaged = entry(folder)
    damaged.write_bytes(damaged.read_bytes()[:100])
    second = run()
    assert (second["hits"], second["misses"]) == (first["misses"] - 1, 1)
    assert second["value"] == first["value"]
    assert "Error reading persistent compilation cache entry for 'jit_network'" in second["log"]


def test_an_entry_that_a_kill_cut_off_is_replaced(run, folder):
    first = run()
    torn = entry(folder)
    torn.write_bytes(torn.read_bytes()[:100])
    torn.with_name(torn.name.replace("-cache", "-atime")).unlink()
    second = run()
    assert (second["hits"], second["misses"]) == (first["misses"] - 1, 1)
    assert "Error" not in second["log"]
    third = run()
    assert (third["hits"], third["misses"]) == (first["misses"], 0)


def test_the_users_folder_and_limit_win(run, tmp_path):
    own = tmp_path / "own"
    found = run(JAX_COMPILATION_CACHE_DIR=str(own), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert (found["folder"], found["limit"]) == (str(own), -1)
    assert entry(own)
    assert not (tmp_path / "jax-interp").exists()


def test_the_cache_stays_within_a_limit_unless_the_user_has_another(run, folder):
    assert run()["limit"] == 4 * 10**9
    assert run(JAX_COMPILATION_CACHE_MAX_SIZE="-1")["limit"] == -1
    assert entry(folder)


def test_the_user_keeps_small_programs_out(run, folder):
    found = run(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="1000")
    assert found["misses"] == 0
    assert list(folder.glob("*-cache")) == []


def test_switched_off(run, tmp_path):
    found = run(JAX_ENABLE_COMPILATION_CACHE="false")
    assert (found["folder"], found["hits"], found["misses"]) == (None, 0, 0)
    assert "WARNING" not in found["log"]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_one_line_however_many_programs_there_are(run, folder):
    failing = """
from jax._src import compilation_cache
def put(*_): raise OSError(28, "No space left on device")
compilation_cache.put_executable_and_time = put
network(jnp.ones((2, 2))), network(jnp.ones((3, 3)))
import warnings
warnings.warn("another warning")
"""
    found = run(more=failing)
    assert found["log"].count("No space left on device") == 1
    assert f"{folder}: compiled programs can no longer be kept there" in found["log"]
    assert "another warning" in found["log"]


def test_a_folder_that_cannot_be_made_is_one_warning(run, tmp_path):
    (tmp_path / "file").touch()
    found = run(XDG_CACHE_HOME=str(tmp_path / "file"))
    assert found["folder"] is None
    assert found["log"].count("WARNING:jax_interp:compiled programs cannot be kept") == 1
    assert str(tmp_path / "file" / "jax-interp") in found["log"]
    assert "JAX_COMPILATION_CACHE_DIR" in found["log"]


def test_a_folder_that_everybody_may_write_is_not_used(run, folder):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    found = run()
    assert found["folder"] is None
    assert "everybody may write there" in found["log"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("place", ["compiled", ".", ".."])
def test_nor_one_whose_place_others_can_take(run, folder, place):
    folder.mkdir(parents=True)
    folder.chmod(0o770 if place == "compiled" else 0o700)
    if place != "compiled":
        (folder / ".." / place).resolve().chmod(0o777)
    found = run()
    assert found["folder"] is None
    assert found["log"].count("WARNING:jax_interp:compiled programs cannot be kept") == 1
    assert ("may write there" if place == "compiled" else "in the place of ours") in found["log"]
    assert list(folder.iterdir()) == []


def test_a_relative_cache_folder_in_the_environment_is_ignored(run, tmp_path):
    (tmp_path / "home").mkdir()
    found = run(XDG_CACHE_HOME="cache", HOME=str(tmp_path / "home"))
    assert found["folder"] == str(tmp_path / "home" / ".cache" / "jax-interp" / "compiled")


def test_help_does_not_wait_for_jax():
    program = "import sys, jax_interp.cli.main, jax_interp.runtime.compile_cache; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0
