import json
import shutil
from collections import ChainMap
from dataclasses import replace

import huggingface_hub
import jax
import pytest
from typer.testing import CliRunner

from jax_interp.cli.main import app
from jax_interp.components import TABLE
from jax_interp.pipeline.memory.plan import Planner
from jax_interp.pipeline.stage_classes import planned
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime import doctor
from jax_interp.runtime.doctor import CHECKS, Check, examine
from jax_interp.runtime.hardware import Gpu

H100 = Gpu("NVIDIA H100", "570.86.15", 85 * 10**9, 84 * 10**9)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without a GPU, whatever the tests run on; `machine(...)` gives it some."""

    def equip(*gpus, cuda="12.8"):
        monkeypatch.setattr(doctor, "nvidia_gpus", lambda: gpus)
        monkeypatch.setattr(doctor, "cuda_of_driver", lambda: cuda)

    equip()
    return equip


@pytest.fixture
def packages(monkeypatch):
    """Chooses which packages are installed, and in which version."""

    def install(**versions):
        known = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(doctor, "_version", lambda name: known.get(name.replace("_", "-")))

    return install


def run(name):
    return CHECKS[name](name)


def test_every_check_answers_here():
    checks = examine()
    assert [check.name for check in checks] == list(CHECKS)
    assert not [check for check in checks if check.status == "missing" or "check itself failed" in check.value]
    values = {check.name: check.value for check in checks}
    assert f"jax {jax.__version__}" in values["packages"]
    assert "cpu" in values["devices"]


def test_a_check_that_raises_does_not_stop_the_others(monkeypatch):
    def broken(name):
        raise RuntimeError("no such thing\nsecond line")

    monkeypatch.setitem(CHECKS, "devices", broken)
    checks = {check.name: check for check in examine()}
    assert checks["devices"].status == "warning"
    assert checks["devices"].value.endswith("RuntimeError: no such thing")
    assert checks["video codecs"].status == "ok"


def test_absent_package_is_missing(packages):
    packages(jax="0.10.2", jaxlib="0.10.2", flax="0.12.8", transformers="5.0", huggingface_hub="1.0", av="14.0")
    check = run("packages")
    assert check.status == "missing"
    assert check.advice == "pip install orbax-checkpoint"


def test_old_driver(machine):
    machine(Gpu("NVIDIA T4", "470.1", 16 * 10**9, 16 * 10**9), cuda="11.4")
    check = run("NVIDIA driver")
    assert (check.status, check.value) == ("warning", "470.1, for CUDA up to 11.4")
    assert "525" in check.advice


@pytest.mark.parametrize(
    ("driver", "installed", "advice"),
    [
        ("570.86", {}, 'pip install -e ".[cuda12]" in the clone'),
        ("580.65", {}, 'pip install -e ".[cuda13]" in the clone'),
        ("570.86", {"jax_cuda12_plugin": "0.9.0"}, "does not fit jaxlib 0.10.2"),
        ("570.86", {"jax_cuda13_plugin": "0.10.2"}, "the driver is too old"),
        ("570.86", {"jax_cuda12_plugin": "0.10.2"}, "does not start"),
    ],
)
def test_gpu_that_jax_does_not_use(machine, packages, monkeypatch, driver, installed, advice):
    monkeypatch.delenv("JAX_PLATFORMS")
    machine(Gpu("NVIDIA H100", driver, 85 * 10**9, 84 * 10**9))
    packages(jaxlib="0.10.2", **installed)
    check = run("devices")
    assert check.status == "warning"
    assert advice in check.advice


def test_gpu_that_the_environment_hides(machine, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    machine(H100)
    assert "JAX_PLATFORMS=cpu" in run("devices").advice


def test_gpu_memory(machine):
    check = run("GPU memory")
    assert (check.status, check.value) == ("warning", "no NVIDIA GPU")
    assert "the released networks need a GPU" in check.advice
    machine(H100)
    assert run("GPU memory") == Check("GPU memory", "ok", "NVIDIA H100: 84 GB free of 85 GB")
    machine(Gpu("NVIDIA L4", "570.86", 24 * 10**9, 2 * 10**9))
    assert "15 GB" in run("GPU memory").advice


def test_shared_memory_matters_for_several_gpus(machine, monkeypatch):
    usage = doctor.shutil.disk_usage("/")._replace(total=64 * 2**20, free=64 * 2**20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert run("shared memory").status == "ok"
    machine(H100, H100)
    assert "--shm-size" in run("shared memory").advice


def test_cudnn_that_fails_names_the_fallback(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("CUDNN_STATUS_NOT_SUPPORTED\nlong story")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.nn, "dot_product_attention", fail)
    check = run("attention")
    assert check.value == "cuDNN does not run: CUDNN_STATUS_NOT_SUPPORTED"
    assert "XLA" in check.advice


@pytest.mark.gpu
def test_cudnn_runs():
    assert run("attention").value == "cuDNN"


def test_token_is_found_but_never_shown(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    assert run("hub token") == Check("hub token", "ok", "present")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "HF_TOKEN" in run("hub token").advice


def test_little_memory_and_disk(monkeypatch):
    monkeypatch.setattr(doctor, "host_memory", lambda: (2 * 10**9, 16 * 10**9))
    usage = doctor.shutil.disk_usage("/")._replace(free=10**9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert run("host memory").value == "2 GB free of 16 GB"
    assert "8 GB" in run("host memory").advice
    assert "80 GB" in run("disk").advice


@pytest.mark.parametrize(("gpu", "waiting"), [(84, None), (40, None), (24, "17 GB"), (6, "32 GB")])
def test_what_does_not_fit_into_a_gpu_waits_in_host_memory(machine, monkeypatch, gpu, waiting):
    monkeypatch.setattr(doctor, "host_memory", lambda: (12 * 10**9, 16 * 10**9))
    machine(replace(H100, free=gpu * 10**9))
    check = run("host memory")
    assert check.status == ("warning" if waiting else "ok")
    assert check.advice.startswith(f"with {gpu} GB of GPU memory, {waiting} of the 7B networks") or not waiting


def test_host_memory_is_what_the_planner_finds():
    rows = (row for name, row in TABLE.items() if name != "prompt_upsampler")
    networks = ChainMap(*(planned(row.name, row.released_as("7B"), row.precision) for row in rows))
    planner = Planner(networks, Workload())
    above = 10**12
    for least, host in doctor.WAITING_BYTES:
        for gpu in (max(least, 5 * doctor.GB), above - doctor.GB):  # no plan takes less than 5 GB
            assert host - doctor.GB < planner.within(gpu).host <= host, gpu
        above = least


def test_cache_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run("cache folder").status == "ok"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    check = run("cache folder")
    assert check.status == "warning"
    assert "set XDG_CACHE_HOME" in check.advice


def test_without_a_home_there_is_no_cache_folder(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "relative")
    check = run("cache folder")
    assert check.status == "warning"
    assert "no home folder is known" in check.value


@pytest.fixture
def compilation_cache(monkeypatch, tmp_path):
    """JAX's cache as in a fresh process; called with a folder, as if the user had chosen that."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = [getattr(jax.config, name) for name in names]

    def choose(folder, enabled=True):
        for name, value in zip(names, (folder, enabled), strict=True):
            jax.config.update(name, value)

    choose(None)
    yield choose
    choose(*before)


def test_compilation_cache_is_on_by_default(compilation_cache, tmp_path):
    folder = tmp_path / "jax-interp" / "compiled"
    assert run("compilation cache") == Check("compilation cache", "ok", f"{folder}, 0.0 MB used")
    (folder / "kernels").mkdir()
    (folder / "kernels" / "entry").write_bytes(bytes(2_500_000))
    assert run("compilation cache").value == f"{folder}, 2.5 MB used"


def test_compilation_cache_in_the_users_folder(compilation_cache, tmp_path):
    compilation_cache(str(tmp_path / "own"))
    assert run("compilation cache").value == f"{tmp_path / 'own'}, 0.0 MB used"
    compilation_cache("gs://bucket/own")
    assert run("compilation cache") == Check("compilation cache", "ok", "gs://bucket/own")
    compilation_cache(None, enabled=False)
    check = run("compilation cache")
    assert (check.status, check.value) == ("ok", "switched off by JAX_ENABLE_COMPILATION_CACHE")
    assert not (tmp_path / "jax-interp").exists()


def test_compilation_cache_that_others_can_write_to(compilation_cache, tmp_path):
    folder = tmp_path / "jax-interp" / "compiled"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    check = run("compilation cache")
    assert check.status == "warning"
    assert check.value.startswith(f"{folder} cannot be used (everybody may write there")


def test_compilation_cache_that_cannot_be_used(compilation_cache, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    check = run("compilation cache")
    assert check.status == "warning"
    assert check.value.startswith(f"{tmp_path / 'file' / 'jax-interp' / 'compiled'} cannot be used")
    assert "set JAX_COMPILATION_CACHE_DIR" in check.advice


def test_missing_encoder(monkeypatch):
    import av.codec

    def only_readers(name, mode):
        if mode == "w":
            raise ValueError(name)

    monkeypatch.setattr(av.codec, "Codec", only_readers)
    check = run("video codecs")
    assert check.status == "missing"
    assert "libx264" in check.value


def test_command_prints_json_and_fails_only_for_what_is_required(monkeypatch):
    found = [Check("one", "ok", "fine"), Check("two", "warning", "so so", "do [this]")]
    monkeypatch.setattr(doctor, "examine", lambda: found)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["checks"][1] == {
        "name": "two",
        "status": "warning",
        "value": "so so",
        "advice": "do [this]",
    }
    found.append(Check("three", "missing", "nothing"))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "[this]" in result.output


def test_guardrail_packages(monkeypatch):
    """What is there of an optional extra, and what it is for."""
    monkeypatch.setattr(doctor, "find_spec", lambda package: object())
    assert run("guardrail packages").status == "ok"
    monkeypatch.setattr(doctor, "find_spec", lambda package: None if package == "nltk" else object())
    check = run("guardrail packages")
    assert (check.status, check.value) == ("warning", "nltk missing")
    assert 'pip install -e ".[guardrails]" in the clone' in check.advice


def test_converted_transformers_are_named_with_the_command_that_runs_them(converted_world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("converted transformers").value == "no folder converted here"
    name = "Cosmos-Predict1-7B-Video2World"
    shutil.copytree(converted_world / name, tmp_path / "converted" / name)
    assert run("converted transformers") == Check("converted transformers", "ok", f"{name} (for `video2world`)")
    (tmp_path / "converted" / name).rename(tmp_path / "converted" / "Cosmos-Predict1-14B-Video2World")
    found = run("converted transformers")
    assert found.status == "warning"
    assert "rotary_ratio is [2.0, 1.0, 1.0]" in found.advice
    assert "convert it again" in found.advice
