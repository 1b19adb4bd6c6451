import json

import huggingface_hub.constants
import pytest
from typer.testing import CliRunner

from convert.hub import catalog
from jax_interp.cli.main import app
from jax_interp.errors import DownloadError, UsageError
from tests.convert.fake_hub import FakeHub, FakeRepository, serve

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

    monkeypatch.setattr("convert.hub.download.download", interrupt)
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
