"""The XLA path against float64 by hand, in blocks of every size; which path is taken where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

from jax_interp.nn.attention import (
    FLASH_MIN_KEYS,
    _flash,
    attention,
    blocked_attention,
    cudnn_available,
    fits_flash,
    flash_available,
)
from tests.golden import relative_l2
from tests.tolerances import BLOCK_F32


def reference(q, k, v, scale, causal=False):
    scores = np.einsum("bqnk,bsnk->bnqs", q.astype(np.float64), k.astype(np.float64)) * scale
    if causal:
        scores[..., ~np.tril(np.ones(scores.shape[-2:], bool))] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnqs,bsnk->bqnk", weights / weights.sum(-1, keepdims=True), v.astype(np.float64))


@pytest.fixture
def qkv(rng):
    return [rng.standard_normal((2, length, 3, 8)).astype(np.float32) for length in (13, 7, 7)]


@pytest.mark.parametrize("queries_at_once", [1, 4, 12, 13, 100])
def test_blocks_of_any_size_give_the_same(qkv, queries_at_once):
    score_bytes = 4 * 2 * 3 * 7 * queries_at_once
    out = blocked_attention(*map(jnp.asarray, qkv), scale=0.3, score_bytes=score_bytes)
    assert relative_l2(out, reference(*qkv, scale=0.3)) < BLOCK_F32


@pytest.mark.parametrize("queries_at_once", [2, 100])
def test_causal(rng, queries_at_once):
    q, k, v = (rng.standard_normal((1, 9, 2, 4)).astype(np.float32) for _ in range(3))
    out = blocked_attention(
        *map(jnp.asarray, (q, k, v)), scale=0.5, causal=True, score_bytes=4 * 2 * 9 * queries_at_once
    )
    assert relative_l2(out, reference(q, k, v, 0.5, causal=True)) < BLOCK_F32


def test_default_scale_and_dtype(qkv):
    q, k, v = (jnp.asarray(x).astype(jnp.bfloat16) for x in qkv)
    out = attention(q, k, v)
    assert out.dtype == jnp.bfloat16
    expected = reference(*(np.asarray(x, np.float32) for x in (q, k, v)), scale=8**-0.5)
    assert relative_l2(out, expected) < 2**-8  # one rounding to bfloat16


def test_a_wrong_scale_is_noticed(qkv):
    out = attention(*map(jnp.asarray, qkv), scale=0.31)
    assert relative_l2(out, reference(*qkv, scale=0.3)) > BLOCK_F32


@pytest.mark.gpu
def test_cudnn_agrees_with_xla(rng):
    q, k, v = (jnp.asarray(rng.standard_normal((1, 512, 4, 128)), jnp.bfloat16) for _ in range(3))
    assert relative_l2(attention(q, k, v), blocked_attention(q, k, v, scale=128**-0.5)) < 2**-7


def heads(num_tokens, dtype=jnp.bfloat16, width=128):
    return jax.ShapeDtypeStruct((1, num_tokens, 2, width), dtype)


@pytest.mark.parametrize(
    ("q", "k", "fits"),
    [
        (heads(10560), heads(10560), True),
        (heads(8), heads(FLASH_MIN_KEYS), True),
        (heads(10560), heads(FLASH_MIN_KEYS - 8), False),
        (heads(10560), heads(512), False),
        (heads(1027), heads(2048), False),
        (heads(2048), heads(2047), False),
        (heads(2048, jnp.float32), heads(2048, jnp.float32), False),
        (heads(2048, jnp.float16), heads(2048, jnp.float16), False),
        (heads(2048, width=64), heads(2048, width=64), False),
        (heads(2048, width=256), heads(2048, width=256), False),
    ],
)
def test_what_our_kernel_takes(q, k, fits):
    assert fits_flash(q, k) is fits


def refuse(*args, **kwargs):
    raise AssertionError("a kernel for GPUs was asked for")


def test_on_a_cpu_no_kernel_is_asked_for(rng, monkeypatch, caplog):
    monkeypatch.setattr("jax_interp.nn.kernels.flash_attention.flash_attention", refuse)
    monkeypatch.setattr(jax.nn, "dot_product_attention", refuse)
    flash_available.cache_clear()
    q, k, v = (jnp.asarray(rng.standard_normal((1, n, 1, 128)), jnp.bfloat16) for n in (8, 1024, 1024))
    assert fits_flash(q, k)
    out = attention(q, k, v)
    assert flash_available() is False
    assert np.array_equal(out, blocked_attention(q, k, v, scale=128**-0.5))
    assert not caplog.records


@pytest.mark.parametrize(("causal", "num_keys", "ours"), [(False, 1024, 1), (True, 1024, 0), (False, 512, 0)])
def test_our_kernel_serves_where_it_runs(rng, monkeypatch, causal, num_keys, ours):
    seen = []

    def kernel(q, k, v, *, scale):
        seen.append(scale)
        return q

    monkeypatch.setattr("jax_interp.nn.kernels.flash_attention.flash_attention", kernel)
    monkeypatch.setattr("jax_interp.nn.attention.flash_available", lambda: True)
    q, k = (jnp.asarray(rng.standard_normal((1, n, 1, 128)), jnp.bfloat16) for n in (8, num_keys))
    out = attention(q, k, k, scale=0.3, causal=causal)
    assert seen == [0.3] * ours
    assert np.array_equal(out, q) is bool(ours)


class Hopper:
    platform, compute_capability = "gpu", "9.0"


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Hopper()])
    flash_available.cache_clear()
    yield Hopper
    flash_available.cache_clear()


def fail(q, k, v, *, scale):
    raise RuntimeError("no such instruction")


def wrong(q, k, v, *, scale):
    return 1.1 * blocked_attention(q, k, v, scale=scale)


@pytest.mark.parametrize(("kernel", "said"), [(fail, "no such instruction"), (wrong, "wrong numbers")])
def test_a_kernel_that_does_not_work_is_given_up_with_a_warning(hopper, monkeypatch, caplog, kernel, said):
    monkeypatch.setattr("jax_interp.nn.kernels.flash_attention.flash_attention", kernel)
    assert flash_available() is False
    assert flash_available() is False
    assert [said in record.message and "using cuDNN's" in record.message for record in caplog.records] == [True]


def test_a_kernel_that_works_is_tried_once_also_inside_a_trace(hopper, monkeypatch, caplog):
    monkeypatch.setattr("jax_interp.nn.kernels.flash_attention.flash_attention", blocked_attention)
    assert jax.jit(lambda x: x if flash_available() else -x)(1.0) == 1.0
    monkeypatch.setattr("jax_interp.nn.kernels.flash_attention.flash_attention", refuse)
    assert flash_available() is True
    assert not caplog.records


@pytest.mark.parametrize("capability", ["8.0", "10.0", None])
def test_other_gpus_are_not_tried(hopper, monkeypatch, capability):
    monkeypatch.setattr(hopper, "compute_capability", capability)
    monkeypatch.setattr("jax_interp.nn.kernels.flash_attention.flash_attention", refuse)
    assert flash_available() is False


def test_cudnn_is_tried_with_numbers_also_inside_a_trace(monkeypatch):
    seen = []
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda q, k, v, **options: seen.append(q) or q)
    cudnn_available.cache_clear()
    assert jax.jit(lambda x: x if cudnn_available() else -x)(1.0) == 1.0
    cudnn_available.cache_clear()
    assert [isinstance(q, Tracer) for q in seen] == [False]


@pytest.mark.slow
def test_gradients_come_from_a_kernel_that_has_them(monkeypatch):
    """Our kernel cannot be differentiated: it serves where no gradient is wanted, and another one where one is."""
    calls = []

    def kernel(q, k, v, *, scale):
        calls.append("ours")
        return jax.pure_callback(lambda q: np.zeros_like(q), jax.ShapeDtypeStruct(q.shape, q.dtype), q)

    monkeypatch.setattr("jax_interp.nn.kernels.flash_attention.flash_attention", kernel)
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 8, 2, 4))

    def loss(attend):
        return jax.grad(lambda *inputs: (attend(*inputs) ** 2).sum(), argnums=(0, 1, 2))(q, k, v)

    ours = loss(lambda *inputs: _flash(*inputs, 0.3))
    theirs = loss(lambda *inputs: blocked_attention(*inputs, scale=0.3))
    assert not calls
    assert all(relative_l2(mine, other) < 1e-6 for mine, other in zip(ours, theirs, strict=True))
    assert not np.any(_flash(q, k, v, 0.3))
    assert calls == ["ours"]
