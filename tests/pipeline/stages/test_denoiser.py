"""Whole sampling runs against upstream's: both condition noises, one and two branches, few and many steps."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.parity.golden.recording import open_recording
from tests import golden
from tests.changed_weights import change_weight
from tests.tolerances import BF16_RATIO, SAMPLE_BF16, SAMPLE_F32

RUNS = [
    ("fixed_g-1_n6", -1.0),
    ("fixed_g1_nonegative_n6", 1.0),
    ("fixed_g3_n6", 3.0),
    ("fixed_g3_n35", 3.0),
    ("shipped_g-1_n6", -1.0),
    ("shipped_g3_n6", 3.0),
    ("shipped_g-1_n35", -1.0),
]


def embedding(index):
    """Golden text embedding `index`, padded to 512 rows, as a batch of one."""
    rows = golden.load("L7_t5")[f"emb_{index}"]
    return np.pad(rows, ((0, 512 - len(rows)), (0, 0)))[None]


def shipped_noise():
    """The draws of the golden `shipped` runs."""
    return open_recording(golden.ROOT).drawn_noise((16, 3, 8, 12))


def run(interpolator, name, guidance, **changes):
    expected = golden.load(f"L5_{interpolator.denoiser.precision}_{name}")
    arguments = {
        "condition_latents": golden.channels_last(expected["condition_latent"]),
        "text": embedding(0),
        "negative_text": None if "nonegative" in name else embedding(5),
        "guidance": guidance,
        "num_steps": int(name.rsplit("_n", 1)[1]),
        "condition_noise": shipped_noise() if name.startswith("shipped") else "fixed",
    }
    return interpolator.sample(**(arguments | changes)), golden.channels_last(expected["sample"])


@pytest.mark.parametrize(("name", "guidance"), RUNS)
def test_float32_samples_equal_upstreams(interpolators, name, guidance):
    ours, upstream = run(interpolators["float32"], name, guidance)
    assert ours.dtype == jnp.float32
    assert golden.relative_l2(ours, upstream) < SAMPLE_F32


@pytest.mark.parametrize(("name", "guidance"), RUNS)
def test_bfloat16_samples_are_as_accurate_as_upstreams(interpolators, name, guidance):
    ours, upstream = run(interpolators["bfloat16"], name, guidance)
    oracle = golden.channels_last(golden.load(f"L5_float32_{name}")["sample"])
    assert golden.relative_l2(ours, oracle) < BF16_RATIO * golden.relative_l2(upstream, oracle)
    assert golden.relative_l2(ours, upstream) < SAMPLE_BF16


@pytest.mark.parametrize(
    "change",
    [{"seed": 12}, {"num_steps": 7}, {"fps": 25}, {"condition_noise": "random"}],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_counts(interpolators, change):
    ours, upstream = run(interpolators["float32"], "fixed_g-1_n6", -1.0, **change)
    assert golden.relative_l2(ours, upstream) > SAMPLE_F32


def test_guidance_counts(interpolators):
    ours, upstream = run(interpolators["float32"], "fixed_g-1_n6", -0.9)
    assert golden.relative_l2(ours, upstream) > SAMPLE_F32


def test_condition_frames_come_back_unchanged(interpolators):
    ours, _ = run(interpolators["float32"], "fixed_g3_n6", 3.0)
    condition = golden.channels_last(golden.load("L5_float32_fixed_g3_n6")["condition_latent"])
    assert np.array_equal(ours[:, [0, -1]], condition[:, [0, -1]])


def test_minus_one_ignores_the_prompt_and_zero_the_negative_prompt(interpolators):
    for guidance, ignored in ((-1.0, "text"), (0.0, "negative_text")):
        ours, _ = run(interpolators["float32"], "fixed_g-1_n6", guidance, num_steps=2)
        other, _ = run(interpolators["float32"], "fixed_g-1_n6", guidance, num_steps=2, **{ignored: embedding(3)})
        assert np.array_equal(ours, other)


@pytest.mark.parametrize("guidance", [-1.0, 0.0])
def test_one_branch_equals_two(interpolators, guidance):
    one, _ = run(interpolators["float32"], "shipped_g-1_n6", guidance)
    two, _ = run(interpolators["float32"], "shipped_g-1_n6", guidance + 1e-7)
    assert golden.relative_l2(one, two) < SAMPLE_F32


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["fixed", "random", shipped_noise()], ids=["fixed", "random", "replayed"])
def test_a_batch_of_pairs_equals_its_pairs(interpolators, noise):
    """With drawn noise a batch goes on counting calls where its first pair ends."""
    denoiser = interpolators["float32"].denoiser
    latents = golden.load("L4_condition")
    names = ("float32.pair_i0_s1", "float32.pair_i1_s1")
    conditions = jnp.asarray(np.concatenate([golden.channels_last(latents[name]) for name in names]))
    settings = SampleSettings(guidance=3.0, num_steps=3, condition_noise=noise)
    text, negative = jnp.asarray(embedding(0)), jnp.asarray(embedding(5))
    batch = denoiser.sample(conditions, text, negative, settings)
    for index in range(2):
        alone = denoiser.sample(conditions[index : index + 1], text, negative, settings, numbers=[index])
        assert golden.relative_l2(batch[index], alone[0]) < SAMPLE_F32


def test_progress_counts_every_call(interpolators):
    seen = []
    denoiser = interpolators["float32"].denoiser
    condition = jnp.asarray(golden.channels_last(golden.load("L4_condition")["float32.pair_i0_s1"]))
    denoiser.sample(condition, None, None, SampleSettings(num_steps=3), progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_embeddings_of_another_width_are_refused(interpolators):
    with pytest.raises(UsageError, match=r"shape \(1, 512, 65\); expected \[1 or 1, tokens, 64\]"):
        run(interpolators["float32"], "fixed_g-1_n6", -1.0, negative_text=np.zeros((1, 512, 65), np.float32))


def test_values_that_are_not_numbers_end_the_run(converted):
    from jax_interp import Interpolator

    interpolator = Interpolator.from_pretrained(converted, dtype="float32")
    change_weight(interpolator.denoiser, "final_linear/kernel", lambda kernel: kernel * np.float32(np.nan))
    with pytest.raises(JaxInterpError, match="not numbers"):
        run(interpolator, "fixed_g-1_n6", -1.0, num_steps=1)
