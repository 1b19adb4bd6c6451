"""Metadata and languages of a file that are carried over to another, and those that its container does not take."""

import io
from collections.abc import Iterable, Mapping

from jax_interp.media.video.codecs import ANIMATIONS, MUXERS

_ABOUT_THE_FILE = frozenset(
    ("major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "duration", "creation_time")
)
"""Metadata about the file itself, not about what it shows; pictures are turned upright, so they need no rotation."""


def carried(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what of a file's or stream's metadata is carried over."""
    return {key: value for key, value in metadata.items() if key.lower() not in _ABOUT_THE_FILE}


def find_lost(metadata: Mapping[str, str], languages: Iterable[str], suffix: str) -> list[str]:
    """Return what of carried metadata and of the streams' languages a file that ends in `suffix` cannot hold.

    Every container has rules of its own, which depend on the version of libavformat. So a file of one picture is
    written in memory, and read again.
    """
    if suffix in ANIMATIONS:
        return [f"metadata ({', '.join(sorted(metadata))})"] if metadata else []
    asked = sorted(set(languages))
    kept, kept_languages = _written_and_read(metadata, asked, suffix)
    keys = sorted(key for key in metadata if key.lower() not in kept)
    codes = [language for language in asked if language not in kept_languages]
    return [f"{kind} ({', '.join(names)})" for kind, names in (("metadata", keys), ("language", codes)) if names]


def _written_and_read(metadata: Mapping[str, str], languages: list[str], suffix: str) -> tuple[set[str], set[str]]:
    """Return the keys, in lower case, and the languages that a file has which was written with these."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=MUXERS[suffix]) as container:
        container.metadata.update(metadata)
        streams = []
        for language in languages or [""]:
            stream = container.add_stream("mpeg4", rate=1, width=16, height=16, pix_fmt="yuv420p")
            stream.metadata.update({"language": language} if language else {})
            streams.append(stream)
        for stream in streams:
            picture = av.VideoFrame(16, 16, "yuv420p")
            picture.pts = 0
            container.mux([*stream.encode(picture), *stream.encode(None)])
    file.seek(0)
    with av.open(file) as container:
        read = [stream.metadata.get("language", "") for stream in container.streams]
        return {key.lower() for key in container.metadata}, set(read)
