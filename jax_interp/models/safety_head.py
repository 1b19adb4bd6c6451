"""The classifier of frames: from SigLIP's vector of a picture to one logit for each class of content."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import VideoSafetyConfig
from jax_interp.models.siglip import SiglipVision
from jax_interp.nn.norms import BatchNorm
from jax_interp.types import Tokens


class SafetyHead(nnx.Module):
    """An MLP with batch normalisation and ReLU between its linear layers."""

    def __init__(self, config: VideoSafetyConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        widths = (config.tower.width, *config.head_widths, config.num_classes)
        self.num_hidden = len(config.head_widths)
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            setattr(self, f"linear_{i}", nnx.Linear(inputs, outputs, dtype=dtype, param_dtype=dtype, rngs=rngs))
        for i, width in enumerate(config.head_widths):
            setattr(self, f"norm_{i}", BatchNorm(width, dtype=dtype, rngs=rngs))

    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B classes"]:
        for i in range(self.num_hidden):
            x = jax.nn.relu(getattr(self, f"norm_{i}")(getattr(self, f"linear_{i}")(x)))
        return getattr(self, f"linear_{self.num_hidden}")(x)


class VideoSafety(SiglipVision):
    """A classifier of frames: SigLIP's picture encoder and `SafetyHead`. It runs in parts as its base class does."""

    def __init__(self, config: VideoSafetyConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(config.tower, dtype=dtype, rngs=rngs)
        self.head = SafetyHead(config, dtype=dtype, rngs=rngs)

    def finish(self, x: Tokens) -> Float[Array, "B classes"]:
        """Turn the residual stream after the last block into the logits, float32."""
        # parity: a vector of zeros gives values that are not numbers, not zeros.
        embedding = super().finish(x).astype(jnp.float32)
        unit = embedding / jnp.linalg.norm(embedding, axis=-1, keepdims=True)
        return self.head(unit.astype(x.dtype)).astype(jnp.float32)
