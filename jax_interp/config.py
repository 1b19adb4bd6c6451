"""Frozen configurations of every network, the published presets, and a strict conversion to JSON and back."""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from jax_interp.errors import CheckpointError
from jax_interp.files.json_schema import Between, Entries, JsonFault, decode

ConfigT = TypeVar("ConfigT")

Precision: TypeAlias = Literal["bfloat16", "float32"]
"""The dtype a network computes in; also the accuracy of the rotary tables."""

Quantization: TypeAlias = Literal["none", "int8", "int8-rotated", "int8-smoothed"]
"""The integers in which a network's large products are computed, or in which its large weights are kept.

With "int8-rotated" inputs and weights of products are rotated before they are rounded (`nn.hadamard`). With
"int8-smoothed" large input channels are made smaller by factors that a calibration chose, and their weights larger
(`pipeline.calibration`)."""

Size: TypeAlias = Annotated[int, Between(1, 2**24)]
"""A number of channels, heads, tokens or pixels: at least one, and no more than any machine could hold."""
Depth: TypeAlias = Annotated[int, Between(1, 256)]
"""A number of layers that follow each other."""
Levels: TypeAlias = Annotated[tuple[Annotated[int, Between(0, 14)], ...], Entries(0, 15)]
"""Numbers of resolution levels, counted from 0."""
Positive: TypeAlias = Annotated[float, Between(1e-15, 1e15)]
"""A positive ratio, base or epsilon."""


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The diffusion transformer's configuration. Its defaults are those of `Cosmos-Predict1-7B-WorldInterpolator`."""

    width: Size = 4096
    num_heads: Size = 32
    head_width: Size = 128
    num_blocks: Depth = 28
    mlp_width: Size = 16384
    text_width: Size = 1024
    adaln_rank: Size = 256
    latent_channels: Size = 16
    patch_size: Size = 2
    grid: tuple[Size, Size, Size] = (128, 120, 120)
    """The largest grid (T, H, W) in patches that the learned positions cover."""
    rotary_ratio: tuple[Positive, Positive, Positive] = (2.0, 1.0, 1.0)
    """The extrapolation ratio of the rotary base along (T, H, W); weights do not tell it (`published_rotary_ratio`)."""

    @property
    def input_channels(self) -> int:
        """The number of input channels: latent channels, the condition mask and the padding mask."""
        return self.latent_channels + 2


@dataclass(frozen=True, kw_only=True)
class VideoTokenizerConfig:
    """The configuration of the causal video tokenizer. Its defaults are those of `Cosmos-Tokenize1-CV8x8x8-720p`."""

    channels: Size = 128
    channel_multipliers: Annotated[tuple[Size, ...], Entries(1, 15)] = (2, 4, 4)
    num_res_blocks: Annotated[int, Between(1, 32)] = 2
    """The number of residual blocks of a level in the encoder; the decoder has one more."""
    latent_channels: Size = 16
    patch_size: Size = 4
    resampled_encoder_levels: Levels = (0,)
    """The encoder levels that halve space and time."""
    resampled_decoder_levels: Levels = (1,)
    """The decoder levels that double space and time."""
    latent_chunk: Size = 16
    """The number of latent frames for which the checkpoint has a mean and a deviation."""

    @property
    def compression(self) -> int:
        """The compression factor: how many pixels a latent cell spans along time, height and width alike."""
        return self.patch_size * 2 ** len(self.resampled_encoder_levels)


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """The configuration of the T5 encoder. Its defaults are those of `google-t5/t5-11b`."""

    vocab_size: Size = 32128
    width: Size = 1024
    num_layers: Depth = 24
    num_heads: Size = 128
    head_width: Size = 128
    mlp_width: Size = 65536
    num_buckets: Size = 32
    max_distance: Size = 128


@dataclass(frozen=True, kw_only=True)
class PixtralVisionConfig:
    """The configuration of Pixtral's picture encoder and projector. Its defaults are `mistralai/Pixtral-12B-2409`'s."""

    width: Size = 1024
    num_layers: Depth = 24
    num_heads: Size = 16
    head_width: Size = 64
    """The width of a head, a multiple of 4: rows and columns rotate half of the pairs each."""
    mlp_width: Size = 4096
    text_width: Size = 5120
    """The width of the language model that reads the projected patches."""
    patch_size: Size = 16
    image_size: Size = 1024
    """The longest side of a picture in pixels; larger pictures are shrunk to it."""
    rotary_base: Positive = 10000.0
    norm_epsilon: Positive = 1e-5


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The configuration of a decoder-only language model. Its defaults are Pixtral-12B's text part (Mistral-Nemo)."""

    vocab_size: Size = 131072
    width: Size = 5120
    num_layers: Depth = 40
    num_heads: Size = 32
    num_kv_heads: Size = 8
    """The number of key-value heads; each serves `num_heads / num_kv_heads` neighbouring query heads."""
    head_width: Size = 128
    mlp_width: Size = 14336
    norm_epsilon: Positive = 1e-5
    tied_head: bool = False
    """Whether the embedding table is also the output layer."""
    context_length: Size = 131072
    """The largest context in tokens, prompt and answer together."""
    rotary_base: Positive = 1e9
    rotary_stretch: Positive = 1.0
    """The factor by which low rotary frequencies are divided (Llama 3.1's `factor`); 1 leaves all as they are."""
    rotary_stretched_turns: tuple[Positive, Positive] = (1.0, 4.0)
    """Llama 3.1's `low_freq_factor` and `high_freq_factor`: a component that rotates fewer times than the first over
    `rotary_trained_length` is divided by the factor, more times than the second left alone; in between it fades."""
    rotary_trained_length: Size = 8192
    """The context length in tokens before it was extended (Llama 3.1's `original_max_position_embeddings`)."""


@dataclass(frozen=True, kw_only=True)
class SiglipVisionConfig:
    """The configuration of SigLIP's picture encoder. Its defaults are `google/siglip-so400m-patch14-384`'s."""

    width: Size = 1152
    num_layers: Depth = 27
    num_heads: Size = 16
    mlp_width: Size = 4304
    patch_size: Size = 14
    image_size: Size = 384
    """Height and width of a picture in pixels; pixels that do not fill a patch are ignored."""
    norm_epsilon: Positive = 1e-6

    @property
    def num_patches(self) -> int:
        """The number of whole patches in a picture."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, kw_only=True)
class VideoSafetyConfig:
    """The configuration of the frame classifier on SigLIP. Its defaults are those of `nvidia/Cosmos-Guardrail1`."""

    tower: SiglipVisionConfig = SiglipVisionConfig()
    head_widths: Annotated[tuple[Size, ...], Entries(0, 15)] = (512, 256)
    num_classes: Size = 7

    @property
    def num_heads(self) -> int:
        """The number of attention heads of a block."""
        return self.tower.num_heads

    @property
    def mlp_width(self) -> int:
        """The number of hidden units of a block's MLP."""
        return self.tower.mlp_width


@dataclass(frozen=True, kw_only=True)
class RetinaFaceConfig:
    """The configuration of the face detector on a ResNet. Its defaults are those of `Resnet50_Final.pth`."""

    width: Size = 64
    """The channels of the first convolution and within blocks of the first stage; each further stage doubles them."""
    num_blocks: tuple[Depth, Depth, Depth, Depth] = (3, 4, 6, 3)
    """The number of blocks of each stage."""
    neck_width: Size = 256
    """The number of channels of the feature pyramid."""


@dataclass(frozen=True, kw_only=True)
class PixtralConfig:
    """The configuration of Pixtral, a vision-language model. Its defaults are `mistralai/Pixtral-12B-2409`'s."""

    text: DecoderConfig = DecoderConfig()
    vision: PixtralVisionConfig = PixtralVisionConfig()


NetworkConfig = (
    DiTConfig
    | VideoTokenizerConfig
    | T5Config
    | DecoderConfig
    | PixtralVisionConfig
    | PixtralConfig
    | SiglipVisionConfig
    | VideoSafetyConfig
    | RetinaFaceConfig
)

DIT_7B = DiTConfig()
DIT_14B = DiTConfig(width=5120, num_heads=40, num_blocks=36, mlp_width=20480, rotary_ratio=(2.0, 2.0, 2.0))
CV8X8X8_720P = VideoTokenizerConfig()
T5_11B = T5Config()
PIXTRAL_12B_TEXT = DecoderConfig()
LLAMA_2_7B = DecoderConfig(
    vocab_size=32000,
    width=4096,
    num_layers=32,
    num_kv_heads=32,
    mlp_width=11008,
    context_length=4096,
    rotary_base=1e4,
)
LLAMA_3_1_8B = DecoderConfig(
    vocab_size=128256, width=4096, num_layers=32, rotary_base=5e5, rotary_stretch=8.0, context_length=131072
)
PIXTRAL_12B_VISION = PixtralVisionConfig()
SIGLIP_SO400M = SiglipVisionConfig()
VIDEO_SAFETY = VideoSafetyConfig()
RETINAFACE_RESNET50 = RetinaFaceConfig()
PIXTRAL_12B = PixtralConfig(text=PIXTRAL_12B_TEXT, vision=PIXTRAL_12B_VISION)


def published_rotary_ratio(config: DiTConfig, folder: str) -> tuple[float, float, float]:
    """Return the rotary ratios of the release that a transformer of these sizes, in the folder `folder`, belongs to.

    Sizes decide where they are those of a published network. A network of other sizes is taken for a 14B if its folder
    is called one, as `Cosmos-Predict1-14B-Video2World`, otherwise for a 7B.
    """
    for released in (DIT_7B, DIT_14B):
        if dataclasses.replace(config, rotary_ratio=released.rotary_ratio) == released:
            return released.rotary_ratio
    called_14b = re.search(r"(?<![0-9])14b(?![a-z])", folder, re.IGNORECASE)
    return (DIT_14B if called_14b else DIT_7B).rotary_ratio


def to_json(config: NetworkConfig) -> dict[str, Any]:
    """Return the fields of `config` as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(kind: type[ConfigT], values: Any, source: str) -> ConfigT:
    """Build `kind` from the output of `to_json`.

    Raises:
        CheckpointError: a field is unknown, missing, of another type or out of its range; the message names all and
            `source`.
    """
    try:
        return decode(kind, values)
    except JsonFault as fault:
        raise CheckpointError(
            f"{source}: not a {kind.__name__} of this version: {fault}; convert the checkpoint again"
        ) from None
