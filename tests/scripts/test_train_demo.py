"""The demo's training at toy size: what it learns from, and that it goes on where it stopped."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scripts import train_demo
from scripts.demo_training import film, glide, tokenizer, transformer

SIZE = 32, 48


@pytest.fixture(autouse=True)
def as_scripts_run():
    with jax.numpy_dtype_promotion("standard"):
        yield


def moving_film(count=180):
    """A pattern that shifts by a pixel a frame."""
    pattern = np.random.default_rng(0).integers(0, 256, (SIZE[0], SIZE[1] + count, 3), np.uint8)
    return np.stack([pattern[:, i : i + SIZE[1]] for i in range(count)])


@pytest.fixture
def data(tmp_path, monkeypatch):
    for name, value in {"OPENING": 0, "CLOSING": 0, "CUT": 1e9}.items():
        monkeypatch.setattr(film, name, value)
    monkeypatch.setattr(film, "find_shots", lambda _: [(0, 60), (60, 120), (120, 180)])
    monkeypatch.setattr(film, "HOLD_OUT_EVERY", 2)
    for name, value in {"HEIGHT": SIZE[0], "WIDTH": SIZE[1], "SCENES": 64, "MORE_SCENES": 8}.items():
        monkeypatch.setattr(train_demo, name, value)
    monkeypatch.setattr(train_demo, "ENCODED_TOGETHER", 8)
    np.save(tmp_path / "film.npy", moving_film())
    return train_demo.Data(tmp_path / "film.npy")


def test_a_gliding_window_moves_evenly_and_shows_the_clip():
    ramp = np.broadcast_to(np.arange(0, 240, 5, dtype=np.uint8)[None, None, None, :, None], (3, 10, 32, 48, 3))
    seen = np.asarray(glide.glide(jax.random.key(0), jnp.asarray(ramp))).astype(int)
    assert seen.shape == ramp.shape
    assert seen.min() >= 0
    assert seen.max() <= 235
    across = seen[:, :, 0, 24, 0]  # what is in the middle: its place changes evenly, but for the change of size
    assert np.abs(np.diff(across, n=2)).max() <= 3
    assert np.abs(across[:, -1] - across[:, 0]).max() > 5
    steps = np.diff(seen[:, 0, 0, :, 0], axis=-1).mean(-1)  # enlarged: neighbours differ by less
    assert np.all((steps > 5 / glide.LARGEST - 0.2) & (steps < 5 / glide.SMALLEST + 0.2))


def test_gliding_is_decided_by_its_key():
    clips = jnp.asarray(moving_film(10)[None])
    first, again, other = (np.asarray(glide.glide(jax.random.key(k), clips)) for k in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.slow
def test_every_source_has_its_share(data, monkeypatch):
    monkeypatch.setattr(tokenizer, "interpolation_latents", lambda _, frames: frames[:, :3, :4, :6].astype(jnp.float32))
    found = train_demo.encoded(data, {}, np.zeros((512, 32), np.float32))
    windows = len(data.split.train)
    assert len(found.values) == len(found.weights) == 8 * windows + 8
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights[: 4 * windows].sum() == pytest.approx(train_demo.SHARES["film"])
    assert found.weights[-8:].sum() == pytest.approx(train_demo.SHARES["scenes"])
    assert len(np.unique(np.asarray(found.values.astype(jnp.float32)).reshape(len(found.values), -1), axis=0)) > windows


def test_the_weights_fit_the_repository():
    """In bfloat16, beside half a MB of text encoder, clip and names."""
    network = train_demo.Trainer(transformer.CONFIG, transformer.settings(transformer.PHASES[0])).network
    leaves = jax.tree.leaves((network.abstract, tokenizer.network().abstract))
    assert 2 * sum(int(np.prod(leaf.shape)) for leaf in leaves) + 0.6e6 < 20e6


def test_similarity_by_hand():
    draw = np.random.default_rng(0)
    truth = jnp.asarray(draw.uniform(-1, 1, (1, 1, 16, 24, 3)), jnp.float32)
    found = np.asarray(tokenizer.similarity(truth, truth))
    assert found.shape == (1, 1, 3, 5, 3)
    assert found == pytest.approx(np.ones_like(found), abs=1e-4)
    another = jnp.asarray(draw.uniform(-1, 1, truth.shape), jnp.float32)
    assert float(tokenizer.similarity(another, truth).mean()) < 0.2
    made, window = np.asarray(truth) + 0.1, np.asarray(truth)[0, 0, :8, :8, 0]
    other = made[0, 0, :8, :8, 0]
    means = (2 * window.mean() * other.mean() + 4e-4) / (window.mean() ** 2 + other.mean() ** 2 + 4e-4)
    covariance = ((window - window.mean()) * (other - other.mean())).mean()
    by_hand = means * (2 * covariance + 3.6e-3) / (window.var() + other.var() + 3.6e-3)
    assert float(tokenizer.similarity(jnp.asarray(made), truth)[0, 0, 0, 0, 0]) == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.slow
@pytest.mark.thorough
def test_training_goes_on_where_it_stopped(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer, "BATCH", 2)
    monkeypatch.setattr(transformer, "BATCH", 2)
    monkeypatch.setattr(train_demo, "STEPS_A_CALL", 1)
    monkeypatch.setattr(train_demo, "held_out", lambda *_: {})
    monkeypatch.setattr(transformer, "CONFIG", replace(transformer.CONFIG, num_blocks=2, width=64, num_heads=1))
    monkeypatch.setattr(transformer, "PHASES", tuple(replace(phase, steps=301) for phase in transformer.PHASES[:1]))
    stopped, text = train_demo.Clock(-1), np.zeros((512, 32), np.float32)
    assert not train_demo.train_tokenizer(data, tmp_path, 301, stopped)
    state = tmp_path / "tokenizer_state.npz"
    assert state.exists()
    assert train_demo.train_tokenizer(data, tmp_path, 1, train_demo.Clock(1e9))
    assert (tmp_path / "tokenizer.npz").exists()
    assert not train_demo.train_transformer(data, tmp_path, text, stopped)
    assert (tmp_path / "transformer_state_0.npz").exists()
    latents = train_demo.encoded(data, train_demo.read_params(tmp_path / "tokenizer.npz"), text)
    phase = replace(transformer.PHASES[0], steps=301)
    two = iter([False, False, True, True])
    monkeypatch.setattr(stopped, "over", lambda: next(two))
    assert not train_demo.train_phase(latents, tmp_path, 0, phase, stopped)
    with np.load(tmp_path / "transformer_state_0.npz") as stored:
        assert int(stored["arr_0"]) == 2
