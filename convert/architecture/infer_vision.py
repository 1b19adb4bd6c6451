"""The architecture of the networks that look at frames, from the shapes in their checkpoints."""

from collections.abc import Mapping
from pathlib import Path

from convert.architecture.settings import CheckpointSettings
from convert.architecture.sizes import Shapes, Sizes
from convert.tables.siglip import SETTINGS
from jax_interp.config import SIGLIP_SO400M, RetinaFaceConfig, SiglipVisionConfig, VideoSafetyConfig
from jax_interp.errors import CheckpointError


def infer_video_safety(shapes: Shapes, folder: Path) -> VideoSafetyConfig:
    """Return the configuration of SigLIP's picture encoder and the classifier behind it.

    How many heads the encoder has and how large a picture it wants are in no shape: Hugging Face's `config.json` beside
    its weights says so. Without one, an encoder of the published sizes is taken to be the published one.

    Raises:
        CheckpointError: a key that tells a size is missing or of an impossible shape, `config.json` is needed and not
            there, or it contradicts the weights.
    """
    sizes = Sizes(shapes, folder)
    width, _, patch_size, _ = sizes.of("vision_model.embeddings.patch_embedding.weight", 4)
    num_patches, _ = sizes.of("vision_model.embeddings.position_embedding.weight", 2)
    mlp_width, _ = sizes.of("vision_model.encoder.layers.0.mlp.fc1.weight", 2)
    first, _ = sizes.of("model.network.layers.0.weight", 2)
    second, _ = sizes.of("model.network.layers.3.weight", 2)
    num_classes, _ = sizes.of("model.network.layers.6.weight", 2)
    num_layers = sizes.count("vision_model.encoder.layers.{}.*")
    sizes.check()
    known = {"hidden_size": width, "num_hidden_layers": num_layers, "intermediate_size": mlp_width}
    num_heads, image_size = _unseen_settings(known | {"patch_size": patch_size}, num_patches, folder)
    sizes.quotient(width, num_heads, "hidden_size is a multiple of num_attention_heads")
    tower = SiglipVisionConfig(
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        mlp_width=mlp_width,
        patch_size=patch_size,
        image_size=image_size,
    )
    if tower.num_patches != num_patches:
        raise CheckpointError(
            f"{folder}: position_embedding has {num_patches} rows, expected {tower.num_patches} for pictures of"
            f" {image_size} pixels and patches of {patch_size}"
        )
    return VideoSafetyConfig(tower=tower, head_widths=(first, second), num_classes=num_classes)


def infer_retinaface(shapes: Shapes, folder: Path) -> RetinaFaceConfig:
    """Return the configuration of a RetinaFace detector on a ResNet of four stages.

    Raises:
        CheckpointError: a key that tells a size is missing or of an impossible shape; names every one and `folder`.
    """
    sizes = Sizes(shapes, folder)
    width, *_ = sizes.of("module.body.conv1.weight", 4)
    neck_width, *_ = sizes.of("module.fpn.output1.0.weight", 4)
    first, second, third, fourth = (sizes.count(f"module.body.layer{stage}.{{}}.*") for stage in (1, 2, 3, 4))
    sizes.check()
    return RetinaFaceConfig(width=width, num_blocks=(first, second, third, fourth), neck_width=neck_width)


def _unseen_settings(known: Mapping[str, int], num_patches: int, folder: Path) -> tuple[int, int]:
    """Return (number of heads, side of a picture in pixels) of an encoder with these sizes."""
    published, settings = SIGLIP_SO400M, CheckpointSettings.find(folder, SETTINGS)
    if settings is None:
        fitting = published.width, published.num_layers, published.mlp_width, published.patch_size
        if (*known.values(), num_patches) == (*fitting, published.num_patches):
            return published.num_heads, published.image_size
        raise CheckpointError(
            f"{folder}: the picture encoder is not the published one, and its config.json, which says how many heads it"
            " has, is not beside its weights; put it there"
        )
    vision = settings.section("vision_config") if settings.has("vision_config") else settings
    vision.agree(known)
    vision.expect_given({"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": published.norm_epsilon})
    num_heads, image_size = vision.integer("num_attention_heads"), vision.integer("image_size")
    settings.check()
    return num_heads, image_size
