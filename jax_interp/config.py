"""Frozen descriptions of every network, their published presets, and a strict JSON round trip."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from jax_interp.errors import CheckpointError

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The diffusion transformer. Sizes are those of `Cosmos-Predict1-7B-WorldInterpolator`."""

    width: int = 4096
    num_heads: int = 32
    head_width: int = 128
    num_blocks: int = 28
    mlp_width: int = 16384
    text_width: int = 1024
    adaln_rank: int = 256
    latent_channels: int = 16
    patch_size: int = 2
    grid: tuple[int, int, int] = (128, 120, 120)
    """Largest (T, H, W) in patches that the learned positions cover."""
    rotary_ratio: tuple[float, float, float] = (2.0, 1.0, 1.0)
    """Extrapolation ratio of the rotary base along (T, H, W)."""

    @property
    def input_channels(self) -> int:
        """Latent channels, the condition mask and the padding mask."""
        return self.latent_channels + 2


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The causal video tokenizer. Sizes are those of `Cosmos-Tokenize1-CV8x8x8-720p`."""

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (2, 4, 4)
    num_res_blocks: int = 2
    """Residual blocks a level in the encoder; the decoder has one more."""
    latent_channels: int = 16
    patch_size: int = 4
    resampled_encoder_levels: tuple[int, ...] = (0,)
    """Encoder levels that halve space and time."""
    resampled_decoder_levels: tuple[int, ...] = (1,)
    """Decoder levels that double space and time."""
    latent_chunk: int = 16
    """Latent frames for which the checkpoint holds a mean and a deviation."""

    @property
    def compression(self) -> int:
        """Pixels a latent cell spans along each of time, height and width."""
        return self.patch_size * 2 ** len(self.resampled_encoder_levels)


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """The encoder half of T5. Sizes are those of `google-t5/t5-11b`."""

    vocab_size: int = 32128
    width: int = 1024
    num_layers: int = 24
    num_heads: int = 128
    head_width: int = 128
    mlp_width: int = 65536
    num_buckets: int = 32
    max_distance: int = 128


@dataclass(frozen=True, kw_only=True)
class PixtralVisionConfig:
    """The picture encoder of Pixtral and its projector. Sizes are those of `mistralai/Pixtral-12B-2409`."""

    width: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    head_width: int = 64
    """A multiple of 4: rows and columns turn half of the pairs each."""
    mlp_width: int = 4096
    text_width: int = 5120
    """Width of the language model that reads the projected patches."""
    patch_size: int = 16
    image_size: int = 1024
    """Longest side in pixels; larger pictures are shrunk to it."""
    rotary_base: float = 10000.0
    norm_epsilon: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder-only language model. Sizes are those of Pixtral-12B's text part (Mistral-Nemo)."""

    vocab_size: int = 131072
    width: int = 5120
    num_layers: int = 40
    num_heads: int = 32
    num_kv_heads: int = 8
    """Heads of keys and values; each serves `num_heads / num_kv_heads` neighbouring query heads."""
    head_width: int = 128
    mlp_width: int = 14336
    norm_epsilon: float = 1e-5
    tied_head: bool = False
    """Whether the logits are products with the embedding table."""
    context_length: int = 131072
    """Tokens the model was made for, prompt and answer together."""
    rotary_base: float = 1e9
    rotary_stretch: float = 1.0
    """Factor by which slow rotary components turn slower still (Llama 3.1); 1 leaves all as they are."""
    rotary_stretched_turns: tuple[float, float] = (1.0, 4.0)
    """A component that turns less often than the first over `rotary_trained_length` is slow, more often than the second
    left alone; in between the stretch fades."""
    rotary_trained_length: int = 8192
    """Tokens of the context before it was stretched."""


@dataclass(frozen=True, kw_only=True)
class SiglipVisionConfig:
    """The picture encoder of SigLIP. Sizes are those of `google/siglip-so400m-patch14-384`."""

    width: int = 1152
    num_layers: int = 27
    num_heads: int = 16
    mlp_width: int = 4304
    patch_size: int = 14
    image_size: int = 384
    """Height and width in pixels; what is left over of the last patch is not looked at."""
    norm_epsilon: float = 1e-6

    @property
    def num_patches(self) -> int:
        """Whole patches in a picture."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, kw_only=True)
class VideoSafetyConfig:
    """The picture encoder and the classifier of its embedding. Sizes are those of `nvidia/Cosmos-Guardrail1`."""

    tower: SiglipVisionConfig = SiglipVisionConfig()
    head_widths: tuple[int, ...] = (512, 256)
    num_classes: int = 7

    @property
    def num_heads(self) -> int:
        """Attention heads of a block."""
        return self.tower.num_heads

    @property
    def mlp_width(self) -> int:
        """Hidden units of a block."""
        return self.tower.mlp_width


@dataclass(frozen=True, kw_only=True)
class RetinaFaceConfig:
    """The face detector on a ResNet. Sizes are those of `Resnet50_Final.pth`."""

    width: int = 64
    """Channels of the first convolution and inside the blocks of the first stage; every further stage doubles them."""
    num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Blocks of each stage."""
    neck_width: int = 256
    """Channels of the feature pyramid."""


@dataclass(frozen=True, kw_only=True)
class PixtralConfig:
    """A language model that sees pictures. Sizes are those of `mistralai/Pixtral-12B-2409`."""

    text: DecoderConfig = DecoderConfig()
    vision: PixtralVisionConfig = PixtralVisionConfig()


NetworkConfig = (
    DiTConfig
    | TokenizerConfig
    | T5Config
    | DecoderConfig
    | PixtralVisionConfig
    | PixtralConfig
    | SiglipVisionConfig
    | VideoSafetyConfig
    | RetinaFaceConfig
)

DIT_7B = DiTConfig()
DIT_14B = DiTConfig(width=5120, num_heads=40, num_blocks=36, mlp_width=20480)
CV8X8X8_720P = TokenizerConfig()
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


def to_json(config: NetworkConfig) -> dict[str, Any]:
    """The fields of `config` as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(kind: type[ConfigT], values: dict[str, Any], source: str) -> ConfigT:
    """Build `kind` from the output of `to_json`.

    Raises:
        CheckpointError: a field is unknown or missing; names every one and `source`.
    """
    fields = {field.name: field.type for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given = values.keys() if isinstance(values, dict) else set()
    unknown, missing = sorted(given - fields.keys()), sorted(fields.keys() - given)
    if unknown or missing:
        raise CheckpointError(
            f"{source}: not a {kind.__name__} of this version (unknown: {unknown or 'none'}, missing:"
            f" {missing or 'none'}); convert the checkpoint again"
        )
    return kind(**{name: _from_json_value(fields[name], value, f"{source}, {name}") for name, value in values.items()})


def _from_json_value(kind: Any, value: Any, source: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return from_json(kind, value, source)  # type: ignore[arg-type]
    return tuple(value) if isinstance(value, list) else value
