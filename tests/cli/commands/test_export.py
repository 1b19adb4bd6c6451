from convert.networks.components import COMPONENTS
from jax_interp.errors import CheckpointError, UsageError
from tests.commands import jax_interp
from tests.convert.checkpoints import DIT, T5


def test_chosen_networks_are_written(converted, tmp_path):
    arguments = ("--converted-dir", converted, "--output_dir", tmp_path / "out")
    outcome = jax_interp("export", *arguments, "--components", "text-encoder", "diffusion_transformer")
    assert outcome.code == 0, outcome.output
    written = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.safetensors")
    )
    assert written == [f"{DIT}/model.safetensors", f"{T5}/model.safetensors"]
    again = jax_interp("export", *arguments, "--components", "text_encoder")
    assert again.code == CheckpointError.exit_code
    assert "--overwrite" in again.output
    assert jax_interp("export", *arguments, "--components", "text_encoder", "--overwrite").code == 0


def test_nothing_to_export(converted, tmp_path):
    outcome = jax_interp("export", "--converted-dir", tmp_path, "--output-dir", tmp_path / "out")
    assert outcome.code == CheckpointError.exit_code
    assert "`jax-interp convert` makes one" in outcome.output
    outcome = jax_interp("export", "--converted-dir", converted, "--components", "vae")
    assert outcome.code == UsageError.exit_code
    assert not (tmp_path / "out").exists()


def test_the_help_names_every_component(monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    output = jax_interp("export", "--help").output
    assert f"Only these: {', '.join(COMPONENTS)}. [default: (all that are there)]" in output
