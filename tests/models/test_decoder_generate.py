"""Greedy tokens against transformers' `generate`, top-p by hand, and the loop's stops and limits."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.models.decoder_generate import draw_top_p, generate_tokens, nucleus, pick_likeliest
from jax_interp.models.decoder_lm import DecoderLM, empty_cache
from jax_interp.models.sampling import Sampling
from jax_interp.nn.params import Network
from tests.models.decoder_peers import CONFIGS, greedy_of, peer

ROOM = 96


@cache
def steps(name):
    network = Network(lambda rngs: DecoderLM(CONFIGS[name], dtype=jnp.float32, rngs=rngs))

    def prefill(params, ids, lengths, cache):
        model = network.bind(params)
        return model.prefill(model.embed(ids), lengths, cache)

    return jax.jit(prefill, donate_argnums=3), jax.jit(
        lambda params, ids, positions, cache: network.bind(params).decode(ids, positions, cache), donate_argnums=3
    )


def answer(name, prompts, **settings):
    """`generate_tokens` on prompts of any lengths, with `settings`."""
    _, params = peer(name)
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    ids = np.zeros((len(prompts), 20), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    prefill, decode = steps(name)
    cache = empty_cache(CONFIGS[name], len(prompts), ROOM, dtype=jnp.float32)
    return generate_tokens(
        lambda: prefill(params, ids, lengths, cache), lambda *step: decode(params, *step), lengths, **settings
    )


def draw_prompts(rng, *lengths):
    return [rng.integers(0, 97, length).astype(np.int32) for length in lengths]


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_are_transformers(name, rng):
    prompts = draw_prompts(rng, 20, 7)
    theirs = [greedy_of(peer(name)[0], prompt, 64) for prompt in prompts]
    assert len(set(theirs[0])) > 3  # the answer is no single token repeated
    assert answer(name, prompts, max_new_tokens=64) == theirs


def test_a_row_alone_is_the_row_in_a_batch_and_another_prompt_is_not(rng):
    prompts = draw_prompts(rng, 20, 7)
    together = answer("mistral", prompts, max_new_tokens=64)
    assert [answer("mistral", [prompt], max_new_tokens=64)[0] for prompt in prompts] == together
    other = prompts[0].copy()
    other[-1] = (other[-1] + 1) % 97
    assert answer("mistral", [other], max_new_tokens=64)[0] != together[0]


def test_rows_end_with_their_first_stop_token(rng):
    prompts = draw_prompts(rng, 20, 7)
    free = answer("mistral", prompts, max_new_tokens=40)
    stop = {free[0][5], free[1][9]}
    stopped = answer("mistral", prompts, max_new_tokens=40, stop=stop)
    for row, whole in zip(stopped, free, strict=True):
        end = next(i for i, token in enumerate(whole) if token in stop)
        assert row == whole[: end + 1]
    assert max(map(len, stopped)) < 40


def script(tokens, size=99):
    """(prefill, decode, positions seen) of a model that says `tokens` whatever it is told."""
    seen = []

    def say(step):
        return jax.nn.one_hot(jnp.array([tokens[step]]), 10), jnp.zeros((1, 1, size, 1, 1))

    def decode(ids, positions, cache):
        seen.append((int(ids[0]), int(positions[0])))
        return say(len(seen))

    return lambda: say(0), decode, seen


def test_every_token_is_fed_back_at_the_position_after_the_last():
    prefill, decode, seen = script([3, 1, 4, 1, 5])
    assert generate_tokens(prefill, decode, np.array([7]), max_new_tokens=5) == [[3, 1, 4, 1, 5]]
    assert seen == [(3, 7), (1, 8), (4, 9), (1, 10)]


def test_at_most_one_step_runs_beyond_a_stop():
    prefill, decode, seen = script([3, 1, 4, 1, 5])
    assert generate_tokens(prefill, decode, np.array([7]), max_new_tokens=5, stop=[1]) == [[3, 1]]
    assert len(seen) == 2


def test_an_answer_that_does_not_fit_is_refused_before_decoding():
    prefill, decode, _ = script([3, 1, 4], size=9)
    assert generate_tokens(prefill, decode, np.array([7]), max_new_tokens=3) == [[3, 1, 4]]
    prefill, decode, seen = script([3, 1, 4], size=8)
    with pytest.raises(ValueError, match="a cache of 8 tokens has no room for a prompt of 7 and 3 more"):
        generate_tokens(prefill, decode, np.array([7]), max_new_tokens=3)
    with pytest.raises(ValueError, match="at least one"):
        generate_tokens(prefill, decode, np.array([7]), max_new_tokens=0)
    assert seen == []


PROBABILITIES = np.array([[0.1, 0.5, 0.05, 0.3, 0.05], [0.01, 0.01, 0.01, 0.96, 0.01]], np.float32)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.9, ({1, 3, 0}, {3})), (0.79, ({1, 3}, {3})), (0.4, ({1}, {3})), (1e-9, ({1}, {3})), (1.0, ({*range(5)},) * 2)],
)
def test_nucleus_by_hand(top_p, kept):
    ranked, order = nucleus(jnp.log(PROBABILITIES), top_p)
    assert [{int(t) for t, x in zip(*row, strict=True) if x > -np.inf} for row in zip(order, ranked, strict=True)] == [
        *kept
    ]


def test_draws_follow_the_probabilities_within_the_nucleus():
    logits = jnp.log(jnp.tile(PROBABILITIES[:1], (4000, 1)))
    drawn = np.asarray(draw_top_p(logits, jax.random.key(0), temperature=1.0, top_p=0.79))
    shares = np.bincount(drawn, minlength=5) / 4000
    np.testing.assert_allclose(shares, [0, 0.5 / 0.8, 0, 0.3 / 0.8, 0], atol=0.03)
    # at temperature 1/2 probabilities are squared: 0.25 and 0.09
    drawn = np.asarray(draw_top_p(logits, jax.random.key(0), temperature=0.5, top_p=0.9))
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 4000, [0, 25 / 34, 0, 9 / 34, 0], atol=0.03)


def test_the_likeliest_of_equals_is_the_first():
    assert pick_likeliest(jnp.array([[0.0, 2.0, 2.0], [1.0, 0.0, 0.5]])).tolist() == [1, 0]


def test_a_seed_repeats_an_answer_and_another_changes_it(rng):
    prompts = draw_prompts(rng, 20)
    warm = Sampling(temperature=1.0, top_p=0.95)
    first, second, other = (answer("mistral", prompts, max_new_tokens=30, sampling=warm, seed=s) for s in (1, 1, 2))
    assert first == second != other
    cold = Sampling(temperature=1e-4, top_p=0.9)
    assert answer("mistral", prompts, max_new_tokens=30, sampling=cold) == answer("mistral", prompts, max_new_tokens=30)


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 2.0}]
)
def test_senseless_sampling_is_refused(wrong):
    with pytest.raises(ValueError, match="top_p in"):
        Sampling(**wrong)
