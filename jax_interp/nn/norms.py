"""Normalisation layers that compute in float32 and round once, as every network here needs them."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def layer_norm(x: Float[Array, "... D"], epsilon: float = 1e-6) -> Float[Array, "... D"]:
    """Normalise the last axis to zero mean and unit variance, without scale or shift."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return (centred / jnp.sqrt(variance + epsilon)).astype(x.dtype)


def rms_norm(x: Float[Array, "... D"], scale: Float[Array, " D"], epsilon: float = 1e-6) -> Float[Array, "... D"]:
    """Normalise the last axis to unit root mean square and multiply by `scale`, before the one rounding."""
    wide = x.astype(jnp.float32)
    mean_square = jnp.square(wide).mean(-1, keepdims=True)
    return (wide / jnp.sqrt(mean_square + epsilon) * scale.astype(jnp.float32)).astype(x.dtype)


class RMSNorm(nnx.Module):
    """An RMS normalisation (`rms_norm`) with a learned scale."""

    def __init__(self, width: int, *, epsilon: float = 1e-6, dtype: DTypeLike, rngs: nnx.Rngs):
        del rngs  # starts at one
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((width,), dtype))

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return rms_norm(x, self.scale[...], self.epsilon)


class LayerNorm(nnx.Module):
    """A layer normalisation (`layer_norm`) with a learned scale and shift, before the one rounding."""

    def __init__(self, width: int, *, epsilon: float = 1e-6, dtype: DTypeLike, rngs: nnx.Rngs):
        del rngs  # starts at one and zero
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((width,), dtype))
        self.bias = nnx.Param(jnp.zeros((width,), dtype))

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        unit = layer_norm(x.astype(jnp.float32), self.epsilon)
        scaled = unit * self.scale[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)
        return scaled.astype(x.dtype)


class BatchNorm(nnx.Module):
    """A trained batch normalisation, which uses the mean and variance of every channel that training has gathered."""

    def __init__(self, width: int, *, epsilon: float = 1e-5, dtype: DTypeLike, rngs: nnx.Rngs):
        del rngs  # starts as no change
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((width,), dtype))
        self.bias = nnx.Param(jnp.zeros((width,), dtype))
        self.mean = nnx.Param(jnp.zeros((width,), dtype))
        self.variance = nnx.Param(jnp.ones((width,), dtype))

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        scale, bias, mean, variance = (
            values[...].astype(jnp.float32) for values in (self.scale, self.bias, self.mean, self.variance)
        )
        factor = scale / jnp.sqrt(variance + self.epsilon)
        return ((x.astype(jnp.float32) - mean) * factor + bias).astype(x.dtype)
