"""The comparison on tiny networks: what is right holds, and what is wrong is found and named."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from convert.conversion import ConversionRequest, convert_checkpoints
from jax_interp.components import TABLE
from jax_interp.errors import UsageError
from jax_interp.parity.comparison import compare as module
from jax_interp.parity.comparison.compare import compare
from jax_interp.parity.request import ParityRequest
from tests import golden
from tests.convert.pixtral_checkpoints import KINDS, write_pixtral
from tests.models import video_peers
from tests.parity.controls import CONTROLS, change, copied, negated_first

T5 = TABLE["text_encoder"].folder
DIT = TABLE["diffusion_transformer"].folder
MATRIX = "blocks/attention/query/kernel"


def request(converted, checkpoints=golden.CHECKPOINTS, **changes):
    return ParityRequest(converted=converted, checkpoint_dir=checkpoints, **changes)


def converted_from(checkpoints, root, **options):
    convert_checkpoints(ConversionRequest(checkpoint_dir=checkpoints, output_dir=root, **options))
    return root


def test_the_text_encoder_holds_in_both_dtypes(converted):
    steps = []

    class Job:
        def __init__(self, label, total):
            steps.append([label, total, 0])

        def __enter__(self):
            return lambda count: steps[-1].__setitem__(2, steps[-1][2] + count)

        def __exit__(self, *error):
            pass

    report = compare(request(converted, components=("text_encoder",)), Job)
    assert report.held
    assert report.faults() == []
    [network] = report.networks
    assert (network.network, network.folder, network.peer) == ("text_encoder", T5, "transformers T5EncoderModel")
    assert network.weights.arrays == 27
    assert [block.block for block in network.blocks] == ["embedding", "block 0", "block 1", "block 2", "end"]
    assert network.float32 is not None
    assert network.bfloat16 is not None
    assert network.bfloat16.peer_error is not None
    assert 0 < network.float32.error < 1e-5 < network.bfloat16.peer_error
    assert [(total, done) for _, total, done in steps] == [(27, 27), (3, 3), (3, 3)]
    assert {"jax", "torch"} < report.versions.keys()


@pytest.mark.parametrize("control", CONTROLS)
def test_what_is_wrong_is_found_and_named(converted, tmp_path, control):
    CONTROLS[control](copied(converted, T5, tmp_path), MATRIX)
    report = compare(request(tmp_path, components=("text_encoder",), dtype="float32"))
    assert not report.held
    blocks = {"block 1", "block 2"} if control == "swapped blocks" else {"block 1"}
    [network] = report.networks
    assert {each.block for each in network.weights.differences} == blocks
    assert {block.block for block in network.blocks if not block.held} == blocks
    assert any(fault.startswith("text_encoder, block 1: ") for fault in report.faults())
    assert any("attention/query/kernel" in fault for fault in report.faults())


def test_a_value_too_small_to_show_in_any_output_is_found_in_the_weights(converted, tmp_path):
    def smallest(matrix):
        flat = matrix.reshape(-1).copy()
        flat[np.argmin(np.abs(flat))] *= -1
        return flat.reshape(matrix.shape)

    change(copied(converted, T5, tmp_path), MATRIX, 2, smallest)
    [network] = compare(request(tmp_path, components=("text_encoder",), dtype="float32")).networks
    assert all(block.held for block in network.blocks)
    [difference] = network.weights.differences
    assert (difference.block, difference.array, difference.values) == ("block 2", "attention/query/kernel", 1)
    assert not network.held


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS)
def test_what_is_wrong_with_the_transformer_is_found_and_named(converted, tmp_path, control):
    CONTROLS[control](copied(converted, DIT, tmp_path), "blocks/self_attention/query/kernel")
    report = compare(request(tmp_path, components=("diffusion_transformer",), dtype="float32"))
    assert not report.held
    [network] = report.networks
    assert "block 1" in {each.block for each in network.weights.differences}
    assert "block 1" in {block.block for block in network.blocks if not block.held}
    assert any(fault.startswith("diffusion_transformer, block 1: ") for fault in report.faults())


@pytest.fixture(scope="module")
def frame_guards(tmp_path_factory):
    """(checkpoints, converted) of the networks that look at frames."""
    root = tmp_path_factory.mktemp("frames")
    video_peers.write_video_safety(root / "checkpoints", video_peers.siglip(), video_peers.safety_filter())
    video_peers.write_face_blur(root / "checkpoints", video_peers.retinaface())
    return root / "checkpoints", converted_from(root / "checkpoints", root / "converted")


@pytest.mark.slow
def test_networks_that_look_at_frames_hold(frame_guards):
    checkpoints, converted = frame_guards
    report = compare(request(converted, checkpoints))
    assert report.held, report.faults()
    assert [network.network for network in report.networks] == ["video_safety", "face_blur"]
    # Both always compute in float32.
    assert all(network.bfloat16 is None and network.float32 is not None for network in report.networks)
    assert set(report.absent) == TABLE.keys() - {"video_safety", "face_blur"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("component", "array", "block"),
    [
        ("video_safety", "head/linear_0/kernel", "head/linear_0"),
        ("face_blur", "body/stage_2_block_0/spatial/conv/kernel", "body/stage_2_block_0/spatial"),
    ],
)
def test_a_wrong_value_in_them_is_named(frame_guards, tmp_path, component, array, block):
    checkpoints, converted = frame_guards
    change(copied(converted, TABLE[component].folder, tmp_path), array, None, negated_first)
    report = compare(request(tmp_path, checkpoints, components=(component,)))
    assert [each.block for each in report.networks[0].weights.differences] == [block]
    assert report.faults()[0].startswith(f"{component}, {block}: 1 value(s) of {array}")


@pytest.mark.slow
def test_transformer_and_tokenizer_hold(converted):
    report = compare(request(converted, components=("diffusion_transformer", "tokenizer")))
    assert report.held, report.faults()
    assert [network.peer for network in report.networks] == [
        "diffusers CosmosTransformer3DModel",
        "diffusers AutoencoderKLCosmos",
    ]
    assert all(network.bfloat16 is not None for network in report.networks)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pixtrals_files_holds(tmp_path, kind):
    checkpoints = write_pixtral(tmp_path / "checkpoints", kind)
    report = compare(request(converted_from(checkpoints, tmp_path / "converted"), checkpoints, dtype="float32"))
    assert report.held, report.faults()
    names = ["prompt_upsampler/pictures", "prompt_upsampler/language"]
    assert [network.network for network in report.networks] == names


def test_a_conversion_to_bfloat16_is_compared_after_rounding(converted, tmp_path):
    rounded = converted_from(golden.CHECKPOINTS, tmp_path, components=("text_encoder",), dtype="bfloat16")
    [network] = compare(request(rounded, components=("text_encoder",), dtype="bfloat16")).networks
    assert network.held
    assert network.float32 is None


def test_another_configuration_is_found(converted, tmp_path):
    folder = copied(converted, T5, tmp_path)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"max_distance": 128', '"max_distance": 64'))
    report = compare(request(tmp_path, components=("text_encoder",), dtype="float32"))
    assert report.networks[0].configuration == {"max_distance": (64, 128)}
    assert "text_encoder, configuration: max_distance is 64, the checkpoint says 128" in report.faults()


def test_arrays_of_another_dtype_are_named_and_not_run(converted, tmp_path):
    folder = copied(converted, T5, tmp_path)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"dtype": null', '"dtype": "bfloat16"'))
    [network] = compare(request(tmp_path, components=("text_encoder",))).networks
    assert network.skipped is not None
    assert network.skipped.startswith("arrays missing or of another shape or dtype: ")
    assert {each.misfit for each in network.weights.differences} == {"is float32, expected bfloat16"}
    assert not network.held
    assert network.float32 is None


def test_with_a_value_that_is_no_number_a_network_is_run_and_does_not_hold(converted, tmp_path):
    def first_is_nan(array):
        flat = array.reshape(-1).copy()
        flat[0] = np.nan
        return flat.reshape(array.shape)

    change(copied(converted, T5, tmp_path), MATRIX, 1, first_is_nan)
    [network] = compare(request(tmp_path, components=("text_encoder",))).networks
    [difference] = network.weights.differences
    assert (difference.block, difference.values, difference.error, difference.misfit) == ("block 1", 1, np.inf, None)
    assert network.skipped is None
    assert network.float32 is not None
    assert network.bfloat16 is not None
    assert network.float32.error == network.bfloat16.ratio == np.inf
    assert not network.held


def test_a_network_that_is_in_one_folder_alone_is_said(converted, tmp_path):
    shutil.copytree(golden.CHECKPOINTS / T5, tmp_path / T5)
    report = compare(request(converted, tmp_path, dtype="float32"))
    assert [network.network for network in report.networks] == ["text_encoder"]
    assert report.absent[f"diffusion_transformer ({DIT})"] == f"{tmp_path / DIT} has no weights of it"
    assert report.absent["face_blur"] == "neither folder has one"
    assert report.held


@pytest.mark.parametrize("package", ["torch", "diffusers"])
def test_absent_packages_are_named_with_what_to_do(converted, monkeypatch, package):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(UsageError, match=rf'parity needs {package}: pip install -e "\.\[parity\]"'):
        compare(request(converted))


def test_networks_in_8_bits_are_refused_with_what_to_do(quantized):
    with pytest.raises(
        UsageError, match=r"stored in int8, .*without --quantization, or leave it out by naming the others"
    ):
        compare(request(quantized))
    left = request(quantized, components=("tokenizer",))
    assert replace(left, dtype="float32").precisions == ("float32",)
