"""The command `app` refuses what is not safe, and says what it lacks, before it serves anything."""

from dataclasses import replace

import pytest

from jax_interp.app.settings import AppSettings
from jax_interp.pipeline.requests.settings import NetworkSettings
from tests.commands import jax_interp


@pytest.fixture
def asked(monkeypatch):
    """The settings that the command would serve with, and whether it is the demo."""
    from jax_interp.cli.runs import app

    received = []
    monkeypatch.setattr(app, "run", lambda settings, *, demo: received.append((settings, demo)))
    monkeypatch.setattr("jax_interp.cli.commands.app.find_spec", lambda name: name)
    return received


def test_only_this_machine_reaches_it_by_default(asked):
    assert jax_interp("app").code == 0
    [(settings, demo)] = asked
    assert replace(settings, networks=NetworkSettings()) == AppSettings()
    assert (settings.access.host, settings.access.port, settings.access.user, demo) == ("127.0.0.1", 7860, None, False)
    assert settings.guardrails is not None


def test_the_options_become_settings(asked, tmp_path):
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    outcome = jax_interp(
        "app", "--listen", "0.0.0.0", "--port", 80, "--auth", f"ann:{password}", "--upload-limit", "2GB", "--keep", 3,
        "--keep-days", 0.5, "--data-dir", tmp_path, "--num-steps", 12, "--disable-guardrail", "--quantization", "int8",
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    [(settings, _)] = asked
    assert (settings.access.host, settings.access.port, settings.access.user) == ("0.0.0.0", 80, "ann")
    assert settings.access.password == "correct horse"
    assert (settings.limits.upload_bytes, settings.limits.kept, settings.limits.kept_days) == (2 * 10**9, 3, 0.5)
    assert (settings.folder, settings.num_steps, settings.guardrails) == (tmp_path, 12, None)
    assert settings.networks.quantization == "int8"


def test_the_demo_has_networks_and_a_clip_of_its_own(asked):
    assert jax_interp("app", "--demo").code == 0
    [(settings, demo)] = asked
    assert demo
    assert settings.example is not None
    assert settings.example.is_file()
    assert settings.networks.checkpoint_dir == settings.folder / "demo-networks"
    assert (settings.guardrails, settings.height, settings.width, settings.frame_stride) == (None, 192, 320, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "0.0.0.0"), "--listen 0.0.0.0: other machines could reach the server"),
        (("--listen", "192.168.1.5", "--port", 80), "give --auth USER:FILE, or --share-nothing"),
        (("--share-nothing",), "--share-nothing: goes with --listen"),
        (("--listen", "127.0.0.1", "--share-nothing"), "nobody but this machine reaches"),
        (("--listen", "::", "--share-nothing", "--auth", "a:b"), "give one of them"),
        (("--auth", "ann"), "expected USER:FILE"),
        (("--auth", "ann:nowhere"), "the file cannot be read"),
        (("--upload-limit", "much"), "--upload-limit much: expected an amount like 500MB"),
        (("--keep", 0), "--keep 0: expected a number above 0"),
        (("--demo", "--checkpoint-dir", "mine"), "--demo brings its own networks"),
    ],
)
def test_what_is_not_safe_or_cannot_work_is_refused(asked, arguments, message):
    outcome = jax_interp("app", *arguments)
    assert outcome.code == 2
    assert message in outcome.output
    assert asked == []


def test_without_gradio_it_says_what_to_install(asked, monkeypatch):
    monkeypatch.setattr("jax_interp.cli.commands.app.find_spec", lambda name: None if name == "gradio" else name)
    outcome = jax_interp("app")
    assert outcome.code == 2
    assert 'pip install -e ".[app]"' in outcome.output
    assert asked == []


def test_without_networks_it_says_how_to_get_some(tmp_path, monkeypatch):
    monkeypatch.setattr("jax_interp.cli.commands.app.find_spec", lambda name: name)  # nothing of Gradio is needed yet
    outcome = jax_interp("app", "--checkpoint-dir", tmp_path / "none", "--data-dir", tmp_path / "data")
    assert outcome.code == 3
    assert "jax-interp convert" in outcome.output
    assert not (tmp_path / "data").exists()
