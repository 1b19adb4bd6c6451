"""Clips into the folder of encoded samples: once, every window, and again where something changed."""

from dataclasses import replace

import numpy as np
import pytest

from jax_interp.pipeline.prompt.text import TextEncoder
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.train.data.clips import find_clips
from jax_interp.train.data.encoding import EncodingCache, WindowEncoder, load_array
from jax_interp.train.data.windows import WindowSettings
from tests import golden
from tests.train.training_data import HEIGHT, WIDTH, add_clip

WINDOWS = WindowSettings(num_frames=10)


@pytest.fixture
def clips(tmp_path):
    add_clip(tmp_path / "data", "one", frames=12)
    return find_clips(tmp_path / "data", WINDOWS, height=HEIGHT, width=WIDTH)


def cache_of(converted, folder, windows=WINDOWS):
    given = {"Waves.": np.ones((7, 64), np.float32)}
    encoder = WindowEncoder(find_component(converted, "tokenizer"), "float32", "inference")
    return EncodingCache(
        folder=folder,
        encoder=encoder,
        text_encoder=TextEncoder(None, given=given),
        windows=windows,
        height=HEIGHT,
        width=WIDTH,
    )


@pytest.mark.slow
def test_every_window_is_encoded_as_by_itself(converted, clips, tmp_path):
    cache = cache_of(converted, tmp_path / "cache")
    heard = []
    cache.fill(clips, lambda done, total: heard.append((done, total)))
    samples = cache.samples(clips)
    assert heard == [(3, 3)]
    assert [sample.start for sample in samples] == [0, 1, 2]
    frames = np.stack(list(clips[0].source))
    for sample in samples:
        latents = load_array(sample.latents, "latents")
        assert latents.shape == (3, HEIGHT // 8, WIDTH // 8, 16)
        alone = cache.encoder.encode(frames[sample.start : sample.start + 10], HEIGHT, WIDTH)
        assert golden.relative_l2(latents, alone) < 1e-6
    text = load_array(samples[0].text, "text")
    assert text.shape == (512, 64)
    assert text[:7].all()
    assert not text[7:].any()


@pytest.mark.slow
def test_what_is_there_is_not_encoded_again(converted, clips, tmp_path, monkeypatch):
    cache = cache_of(converted, tmp_path / "cache")
    cache.fill(clips)
    [*_, last] = cache.samples(clips)
    last.latents.unlink()
    calls = []
    encode = WindowEncoder.encode
    monkeypatch.setattr(WindowEncoder, "encode", lambda *arguments: calls.append(1) or encode(*arguments))
    cache_of(converted, tmp_path / "cache").fill(clips)
    assert len(calls) == 1
    assert last.latents.exists()


def test_samples_of_other_settings_have_other_names(converted, clips, tmp_path):
    names = {
        sample.latents.name
        for cache in (
            cache_of(converted, tmp_path),
            replace(cache_of(converted, tmp_path), height=32),
            cache_of(converted, tmp_path, WindowSettings(num_frames=10, sequence_interval=1, start_frame_interval=3)),
        )
        for sample in cache.samples(clips)[:1]
    }
    assert len(names) == 3


def test_windows_with_gaps_between_their_frames(converted, tmp_path):
    add_clip(tmp_path / "data", "long", frames=25)
    spaced = WindowSettings(num_frames=10, sequence_interval=2, start_frame_interval=4)
    [clip] = find_clips(tmp_path / "data", spaced, height=HEIGHT, width=WIDTH)
    cache = cache_of(converted, tmp_path / "cache", spaced)
    cache.fill([clip])
    first, second = cache.samples([clip])
    frames = np.stack(list(clip.source))
    alone = cache.encoder.encode(frames[4:23:2], HEIGHT, WIDTH)
    assert golden.relative_l2(load_array(second.latents, "latents"), alone) < 1e-6
    assert golden.relative_l2(load_array(first.latents, "latents"), alone) > 1e-3
