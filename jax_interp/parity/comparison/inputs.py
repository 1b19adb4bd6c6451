"""The inputs that both sides get: seeded draws of numpy, small, and with values that bfloat16 represents."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from jax_interp.config import (
    DecoderConfig,
    DiTConfig,
    PixtralVisionConfig,
    RetinaFaceConfig,
    T5Config,
    VideoSafetyConfig,
    VideoTokenizerConfig,
)

Inputs: TypeAlias = Mapping[str, np.ndarray]
"""The arguments of a network by name, or its outputs."""

_TEXT_ROWS = 64
_PROMPT_LENGTHS = 48, 20


def transformer(config: DiTConfig, draw: np.random.Generator) -> Inputs:
    """Return latents [B, T, H, W, C], ln(sigma)/4, text rows and both masks."""
    frames, height, width = np.minimum(config.grid, (3, 4, 6))
    shape = (1, frames, config.patch_size * height, config.patch_size * width)
    return {
        "x": _normal(draw, *shape, config.latent_channels),
        "c_noise": _normal(draw, 1),
        "text": _normal(draw, 1, _TEXT_ROWS, config.text_width),
        "mask": draw.integers(0, 2, (*shape, 1)).astype(np.float32),
        "padding_mask": draw.integers(0, 2, (*shape, 1)).astype(np.float32),
    }


def tokenizer(config: VideoTokenizerConfig, draw: np.random.Generator) -> Inputs:
    """Return a clip [B, F, Y, X, 3] of nine frames to encode, and raw latents [B, T, H, W, C] to decode."""
    size = config.compression
    return {
        "pixels": _rounded(draw.uniform(-1, 1, (1, 1 + size, 4 * size, 6 * size, 3))),
        "latents": _normal(draw, 1, 2, 4, 6, config.latent_channels),
    }


def text_encoder(config: T5Config, draw: np.random.Generator) -> Inputs:
    """Return the tokens of two prompts of different lengths, and the mask that says which are there."""
    size = max(_PROMPT_LENGTHS)
    mask = (np.arange(size) < np.array(_PROMPT_LENGTHS)[:, None]).astype(np.int32)
    return {"ids": draw.integers(0, config.vocab_size, mask.shape, np.int32) * mask, "mask": mask}


def language_model(config: DecoderConfig, draw: np.random.Generator) -> Inputs:
    """Return the tokens of one prompt."""
    return {"ids": draw.integers(0, config.vocab_size, (1, 32), np.int32)}


def picture_encoder(config: PixtralVisionConfig, draw: np.random.Generator) -> Inputs:
    """Return a picture [B, Y, X, 3] of 3 × 4 patches, as it is after Pixtral's normalisation."""
    return {"pixels": _normal(draw, 1, 3 * config.patch_size, 4 * config.patch_size, 3)}


def video_safety(config: VideoSafetyConfig, draw: np.random.Generator) -> Inputs:
    """Return two pictures [B, Y, X, 3] in [-1, 1], of the size that the network asks for."""
    side = config.tower.image_size
    return {"pixels": _rounded(draw.uniform(-1, 1, (2, side, side, 3)))}


def face_blur(config: RetinaFaceConfig, draw: np.random.Generator) -> Inputs:
    """Return a picture [B, Y, X, 3] in levels less their means."""
    del config
    return {"pixels": _rounded(draw.uniform(-120, 140, (1, 96, 128, 3)))}


DRAWS: Mapping[str, Callable[[Any, np.random.Generator], Inputs]] = {
    "diffusion_transformer": transformer,
    "tokenizer": tokenizer,
    "text_encoder": text_encoder,
    "prompt_upsampler/pictures": picture_encoder,
    "prompt_upsampler/language": language_model,
    "text_safety": language_model,
    "video_safety": video_safety,
    "face_blur": face_blur,
}
"""The function that draws the inputs of each network."""


def draw_inputs(network: str, config: Any, seed: int) -> Inputs:
    """Return the inputs of `network` for a seed; the same on every machine."""
    return DRAWS[network](config, np.random.default_rng(seed))


def _normal(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return _rounded(draw.standard_normal(shape))


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
