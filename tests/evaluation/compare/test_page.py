"""The page as a file: what is in it, what it allows itself, and that names stay text."""

import base64
import hashlib
import io
import json
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jax_interp.errors import MediaError, UsageError
from jax_interp.evaluation.compare import page
from jax_interp.evaluation.compare.page import NamedClip, PageSettings, PageTooLarge, write_page
from jax_interp.media.source import FrameSource
from tests.media import clips
from tests.media.clips import names

HOSTILE = '</script><img src=x onerror="alert(1)">\u2028&amp;\x1b'


def named(name, frames, fps=24, num_frames=None):
    height, width = frames.shape[1:3]
    source = FrameSource(
        num_frames=num_frames or len(frames),
        height=height,
        width=width,
        fps=Fraction(fps),
        description={"path": name},
        read=lambda: iter(frames),
    )
    return NamedClip(name, source)


def written(tmp_path, *shown, title="a and b", **settings):
    path = tmp_path / "page.html"
    write_page(path, title, shown, PageSettings(**settings))
    return path.read_text("utf-8")


def between(pattern, text):
    """What the group of `pattern` matches."""
    found = re.search(pattern, text)
    assert found is not None
    return found[1]


def data(text):
    return json.loads(between(r'<script type="application/json" id="data">(.*?)</script>', text))


def picture(text, clip, frame):
    found = between(rf'<script type="text/plain" id="f{clip}-{frame}">([^<]*)</script>', text)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found))))


def test_every_frame_is_there_once_and_differences_are_those_of_the_clips(tmp_path):
    a, b = clips.ramp(4, 16, 24), clips.ramp(4, 16, 24)
    b[2] += 7
    text = written(tmp_path, named("a", a), named("b", b), quality=100)
    for number, frames in enumerate((a, b)):
        for index, frame in enumerate(frames):
            assert np.array_equal(picture(text, number, index), frame)
    found = data(text)
    assert found["moments"] == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert found["differences"] == {"0-1": [0, 0, 7, 0]}
    assert (found["width"], found["height"], found["rate"]) == (24, 16, 24)
    assert text.count('type="text/plain"') == 8


def test_three_clips_of_other_sizes_and_lengths(tmp_path):
    text = written(
        tmp_path,
        named("a", clips.ramp(10, 16, 24)),
        named("b", clips.ramp(2, 32, 48)),
        named("c", clips.ramp(10, 8, 12)),
        width=20,
    )
    found = data(text)
    assert (found["width"], found["height"], found["alignment"]) == (20, 13, "ends")
    assert set(found["differences"]) == {"0-1", "0-2", "1-2"}
    assert text.count('id="f1-') == 2
    assert picture(text, 2, 9).shape == (13, 20, 3)


def test_a_part_of_the_frames(tmp_path):
    frames = clips.ramp(10, 16, 24)
    text = written(tmp_path, named("a", frames), named("b", frames), first=4, end=6, quality=100)
    assert data(text)["moments"] == [[4, 4], [5, 5]]
    assert np.array_equal(picture(text, 1, 5), frames[5])
    assert 'id="f0-3"' not in text


def test_names_are_text_and_nothing_else_may_run(tmp_path):
    frames = clips.ramp(2, 16, 24)
    text = written(tmp_path, named(HOSTILE, frames), named("b", frames), title=HOSTILE)
    assert "<img" not in text
    assert data(text)["clips"][0]["name"] == HOSTILE.replace("\u2028", r"\u2028").replace("\x1b", r"\x1b")
    assert "&lt;/script&gt;&lt;img src=x onerror=&quot;alert(1)&quot;&gt;\\u2028&amp;amp;\\x1b" in text
    policy = between(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert policy.split("; ") == [
        "default-src 'none'",
        *(
            f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
            for kind, content in (("script", script), ("style", style))
        ),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    program = re.sub(r'<script type="text/plain".*?</script>', "", text)
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest|innerHTML|eval\(", program)


def test_a_page_that_would_be_too_large_is_refused_and_says_what_to_do(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 96, 3), np.uint8)
    size = len(written(tmp_path, named("a", noise), named("b", noise)))
    (tmp_path / "page.html").unlink()
    monkeypatch.setattr(page, "MOST_BYTES", size // 2)
    with pytest.raises(PageTooLarge) as refused:
        written(tmp_path, named("a", noise), named("b", noise))
    message = str(refused.value)
    assert re.search(
        r"page\.html: would be about \d+ MB, and may be \d+ MB; compare fewer frames \(--frames 0:", message
    )
    assert "of the width (--width), or with a lower --quality" in message
    assert names(tmp_path) == []
    fewer = int(between(r"--frames 0:(\d+)", message))
    assert 5 < fewer < 15
    written(tmp_path, named("a", noise), named("b", noise), end=fewer)


def test_a_page_that_is_far_too_large_is_refused_at_its_first_frames(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    read = []

    def frames():
        for _ in range(5000):
            read.append(None)
            yield noise[0]

    source = FrameSource(num_frames=5000, height=64, width=96, fps=None, description={}, read=frames)
    clip = NamedClip("a", source)
    monkeypatch.setattr(page, "MOST_BYTES", 1_000_000)
    with pytest.raises(PageTooLarge, match="--frames 0:"):
        write_page(tmp_path / "page.html", "", [clip, clip], PageSettings())
    assert len(read) <= 4


def test_what_cannot_be_compared(tmp_path):
    frames = clips.ramp(3, 16, 24)
    a, short = named("a", frames), named("b", frames, num_frames=4)
    with pytest.raises(UsageError, match=r"1 clip\(s\): two or three"):
        written(tmp_path, a)
    with pytest.raises(UsageError, match="--frames 5:: there are 3 of them"):
        written(tmp_path, a, a, first=5)
    with pytest.raises(MediaError, match="b: ended before frame 3"):
        written(tmp_path, short, short)
    assert names(tmp_path) == []
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"quality": 0}, "--quality 0"),
        ({"width": 3}, "--width 3"),
        ({"first": 4, "end": 4}, "--frames 4:4"),
    )
    for settings, message in wrong:
        with pytest.raises(UsageError, match=message):
            PageSettings(**settings)
