"""Scaled dot-product attention: our kernel on Hopper GPUs, cuDNN's on others, a memory-bounded XLA path elsewhere."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_interp.nn.kernels.check import works

logger = logging.getLogger("jax_interp")

CUDNN_MAX_HEAD_WIDTH = 256
"""The widest head that cuDNN's fused attention takes on Hopper."""

FLASH_MIN_KEYS = 1024
"""The fewest keys for which our kernel is faster than cuDNN's."""

SCORE_BYTES = 256 * 2**20
"""The largest number of bytes of float32 scores that the XLA path holds at a time."""


def attention(
    q: Float[Array, "B Lq N K"],
    k: Float[Array, "B Lk N K"],
    v: Float[Array, "B Lk N K"],
    *,
    scale: float | None = None,
    causal: bool = False,
) -> Float[Array, "B Lq N K"]:
    """Apply scaled dot-product attention, softmax(q kᵀ · scale) v for every head, in the dtype of `q`.

    The softmax is float32. `scale` defaults to 1/√K. With `causal`, query i attends to keys 0..i. The full score matrix
    is never in memory.
    """
    scale = float(q.shape[-1] ** -0.5) if scale is None else scale
    if not causal and fits_flash(q, k) and flash_available():
        return _flash(q, k, v, scale)
    return _other_attention(q, k, v, scale, causal)


def _other_attention(q: Array, k: Array, v: Array, scale: float, causal: bool = False) -> Array:
    """Apply attention with cuDNN or XLA, both of which can be differentiated."""
    if q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] <= CUDNN_MAX_HEAD_WIDTH and cudnn_available():
        return jax.nn.dot_product_attention(q, k, v, scale=scale, is_causal=causal, implementation="cudnn")
    return blocked_attention(q, k, v, scale=scale, causal=causal)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _flash(q: Array, k: Array, v: Array, scale: float) -> Array:
    """Apply attention with our kernel; for gradients another one runs, since ours has no backward pass."""
    from jax_interp.nn.kernels.flash_attention import flash_attention

    return flash_attention(q, k, v, scale=scale)


def _flash_forward(q: Array, k: Array, v: Array, scale: float) -> tuple[Array, Callable[[Array], Any]]:
    return jax.vjp(partial(_other_attention, scale=scale), q, k, v)


def _flash_backward(scale: float, pullback: Callable[[Array], Any], gradient: Array) -> Any:
    del scale  # is in the pullback
    return pullback(gradient)


_flash.defvjp(_flash_forward, _flash_backward)


def fits_flash(q: Array | jax.ShapeDtypeStruct, k: Array | jax.ShapeDtypeStruct) -> bool:
    """Tell whether our kernel takes these shapes and dtypes, and is the faster one."""
    lengths = q.shape[1], k.shape[1]
    return (
        q.dtype == jnp.bfloat16
        and q.shape[-1] == 128
        and lengths[1] >= FLASH_MIN_KEYS
        and not any(length % 8 for length in lengths)
    )


@cache
def flash_available() -> bool:
    """Tell whether our kernel runs here, by running it once on a small input."""
    return works("the attention kernel for Hopper", "cuDNN's", _flash_is_right)


def _flash_is_right() -> bool:
    """Compare the kernel with the XLA path, on lengths that fill no block."""
    from jax_interp.nn.kernels.flash_attention import flash_attention

    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 200, 2, 128), jnp.bfloat16)
    ours = flash_attention(q, k, v, scale=0.1).astype(jnp.float32)
    error = ours - blocked_attention(q, k, v, scale=0.1).astype(jnp.float32)
    return bool(jnp.linalg.norm(error) < 2**-6 * jnp.linalg.norm(ours))


@cache
def cudnn_available() -> bool:
    """Tell whether cuDNN's attention runs here, by running it once on a tiny input."""
    if jax.default_backend() != "gpu":
        return False
    try:
        with ThreadPoolExecutor(1) as thread:  # as above
            thread.submit(_run_cudnn).result()
    except Exception as error:  # whatever the driver or library raises, the XLA path still serves
        logger.warning("cuDNN attention does not run here (%s); using the slower XLA path", error)
        return False
    return True


def _run_cudnn() -> None:
    x = jnp.ones((1, 64, 1, 64), jnp.bfloat16)
    jax.block_until_ready(jax.nn.dot_product_attention(x, x, x, implementation="cudnn"))


def blocked_attention(
    q: Float[Array, "B Lq N K"],
    k: Float[Array, "B Lk N K"],
    v: Float[Array, "B Lk N K"],
    *,
    scale: float,
    causal: bool = False,
    score_bytes: int = SCORE_BYTES,
) -> Float[Array, "B Lq N K"]:
    """Apply attention to one block of queries after another, with at most `score_bytes` of scores at a time."""
    batch, num_queries, num_heads, width = q.shape
    num_keys = k.shape[1]
    block = max(1, min(num_queries, score_bytes // (4 * batch * num_heads * num_keys)))
    num_blocks = -(-num_queries // block)
    if num_blocks == 1:
        return _attend(q, k, v, jnp.arange(num_queries), scale, causal)
    padding = num_blocks * block - num_queries
    blocks = jnp.pad(q, ((0, 0), (0, padding), (0, 0), (0, 0)))
    blocks = blocks.reshape(batch, num_blocks, block, num_heads, width).swapaxes(0, 1)
    starts = jnp.arange(num_blocks) * block
    out = jax.lax.map(lambda args: _attend(args[0], k, v, args[1] + jnp.arange(block), scale, causal), (blocks, starts))
    return out.swapaxes(0, 1).reshape(batch, num_blocks * block, num_heads, width)[:, :num_queries]


def _attend(q: Array, k: Array, v: Array, positions: Array, scale: float, causal: bool) -> Array:
    """Apply attention to the queries at `positions`, in float32 with one rounding at the end."""
    scores = jnp.einsum("bqnk,bsnk->bnqs", q, k, preferred_element_type=jnp.float32) * scale
    if causal:
        visible = jnp.arange(k.shape[1])[None, :] <= positions[:, None]
        scores = jnp.where(visible, scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)
    out = jnp.einsum("bnqs,bsnk->bqnk", weights, v.astype(jnp.float32))
    return out.astype(q.dtype)
