"""Generation of tokens from a language model's logits: greedy or top-p sampling, and the autoregressive loop."""

from collections.abc import Callable, Collection
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_interp.models.decoder_lm import Logits
from jax_interp.models.sampling import GREEDY, Sampling

CacheT = TypeVar("CacheT")
TokenIds = Int[Array, " B"]


NO_TOKEN = -1
"""The token that is chosen where logits are not numbers."""


class NotFinite(ArithmeticError):
    """A model gave logits that are not numbers."""


def pick_likeliest(logits: Logits) -> TokenIds:
    """Return the likeliest token of each row; among equals it is the first."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def draw_top_p(logits: Logits, key: Array, *, temperature: float, top_p: float) -> TokenIds:
    """Draw from the softmax of `logits / temperature` within each row's `nucleus`.

    Source: Holtzman et al. (2020), section 3.1.
    """
    ranked, order = nucleus(logits / temperature, top_p)
    rank = jax.random.categorical(key, ranked, axis=-1)
    return jnp.take_along_axis(order, rank[:, None], axis=-1)[:, 0]


def nucleus(logits: Logits, top_p: float) -> tuple[Float[Array, "B V"], Int[Array, "B V"]]:
    """Return (logits from the likeliest token down, the tokens in that order), with -inf outside the nucleus.

    The nucleus is the smallest set of likeliest tokens whose probabilities sum to `top_p`; it has at least one token.
    """
    order = jnp.argsort(-logits, axis=-1).astype(jnp.int32)
    ranked = jnp.take_along_axis(logits, order, axis=-1)
    probabilities = jax.nn.softmax(ranked, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    return jnp.where((before < top_p).at[:, 0].set(True), ranked, -jnp.inf), order


def generate_tokens(
    prefill: Callable[[], tuple[Logits, CacheT]],
    decode: Callable[[TokenIds, Int[np.ndarray, " B"], CacheT], tuple[Logits, CacheT]],
    lengths: Int[np.ndarray, " B"],
    *,
    max_new_tokens: int,
    stop: Collection[int] = (),
    sampling: Sampling = GREEDY,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Generate the tokens that follow each row's prompt of `lengths[b]` tokens, at most `max_new_tokens`.

    A row ends with the first token of `stop`; a row that ends with another one reached the limit. `prefill` reads the
    prompts and `decode(ids, positions, cache)` one token a row (`models.decoder_lm.DecoderLM` has both); they may be
    jitted or place blocks one by one, and may donate the cache. Tokens are chosen on the device, and the host reads
    them while the next step runs, so one step more than needed may run. `progress` is told how many steps are done.

    Raises:
        ValueError: `max_new_tokens` is below 1, or the cache has no room for prompt and answer.
        NotFinite: logits are not numbers.
    """
    logits, cache = prefill()
    _check_room(cache, lengths, max_new_tokens)
    positions = np.asarray(lengths, np.int32)
    key = jax.random.key(seed)
    rows: list[list[int]] = [[] for _ in lengths]
    running = set(range(len(rows)))
    ids = _choose(logits, key, 0, sampling)
    for step in range(1, max_new_tokens + 1):
        chosen = ids
        if step < max_new_tokens:
            logits, cache = decode(ids, positions, cache)
            ids, positions = _choose(logits, key, step, sampling), positions + 1
        for row, token in enumerate(np.asarray(chosen).tolist()):
            if token == NO_TOKEN:
                raise NotFinite(f"token {step} of the answer was to be chosen by values that are not numbers")
            if row in running:
                rows[row].append(token)
                running -= {row} if token in stop else set()
        if progress is not None:
            progress(step)
        if not running:
            break
    return rows


@partial(jax.jit, static_argnames="sampling")
def _choose(logits: Logits, key: Array, step: int, sampling: Sampling) -> TokenIds:
    if sampling.temperature == 0:
        chosen = pick_likeliest(logits)
    else:
        step_key = jax.random.fold_in(key, step)
        chosen = draw_top_p(logits, step_key, temperature=sampling.temperature, top_p=sampling.top_p)
    return jnp.where(jnp.isfinite(logits).all(axis=-1), chosen, NO_TOKEN)


def _check_room(cache: object, lengths: Int[np.ndarray, " B"], max_new_tokens: int) -> None:
    """Check that prompt and answer fit the cache; the last token is never fed back, so it needs no place."""
    size, longest = jax.tree.leaves(cache)[0].shape[-3], int(max(lengths))
    if max_new_tokens < 1:
        raise ValueError(f"at least one token must be asked for, not {max_new_tokens}")
    if longest + max_new_tokens - 1 > size:
        raise ValueError(
            f"a cache of {size} tokens has no room for a prompt of {longest} and {max_new_tokens} more; make it larger"
        )
