import json
from pathlib import Path

import numpy as np
import pytest

from convert.architecture.infer import infer_dit, infer_t5, infer_video_tokenizer
from convert.networks.components import DIFFUSION_TRANSFORMER, TEXT_ENCODER, TOKENIZER
from jax_interp.config import CV8X8X8_720P, DIT_7B, DIT_14B, T5_11B, DiTConfig, T5Config, VideoTokenizerConfig
from jax_interp.errors import CheckpointError

NOWHERE = Path("some-folder")


def shapes_of(component, config):
    """What a checkpoint of this configuration holds."""
    return {
        key: leaf.op.inverse(np.broadcast_to(np.uint8(0), leaf.part_shape)).shape
        for leaf in component.plan(config)
        for key in leaf.keys
    }


@pytest.mark.parametrize(
    "config",
    [
        DIT_7B,
        DIT_14B,
        DiTConfig(
            width=64,
            num_heads=2,
            head_width=32,
            num_blocks=2,
            mlp_width=96,
            text_width=24,
            adaln_rank=8,
            latent_channels=5,
            patch_size=3,
            grid=(4, 6, 7),
        ),
    ],
)
def test_every_dit_is_told_by_its_shapes(config):
    assert infer_dit(shapes_of(DIFFUSION_TRANSFORMER, config), NOWHERE) == config


@pytest.mark.parametrize(
    "config",
    [
        CV8X8X8_720P,
        VideoTokenizerConfig(channels=8, channel_multipliers=(1, 2), num_res_blocks=1, resampled_decoder_levels=(1,)),
        VideoTokenizerConfig(
            channels=4, patch_size=2, resampled_encoder_levels=(0, 1), resampled_decoder_levels=(1, 2), latent_chunk=5
        ),
    ],
)
def test_every_tokenizer_is_told_by_its_shapes(config):
    assert infer_video_tokenizer(shapes_of(TOKENIZER, config), NOWHERE) == config


@pytest.mark.parametrize(
    "config",
    [T5_11B, T5Config(vocab_size=9, width=6, num_layers=2, num_heads=3, head_width=5, mlp_width=7, num_buckets=4)],
)
def test_every_t5_is_told_by_its_shapes(config):
    assert infer_t5(shapes_of(TEXT_ENCODER, config), NOWHERE) == config


SMALL = DiTConfig(width=32, num_heads=2, head_width=16, num_blocks=3, mlp_width=64, text_width=8, adaln_rank=4)


def test_a_missing_block_and_a_stray_one_leave_the_count():
    shapes = shapes_of(DIFFUSION_TRANSFORMER, SMALL)
    shapes = {key: shape for key, shape in shapes.items() if ".block1." not in key}
    shapes["net.blocks.block40.stray"] = (1,)
    assert infer_dit(shapes, NOWHERE) == SMALL


@pytest.mark.parametrize(
    ("infer", "text"),
    [
        (infer_dit, "to_q.0.weight is missing"),
        (infer_video_tokenizer, "encoder.conv_in.0.conv3d.weight is missing"),
        (infer_t5, "shared.weight is missing"),
    ],
)
def test_of_an_empty_file_everything_is_missing(infer, text):
    with pytest.raises(CheckpointError, match=text) as error:
        infer({}, NOWHERE)
    assert str(error.value).startswith("some-folder: ")
    assert str(error.value).count(";") >= 3


@pytest.mark.parametrize(
    ("key", "shape", "text"),
    [
        ("net.x_embedder.proj.1.weight", (32,), "expected 2 axes"),
        ("net.x_embedder.proj.1.weight", (32, 71), "x_embedder reads 71"),
        ("net.x_embedder.proj.1.weight", (32, 64), "x_embedder reads 64"),
        ("net.blocks.block0.blocks.0.block.attn.to_q.1.weight", (7,), "32 is not a multiple of 7"),
        ("net.blocks.block0.blocks.0.block.attn.to_q.1.weight", (0,), "expected 1 axes"),
    ],
)
def test_impossible_dit_shapes_are_named(key, shape, text):
    with pytest.raises(CheckpointError, match=text):
        infer_dit(shapes_of(DIFFUSION_TRANSFORMER, SMALL) | {key: shape}, NOWHERE)


@pytest.mark.parametrize(
    ("key", "shape", "text"),
    [
        ("encoder.conv_in.0.conv3d.weight", (8, 100, 1, 3, 3), "reads 100 channels"),
        ("encoder.down.1.block.0.conv1.0.conv3d.weight", (9, 8, 1, 3, 3), "9 is not a multiple of 8"),
        ("mean_std.0", (17,), "17 is not a multiple of 16"),
    ],
)
def test_impossible_tokenizer_shapes_are_named(key, shape, text):
    config = VideoTokenizerConfig(channels=8, channel_multipliers=(1, 2), num_res_blocks=1)
    with pytest.raises(CheckpointError, match=text):
        infer_video_tokenizer(shapes_of(TOKENIZER, config) | {key: shape}, NOWHERE)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"d_model": 99}, "d_model is 99, but the weights say 6"),
        ({"relative_attention_max_distance": 64}, "max_distance is 64"),
        ({"feed_forward_proj": "gated-gelu"}, "gated-gelu', expected 'relu'"),
        ({"d_ff": 8, "layer_norm_epsilon": 1e-5}, "d_ff is 8.*layer_norm_epsilon is 1e-05, expected 1e-06"),
        ([1], "not a model's settings"),
        ("{", "not a model's settings"),
    ],
)
def test_settings_beside_t5_must_not_contradict(tmp_path, settings, text):
    config = T5Config(vocab_size=9, width=6, num_layers=2, num_heads=3, head_width=5, mlp_width=7, num_buckets=4)
    shapes = shapes_of(TEXT_ENCODER, config)
    path = tmp_path / "config.json"
    path.write_text('{"d_model": 6, "num_layers": 2, "other": 1}')
    assert infer_t5(shapes, tmp_path) == config
    path.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    with pytest.raises(CheckpointError, match=text):
        infer_t5(shapes, tmp_path)
