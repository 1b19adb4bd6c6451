"""A page that compares clips: one HTML file with all frames in it, which asks no server for anything.

Frames are WebP pictures rather than videos, so that a browser shows exactly the frames that belong together, and can
step by one. The page's policy lets it run its own script and nothing else; names reach it as data, never as HTML.
"""

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import combinations, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jax_interp.errors import MediaError, UsageError
from jax_interp.evaluation.compare.timeline import Alignment, Moments, align
from jax_interp.files.atomic import open_atomically
from jax_interp.media.output import as_media_error
from jax_interp.media.source import FrameSource, Picture
from jax_interp.terminal import one_line

MOST_BYTES = 200_000_000
"""The largest page. Browsers take several times its size in memory."""

_SURE = 4
"""How many times too large a page has to look after its first moment to be refused there; later less is enough."""


class PageTooLarge(UsageError):
    """The page would be larger than `MOST_BYTES`; the message says what to do."""


@dataclass(frozen=True)
class NamedClip:
    """A clip of the comparison and what the page calls it."""

    name: str
    source: FrameSource


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """What of the clips is in the page, and how well."""

    alignment: Alignment = "auto"
    first: int = 0
    """The first moment that is shown."""
    end: int | None = None
    """The moment after the last one; None for all."""
    width: int | None = None
    """Width in pixels at most; None for that of the first clip, whose size all get."""
    quality: int = 90
    """Quality of the WebP pictures, from 1 to 100, which is lossless."""

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality}: expected 1 to 100")
        if self.width is not None and self.width < 16:
            raise UsageError(f"--width {self.width}: expected 16 pixels or more")
        if self.first < 0 or (self.end is not None and self.end <= self.first):
            raise UsageError(f"--frames {self.first}:{self.end}: expected START:END with 0 <= START < END")


def write_page(
    path: Path,
    title: str,
    clips: Sequence[NamedClip],
    settings: PageSettings,
    advance: Callable[[int, int], Any] = lambda done, total: None,
) -> int:
    """Write the page of two or three clips; returns how many moments it has. A frame of each is held at a time.

    `advance` is called with how many moments are done, and how many there are.

    Raises:
        UsageError: there are not two or three clips, or none of the asked moments.
        PageTooLarge: the page would be larger than `MOST_BYTES`.
        MediaError: a clip is damaged, or the page cannot be written.
    """
    if not 2 <= len(clips) <= 3:
        raise UsageError(f"{len(clips)} clip(s): two or three can be compared")
    moments = _chosen(align([clip.source for clip in clips], settings.alignment), settings)
    first = clips[0].source
    width = min(settings.width or first.width, first.width)
    height = max(1, round(first.height * width / first.width))
    script, style = _resource("page.js"), _resource("page.css")
    with as_media_error(path), open_atomically(path) as file:
        num_frames = sum(len(set(column)) for column in zip(*moments.frames, strict=True))
        counted = _Counted(file, path, num_frames, len(moments.frames), settings)
        counted.write(_head(title, script, style))
        differences: dict[str, list[float]] = {}
        for done, pictures in enumerate(_pictures(clips, moments, height, width, settings.quality, counted)):
            for (i, a), (j, b) in combinations(enumerate(pictures), 2):
                differences.setdefault(f"{i}-{j}", []).append(_difference(a, b))
            advance(done + 1, len(moments.frames))
        data = _json(_data(clips, moments, height, width, differences))
        counted.write(f'<script type="application/json" id="data">{data}</script>\n')
        counted.write(f"<script>{script}</script>\n</body>\n</html>\n")
    return len(moments.frames)


class _Counted:
    """Writes to a file as long as the page does not become too large."""

    def __init__(self, file: BinaryIO, path: Path, num_frames: int, num_moments: int, settings: PageSettings):
        self._file, self._path, self._settings = file, path, settings
        self._num_frames, self._num_moments = num_frames, num_moments
        self._bytes = self._frames = 0

    def write(self, text: str) -> None:
        content = text.encode()
        self._bytes += len(content)
        if self._bytes > MOST_BYTES:
            raise self._too_large(max(self._bytes, self._estimate()))
        self._file.write(content)

    def write_frame(self, text: str) -> None:
        self._frames += 1
        self.write(text)
        # At 1, 2, 4, 8, ... frames: a film that fades in would be refused where the estimate has just passed the limit,
        # with advice that is not enough.
        if self._frames.bit_count() == 1 and self._estimate() > MOST_BYTES * (1 + (_SURE - 1) / self._frames):
            raise self._too_large(self._estimate())

    def _estimate(self) -> int:
        return self._bytes * self._num_frames // max(1, self._frames)

    def _too_large(self, size: int) -> PageTooLarge:
        share = 0.9 * MOST_BYTES / size
        first, fewer = self._settings.first, max(1, int(share * self._num_moments))
        return PageTooLarge(
            f"{self._path}: would be about {size / 1e6:.0f} MB, and may be {MOST_BYTES / 1e6:.0f} MB; compare fewer"
            f" frames (--frames {first}:{first + fewer}), pictures of {math.sqrt(share):.0%} of the width (--width), or"
            " with a lower --quality"
        )


def _chosen(moments: Moments, settings: PageSettings) -> Moments:
    frames = moments.frames[settings.first : settings.end]
    if not frames:
        raise UsageError(
            f"--frames {settings.first}:{settings.end or ''}: there are {len(moments.frames)} of them, counted from 0"
        )
    return Moments(frames, moments.rate, moments.alignment)


def _pictures(
    clips: Sequence[NamedClip], moments: Moments, height: int, width: int, quality: int, page: _Counted
) -> Iterator[list[Picture]]:
    """Yield the pictures of each moment, in the page's size; each frame is written to `page` when it first comes."""
    readers = [iter(clip.source) for clip in clips]
    indices = [-1] * len(clips)
    shown: list[Picture] = [np.zeros((height, width, 3), np.uint8)] * len(clips)
    for moment in moments.frames:
        for number, index in enumerate(moment):
            if index == indices[number]:
                continue
            skipped = index - indices[number] - 1
            picture = next(islice(readers[number], skipped, None), None)
            if picture is None:
                raise MediaError(f"{clips[number].name}: ended before frame {index}")
            indices[number] = index
            shown[number], webp = _encode(picture, height, width, quality)
            text = base64.b64encode(webp).decode()
            page.write_frame(f'<script type="text/plain" id="f{number}-{index}">{text}</script>\n')
        yield list(shown)


def _encode(picture: Picture, height: int, width: int, quality: int) -> tuple[Picture, bytes]:
    """Return the picture in the page's size (bicubic), and the same as WebP."""
    from PIL import Image

    image = Image.fromarray(picture)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, lossless=quality == 100, method=2)
    return np.asarray(image), file.getvalue()


def _difference(a: Picture, b: Picture) -> float:
    """Return the mean absolute difference in levels of 255, rounded for the page."""
    return round(float(np.abs(a.astype(np.int16) - b).mean()), 3)


def _data(
    clips: Sequence[NamedClip], moments: Moments, height: int, width: int, differences: dict[str, list[float]]
) -> dict[str, Any]:
    return {
        "clips": [{"name": one_line(clip.name), "about": _about(clip.source)} for clip in clips],
        "moments": moments.frames,
        "rate": float(moments.rate),
        "alignment": moments.alignment,
        "height": height,
        "width": width,
        "differences": differences,
    }


def _about(source: FrameSource) -> str:
    rate = f" at {float(source.fps):.6g} a second" if source.fps else ""
    return f"{source.num_frames} frames{rate}, {source.width}\u00d7{source.height}"


def _head(title: str, script: str, style: str) -> str:
    body = _resource("page.html")
    values = {
        "title": html.escape(one_line(title)),
        "policy": _policy(script, style),
        "style": style,
    }
    for name, value in values.items():
        body = body.replace(f"{{{{{name}}}}}", value)
    return body


def _policy(script: str, style: str) -> str:
    """Return the Content-Security-Policy: this script and this style, and nothing from anywhere."""
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("script", script), ("style", style))
    }
    return (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}';"
        " base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> str:
    """Return JSON that nothing ends or begins a tag in."""
    return (
        json.dumps(value, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    )


def _resource(name: str) -> str:
    return resources.files("jax_interp.evaluation.compare").joinpath(name).read_text("utf-8")
