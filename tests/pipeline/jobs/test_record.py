"""What identifies a result, and what does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from jax_interp import Interpolator
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.media.video.codecs import EncodingSettings
from jax_interp.pipeline.jobs.record import effective_settings, fingerprint
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.placement import Placement
from tests import golden

SETTINGS = InterpolationSettings(height=64, width=96)
INPUTS = (golden.CLIP,)


@pytest.fixture(scope="module")
def interpolator(converted):
    return Interpolator.from_pretrained(converted)


@pytest.fixture(scope="module")
def identity(interpolator):
    return fingerprint(interpolator, SETTINGS, INPUTS)


def test_memory_does_not_count(converted, interpolator, identity):
    """A run that was interrupted goes on with more or less memory than before."""
    assert fingerprint(interpolator, replace(SETTINGS, pairs_per_batch=2), INPUTS) == identity
    other = Interpolator.from_pretrained(converted)
    for placement in (Placement("offloaded"), Placement("streamed"), Placement("streamed", 1)):
        other.place(dict.fromkeys(("text_encoder", "tokenizer", "diffusion_transformer"), placement))
        assert fingerprint(other, SETTINGS, INPUTS) == identity


def test_what_changes_a_frame_counts(converted, interpolator, identity, tmp_path):
    for changes in (
        {"sampling": SampleSettings(seed=12)},
        {"sampling": SampleSettings(num_steps=36)},
        {"height": 80},
        {"prompt": "rain"},
    ):
        assert fingerprint(interpolator, replace(SETTINGS, **changes), INPUTS) != identity
    assert fingerprint(Interpolator.from_pretrained(converted, dtype="float32"), SETTINGS, INPUTS) != identity
    (tmp_path / "clip.mp4").write_bytes(golden.CLIP.read_bytes())
    assert fingerprint(interpolator, SETTINGS, (tmp_path / "clip.mp4",)) != identity


def test_how_the_video_is_encoded_counts(interpolator):
    def encoded(**settings):
        facts = EncodingSettings(**settings).facts(Path("out/film.mp4"))
        return fingerprint(interpolator, SETTINGS, INPUTS, own_facts={"encoding": facts})

    assert encoded() == encoded(codec="h264", crf=14)
    assert len({encoded(), encoded(crf=15), encoded(codec="hevc"), encoded(pixel_format="yuv444p")}) == 4


def test_the_record_still_says_how_many_pairs_shared_a_pass(interpolator):
    assert effective_settings(interpolator, replace(SETTINGS, pairs_per_batch=2))["pairs_per_batch"] == 2
