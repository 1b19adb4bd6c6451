"""Language models that keep their weights in 8 bits, in every placement and on several devices."""

import numpy as np
import pytest

from benchmarks import random_networks
from jax_interp.config import DecoderConfig, PixtralConfig, PixtralVisionConfig, Precision, Quantization
from jax_interp.pipeline.prompt.prompt_upsampler import PromptUpsampler
from jax_interp.pipeline.stages import language_model
from jax_interp.runtime.block_stream import BlockStream
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import Placement
from tests import golden
from tests.changed_weights import change_weight, nudge
from tests.tolerances import NETWORK_F32

CONFIG = PixtralConfig(
    text=DecoderConfig(vocab_size=64, width=48, num_layers=2, num_heads=4, num_kv_heads=2, head_width=8, mlp_width=56),
    vision=PixtralVisionConfig(
        width=32, num_layers=1, num_heads=2, head_width=16, mlp_width=48, text_width=48, patch_size=4, image_size=16
    ),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny upsampler in full and in 8 bits."""
    root = tmp_path_factory.mktemp("pixtral")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(random_networks.NETWORKS, "pixtral-12b", ("prompt_upsampler", CONFIG))
        for quantization in ("none", "int8"):
            random_networks.write_network(root / quantization, "pixtral-12b", quantization)
    return root


def opened(folder, shape=None, quantization: Quantization = "int8", dtype: Precision = "float32"):
    found = find_component(folder, "prompt_upsampler").quantized(quantization)
    return PromptUpsampler(found, dtype, DeviceMesh(shape) if shape else None)


def logits(language):
    """After a prompt, and after one more token."""
    prompt = language.embed(range(5))[None]
    lengths = np.asarray([5], np.int32)
    first, caches = language._prefill(prompt, lengths, 16)
    second, _ = language._decode(np.asarray([7]), lengths, caches)
    return np.stack([first, second])


def test_every_placement_gives_the_same_bits(folders):
    upsampler = opened(folders / "none")
    right = logits(upsampler.language)
    for kind in ("streamed", "offloaded"):
        upsampler.place(Placement(kind))
        assert logits(upsampler.language).tobytes() == right.tobytes(), kind


@pytest.mark.parametrize("shape", [None, MeshShape(tensor=2)])
@pytest.mark.parametrize(("quantization", "dtype"), [("none", "float32"), ("none", "bfloat16"), ("int8", "bfloat16")])
def test_blocks_that_share_a_program_give_the_same_bits(folders, monkeypatch, quantization, dtype, shape):
    language = opened(folders / quantization, shape, quantization, dtype).language
    starts = []
    run = language._run_several
    language._run_several = lambda params, x, caches, inputs: (
        starts.append(len(caches)) or run(params, x, caches, inputs)
    )
    together = logits(language)
    assert starts == [2]
    monkeypatch.setattr(language_model, "BLOCKS_TOGETHER", 1)
    one_by_one = logits(language)
    assert starts == [2, 1, 1]
    monkeypatch.setattr(BlockStream, "all_resident", False)
    part_by_part = logits(language)
    assert starts == [2, 1, 1]
    assert together.tobytes() == one_by_one.tobytes() == part_by_part.tobytes()


def test_heads_and_hidden_units_are_divided(folders):
    right = logits(opened(folders / "int8").language)
    language = opened(folders / "int8", MeshShape(tensor=2)).language
    assert golden.relative_l2(logits(language), right) < NETWORK_F32
    change_weight(language, "blocks/mlp/gate/int8_kernel", lambda array: nudge(array, 64))
    assert golden.relative_l2(logits(language), right) > NETWORK_F32


def test_of_a_stored_upsampler_the_picture_encoder_is_full(folders):
    upsampler = opened(folders / "int8")
    assert (upsampler.pictures.quantization, upsampler.language.quantization) == ("none", "int8")
    rows = upsampler.pictures.encode(np.zeros((8, 16, 3), np.float32))
    assert rows.shape == (8, 48)
    assert np.isfinite(rows).all()
