"""What of metadata and languages a container holds."""

import pytest

from jax_interp.media.video.streams.metadata import carried, find_lost

PHONES = {"title": "garden", "com.android.version": "15", "Software": "camera"}


def test_what_is_about_the_file_itself_is_left_out():
    metadata = {"title": "garden", "Encoder": "Lavf", "rotate": "90", "creation_time": "2026-06-12T10:11:12Z"}
    assert carried(metadata) == {"title": "garden"}


@pytest.mark.parametrize(
    ("suffix", "languages", "lost"),
    [
        (".mp4", ["deu", "eng"], ["metadata (Software, com.android.version)"]),
        (".mp4", ["x-klingon", "eng"], ["metadata (Software, com.android.version)", "language (x-klingon)"]),
        (".mov", ["deu", "eng", "deu"], ["metadata (Software, com.android.version)", "language (deu)"]),
        (".mkv", ["deu", "eng"], []),
        (".gif", [], ["metadata (Software, com.android.version, title)"]),
    ],
)
def test_what_a_container_does_not_take_is_named(suffix, languages, lost):
    assert find_lost(PHONES, languages, suffix) == lost


def test_nothing_is_lost_of_nothing():
    assert [find_lost({}, [], suffix) for suffix in (".mp4", ".mov", ".mkv", ".gif", ".webp")] == [[]] * 5
