"""Conversions with a calibration: what they need, what they leave, and when they are done already."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from convert import convert, inspect
from convert.conversion import ConversionRequest
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.nn.quantization import quantize_kernel
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.param_files import read_arrays
from jax_interp.runtime.checkpoint.quantizing import QuantizedLayer
from tests.convert.checkpoints import DIT, T5, TOKENIZER, copy_golden, dit_tensors, write_dit
from tests.made_up_calibration import MadeUp, drawn_factors


@pytest.fixture
def checkpoints(tmp_path):
    return copy_golden(tmp_path / "checkpoints", DIT, TOKENIZER)


@dataclass(frozen=True)
class Looking(MadeUp):
    """Notes what a calibration is given."""

    seen: tuple = ()

    def __call__(self, transformer, tokenizer, text_encoder, progress):
        folder = transformer.path.parent
        object.__setattr__(
            self,
            "seen",
            (transformer.stored, transformer.path.name, tokenizer.component, text_encoder, sorted(folder.iterdir())),
        )
        return super().__call__(transformer, tokenizer, text_encoder, progress)


def test_a_transformer_is_calibrated_unquantised_and_stored_with_its_factors(checkpoints, tmp_path):
    looking = Looking()
    convert(checkpoints, tmp_path / "out", quantization="int8", calibrate=looking)
    stored, name, tokenizer, text_encoder, others = looking.seen
    assert (stored, name, tokenizer, text_encoder) == ("none", DIT, "tokenizer", None)
    assert [path.name for path in others] == [DIT]  # nothing of the network itself was written yet
    found = find_component(tmp_path / "out", "diffusion_transformer")
    assert (found.stored, found.manifest["format_version"]) == ("int8-smoothed", 2)
    assert found.calibration == MadeUp().facts | {"factors_sha256": "0" * 64}
    entry = found.manifest["params"]["blocks/mlp/down/factors"]
    assert entry == {"shape": [3, 512], "dtype": "float32", "source": "calibration", "op": "int8-smoothed"}
    assert {path.name for path in found.path.iterdir()} == {
        *("calibration.json", "calibration.safetensors", "config.json", "manifest.json", "params")
    }
    assert {"calibration.json", "calibration.safetensors"} < found.manifest["files"].keys()
    assert json.loads((tmp_path / "out" / TOKENIZER / "config.json").read_text())["format_version"] == 1
    assert not list((tmp_path / "out").glob(".*.converting"))


@pytest.mark.slow
def test_it_is_done_already_with_the_same_clip_and_not_with_another(checkpoints, tmp_path):
    looking = Looking()
    for calibrate in (MadeUp(), looking):
        convert(checkpoints, tmp_path / "out", quantization="int8", calibrate=calibrate)
    assert not looking.seen
    for other, said in (
        (MadeUp("other.mp4"), "with calibration on clip.mp4 at 64×96"),
        (None, "with quantization int8-smoothed"),
    ):
        with pytest.raises(CheckpointError, match=said):
            convert(checkpoints, tmp_path / "out", quantization="int8", calibrate=other)
    convert(checkpoints, tmp_path / "out", quantization="int8", calibrate=MadeUp("other.mp4"), overwrite=True)
    calibration = find_component(tmp_path / "out", "diffusion_transformer").calibration
    assert calibration is not None
    assert calibration["clip"] == "other.mp4"


class Interrupted(Exception):
    pass


@dataclass(frozen=True)
class Failing(MadeUp):
    def __call__(self, transformer, tokenizer, text_encoder, progress):
        raise Interrupted


@pytest.mark.slow
def test_an_interrupted_calibration_leaves_only_what_is_complete(checkpoints, tmp_path):
    with pytest.raises(Interrupted):
        convert(checkpoints, tmp_path / "out", quantization="int8", calibrate=Failing())
    assert [path.name for path in (tmp_path / "out").iterdir()] == [TOKENIZER]
    convert(checkpoints, tmp_path / "out", quantization="int8", calibrate=MadeUp())
    assert find_component(tmp_path / "out", "diffusion_transformer").stored == "int8-smoothed"


def test_what_a_calibration_needs(checkpoints, tmp_path):
    request = ConversionRequest(checkpoint_dir=checkpoints, output_dir=tmp_path / "out", quantization="int8")
    for quantization in ("none", "int8-rotated"):
        with pytest.raises(UsageError, match=f"--calibrate: is for --quantization int8, not {quantization}"):
            replace(request, quantization=quantization, calibrate=MadeUp())
    with pytest.raises(UsageError, match=r"--quantization int8-smoothed: needs a calibration; .* --calibrate CLIP"):
        replace(request, quantization="int8-smoothed")
    for components, said in (
        (["tokenizer"], "--calibrate: of tokenizer none has a calibration, which only transformers have"),
        (["diffusion_transformer"], "--calibrate: needs the tokenizer, which is neither converted in .* nor among"),
    ):
        with pytest.raises(UsageError, match=said):
            convert(checkpoints, request.output_dir, components=components, quantization="int8", calibrate=MadeUp())
    assert not request.output_dir.exists()


@pytest.mark.slow
def test_a_tokenizer_that_was_converted_before_will_do(checkpoints, tmp_path):
    out = tmp_path / "out"
    convert(checkpoints, out, components=["tokenizer"])
    convert(checkpoints, out, components=["diffusion_transformer"], quantization="int8-smoothed", calibrate=MadeUp())
    assert find_component(out, "diffusion_transformer").stored == "int8-smoothed"


def test_other_networks_stay_in_plain_int8(smoothed_folder):
    found = find_component(smoothed_folder, "text_encoder")
    assert (found.stored, found.calibration) == ("int8", None)
    kinds = {finding.path.name: finding.calibration is not None for finding in inspect(smoothed_folder)}
    assert kinds == {DIT: True, TOKENIZER: False, T5.split("/")[-1]: False}


def test_the_text_encoder_takes_part_where_it_is_converted(smoothed_folder):
    report = json.loads((smoothed_folder / DIT / "calibration.json").read_text())
    assert report["text"] == "negative prompt"
    assert report["sources"] == find_component(smoothed_folder, "diffusion_transformer").source_sha256


def test_values_are_those_of_the_checkpoint_with_factors(converted, smoothed_folder):
    """The cross-attention's values are not quantised, so that their factors can be seen."""
    path = "blocks/cross_attention/value/kernel"
    wanted = {path: np.dtype("float32")}
    plain, ours = (read_arrays(folder / DIT / "params", wanted)[path] for folder in (converted, smoothed_folder))
    factors = drawn_factors(find_component(converted, "diffusion_transformer").config)["cross_attention/out"]
    np.testing.assert_array_equal(ours, plain * factors[:, None])


@pytest.mark.slow
def test_weights_of_other_networks_are_those_without_a_calibration(quantized, smoothed_folder):
    files = [path for path in (quantized / T5 / "params").rglob("*") if "/c/" in path.as_posix() and path.is_file()]
    assert files
    for path in files:
        assert (smoothed_folder / path.relative_to(quantized)).read_bytes() == path.read_bytes(), path


@dataclass(frozen=True)
class Smallest(MadeUp):
    """Has the smallest factors that there are, beside ones."""

    def __call__(self, transformer, tokenizer, text_encoder, progress):
        found = super().__call__(transformer, tokenizer, text_encoder, progress)
        factors = {product: np.where(array < 1, np.float32(2**-15), 1) for product, array in found.factors.items()}
        return replace(found, factors={product: array.astype(np.float32) for product, array in factors.items()})


def test_weights_in_float16_are_not_rounded_by_factors(checkpoints, tmp_path):
    """They have five bits for exponents: a value of 3 divided by the smallest factor is beyond them."""
    (checkpoints / DIT / "model.pt").unlink()
    write_dit(checkpoints, {name: array.astype(np.float16) for name, array in dit_tensors().items()})
    convert(checkpoints, tmp_path / "plain")
    convert(checkpoints, tmp_path / "out", quantization="int8", calibrate=Smallest())
    path, product = "blocks/cross_attention/value/kernel", "cross_attention/out"
    plain, stored = (find_component(tmp_path / name, "diffusion_transformer") for name in ("plain", "out"))
    assert (plain.manifest["params"][path]["dtype"], stored.manifest["params"][path]["dtype"]) == ("float16", "float32")
    values = read_arrays(plain.path / "params", {path: np.dtype(np.float16)})[path].astype(np.float32)
    factors = Smallest()(plain, None, None, None).factors[product]
    expected = values * factors[:, None]
    assert (expected != expected.astype(np.float16)).any()
    np.testing.assert_array_equal(read_arrays(stored.path / "params", {path: np.dtype(np.float32)})[path], expected)


def test_weights_that_have_no_scale_are_named(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(QuantizedLayer, "quantize", lambda *_: quantize_kernel(np.full((2, 2), np.inf, np.float32)))
    with pytest.raises(CheckpointError, match=r"cannot be quantised \(values that are not finite have no scale\)"):
        convert(checkpoints, tmp_path / "out", quantization="int8")
