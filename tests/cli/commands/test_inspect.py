import shutil

from jax_interp.errors import CheckpointError
from tests import golden
from tests.commands import jax_interp
from tests.convert.checkpoints import DIT, T5


def test_a_converted_folder(converted, tmp_path):
    output = jax_interp("inspect", converted).output
    for text in ("diffusion_transformer, converted", "complete", "906,752 in 30 arrays", "width = 128", "model.pt"):
        assert text in output
    assert "time_norm/scale" not in output
    assert "time_norm/scale" in jax_interp("inspect", converted, "--keys").output
    half = shutil.copytree(converted, tmp_path / "half")
    (half / DIT / "params" / "time_norm.scale" / "zarr.json").unlink()
    output = jax_interp("inspect", half).output
    assert "NOT USABLE" in output
    assert "zarr.json is" in output


def test_an_upstream_folder():
    output = jax_interp("inspect", golden.CHECKPOINTS).output
    assert "text_encoder, not converted" in output
    assert "NOT USABLE" not in output
    assert "md5" not in output
    assert "md5" in jax_interp("inspect", golden.CHECKPOINTS / T5, "--checksums").output


def test_a_file(tmp_path):
    path = golden.CHECKPOINTS / T5 / "pytorch_model.bin"
    output = jax_interp("inspect", path).output
    assert "shared.weight float32 [364, 64]" in output
    assert "and 8 more; --keys lists them all" in output
    assert "encoder.final_layer_norm.weight" not in output
    assert "encoder.final_layer_norm.weight" in jax_interp("inspect", path, "--keys").output
    outcome = jax_interp("inspect", tmp_path)
    assert outcome.code == CheckpointError.exit_code
    assert "holds no network" in outcome.output
