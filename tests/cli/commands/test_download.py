import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
from typer.testing import CliRunner

import convert
from convert.hub import catalog
from jax_interp.cli.main import app
from jax_interp.errors import DownloadError, UsageError
from tests.commands import jax_interp
from tests.convert.fake_hub import MEMBER, FakeHub, FakeRepository, serve
from tests.convert.hostile_hub import LISTINGS, head

ROOT = Path(__file__).parents[3]
FILES = {
    name: name.encode() * 100 for name in ("model.pt", "encoder.jit", "decoder.jit", "mean_std.pt", "image_mean_std.pt")
}
FILES |= {name: name.encode() for name in ("config.json", "pytorch_model.bin", "spiece.model", "tokenizer.json")}


@pytest.fixture
def fake(monkeypatch):
    """The hub with all repositories of the catalog, in small."""
    repositories = {
        repository.repo_id: FakeRepository({}, big=frozenset({"model.pt"})) for repository in catalog.REPOSITORIES
    }
    for repository in catalog.REPOSITORIES:
        files = {name: FILES.get(name, name.encode()) for name in repository.files}
        repositories[repository.repo_id].files.update(files)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serve(FakeHub(repositories)) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("convert.hub.client.get_token", lambda: None)
        yield hub


def invoke(*args):
    return CliRunner().invoke(app, ["download", *map(str, args)])


def test_dry_run_shows_files_and_sizes_and_fetches_nothing(fake, tmp_path):
    result = invoke("--checkpoint_dir", tmp_path / "new", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "image_mean_std.pt" in result.output
    assert "in all" in result.output
    assert not (tmp_path / "new").exists()


def test_upstreams_command_line(fake, tmp_path):
    result = invoke(
        "--model_sizes", "7B", "14B", "--model_types", "WorldInterpolator", "Video2World",
        "--checkpoint_dir", tmp_path, "--no-check-md5",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for folder in ("7B-WorldInterpolator", "7B-Video2World", "14B-Video2World"):
        assert (tmp_path / f"Cosmos-Predict1-{folder}/model.pt").read_bytes() == FILES["model.pt"]
    assert (tmp_path / "google-t5/t5-11b/tokenizer.json").exists()
    record = json.loads((tmp_path / "download.json").read_text())
    wanted = catalog.select(["7B", "14B"], ["WorldInterpolator", "Video2World"])
    assert record["repositories"].keys() == {repository.repo_id for repository in wanted}


def test_components_choose_what_is_fetched(fake, tmp_path):
    result = invoke("--checkpoint-dir", tmp_path, "--components", "tokenizer", "--no-check-md5")
    assert result.exit_code == 0, result.output
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["Cosmos-Tokenize1-CV8x8x8-720p", "download.json"]


def test_combination_that_is_not_published(fake, tmp_path):
    result = invoke("--model-sizes", "14B", "--checkpoint-dir", tmp_path)
    assert isinstance(result.exception, UsageError)
    assert "14B Video2World" in str(result.exception)
    assert not fake.requests


def test_wrong_md5_ends_the_run(fake, tmp_path):
    result = invoke("--checkpoint-dir", tmp_path)
    assert isinstance(result.exception, DownloadError)
    assert "model.pt" in str(result.exception)
    assert "MD5" in str(result.exception)


def test_interruption_says_how_to_go_on(fake, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("jax_interp.cli.runs.download.download", interrupt)
    result = invoke("--checkpoint-dir", tmp_path)
    assert result.exit_code == 130
    assert "goes on from there" in result.output


def test_the_prompt_upsampler_is_put_together_from_two_repositories(fake, tmp_path):
    result = invoke("--components", "prompt_upsampler", "--checkpoint-dir", tmp_path)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "Pixtral-12B"
    names = ["consolidated.safetensors", "params.json", "tokenizer.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["Pixtral-12B"]
    commits = json.loads((tmp_path / "download.json").read_text())["repositories"]
    assert commits.keys() == {"mistralai/Pixtral-12B-2409", "mistral-community/pixtral-12b"}
    before = len(fake.transfers())
    assert invoke("--components", "prompt_upsampler", "--checkpoint-dir", tmp_path).exit_code == 0
    assert len(fake.transfers()) == before


def test_the_help_names_every_component_and_those_on_request(monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    output = " ".join(invoke("--help").output.split()).replace("- ", "-")
    assert f"Only these: {', '.join(catalog.component_names())}. [default: (all but prompt_upsampler, aegis)]" in output


def test_the_plan_lists_the_terms_and_what_to_do_without_a_token(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    output = invoke("--checkpoint-dir", tmp_path, "--dry-run").output
    assert "Terms have to be accepted, once, with the account of your token, at:" in output
    pages = [line.strip() for line in output.splitlines() if line.startswith("  https://")]
    wanted = {r.url for r in catalog.select(["7B"], ["WorldInterpolator"]) if r.gated}
    assert pages == sorted(wanted)
    assert "There is no token yet: run `hf auth login`, or set HF_TOKEN." in output
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    output = invoke("--checkpoint-dir", tmp_path, "--dry-run").output
    assert "no token" not in output
    assert MEMBER not in output
    output = invoke("--checkpoint-dir", tmp_path, "--dry-run", "--components", "text_encoder").output
    assert "Terms" not in output


def test_a_folder_with_brackets_in_its_name(fake, tmp_path):
    folder = tmp_path / "[/one] [red]two"
    result = invoke("--checkpoint-dir", folder, "--components", "tokenizer", "--no-check-md5")
    assert result.exit_code == 0, result.output
    assert str(folder) in result.output.replace("\n", "")


@pytest.mark.parametrize("name", ["a login page", "a list", "no size", "nested without end"])
def test_a_hostile_hub_ends_the_run_with_its_exit_code(fake, tmp_path, name):
    def act(handler, path):
        body = LISTINGS[name][0]({"id": "x", "sha": "a" * 40, "siblings": [{"rfilename": "model.pt"}]})
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return not handler.raw(head(200, Content_Length=len(body)), body)

    fake.act = act
    outcome = jax_interp("download", "--checkpoint-dir", tmp_path / "new")
    assert outcome.code == DownloadError.exit_code
    assert outcome.output.startswith("error: nvidia/Cosmos-Predict1-7B-WorldInterpolator at main: the hub's answer ")
    assert not (tmp_path / "new").exists()


def test_retries_are_shown(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    fake.broken_status = [503]
    outcome = jax_interp("download", "--checkpoint-dir", tmp_path, "--components", "text_encoder", "--no-check-md5")
    assert outcome.code == 0, outcome.output
    assert "Trying again in 2 s (try 2 of 5)" in outcome.output


@pytest.mark.slow
def test_ctrl_c_keeps_what_has_arrived_and_the_same_command_goes_on(tmp_path):
    repository = next(r for r in catalog.REPOSITORIES if r.component == "tokenizer")
    files = {name: name.encode() * 40_000 for name in repository.files}
    with serve(FakeHub({repository.repo_id: FakeRepository(files)})) as hub:

        def act(handler, path):
            data = files["decoder.jit"]
            if not path.startswith("/cdn/") or not path.endswith("decoder.jit"):
                return False
            handler.raw(head(200, Content_Length=len(data)), data[:100_000])
            return bool(hub.closing.wait(60))

        hub.act = act
        command = [sys.executable, "-m", "jax_interp", "download", "--checkpoint-dir", str(tmp_path), "--no-check-md5"]
        command += ["--components", "tokenizer"]
        environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": MEMBER}
        # A shell ignores Ctrl-C in what it runs in the background; children of these tests would inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        finally:
            signal.signal(signal.SIGINT, before)
        part = tmp_path / repository.folder / f"decoder.jit.{'a' * 12}.part"
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "goes on from there" in " ".join(errors.split())
        assert MEMBER not in errors
        kept = part.stat().st_size
        assert kept
        hub.act = None
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert ("decoder.jit", f"bytes={kept}-") in hub.transfers()
        assert (tmp_path / repository.folder / "decoder.jit").read_bytes() == files["decoder.jit"]


def test_the_function_of_the_package_does_the_same(fake, tmp_path):
    heard = []
    plan = convert.download(tmp_path / "a", components=["tokenizer"], dry_run=True)
    assert plan.to_fetch > 0
    assert not (tmp_path / "a").exists()
    convert.download(
        tmp_path / "a", components=["tokenizer"], check_md5=False, progress=lambda *told: heard.append(told)
    )
    assert sum(count for _, count in heard) == plan.to_fetch
    assert {name for name, _ in heard} == {file.key for file in plan.files}
    assert convert.download(tmp_path / "a", components=["tokenizer"], dry_run=True).to_fetch == 0
