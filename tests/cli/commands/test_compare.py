"""`jax-interp compare` as a user runs it."""

import json

import pytest

from jax_interp.errors import MediaError, UsageError
from tests import golden
from tests.commands import jax_interp
from tests.media.clips import encode, names, waves


@pytest.fixture
def videos(tmp_path):
    return [encode(tmp_path / f"{name}.mp4", waves(count, 32, 48)) for name, count in (("a", 3), ("b", 3), ("c", 5))]


def test_two_and_three_clips(videos, tmp_path):
    page = tmp_path / "out/page.html"
    outcome = jax_interp("compare", *videos[:2], "-o", page)
    assert outcome.code == 0, outcome.output
    assert "page.html: 3 frames of 2 clips, 0.0 MB" in outcome.output
    assert names(page.parent) == ["page.html"]
    assert "a.mp4 and b.mp4" in page.read_text()
    refused = jax_interp("compare", *videos, "-o", page)
    assert refused.code == UsageError.exit_code
    assert "--output" in refused.output
    assert "is there already; choose another name, or pass --overwrite" in refused.output
    more = jax_interp(
        "compare", *videos, "-o", page, "--overwrite", "--name", "x", "y", "z", "--frames", "1:", "--progress", "json"
    )
    assert more.code == 0, more.output
    events = json.loads(f"[{more.output.replace('} {', '}, {')}]")
    assert (events[-1]["event"], events[-1]["frames"], events[-1]["page"]) == ("result", 4, str(page))
    assert "<title>x and y and z</title>" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((golden.CLIP,), UsageError, "1 clip(s): give two or three to compare"),
        ((golden.CLIP,) * 4, UsageError, "4 clip(s): give two or three"),
        ((golden.CLIP, "nowhere.mp4"), MediaError, "nowhere.mp4: no such file"),
        ((golden.CLIP, golden.CLIP, "--frames", "3"), UsageError, "--frames 3: expected START:END, as 0:240"),
        ((golden.CLIP, golden.CLIP, "--frames", "9:"), UsageError, "--frames 9:: there are 4 of them"),
        ((golden.CLIP, golden.CLIP, "--name", "a"), UsageError, "--name: 1 name(s) for 2 clips; give one for each"),
        ((golden.CLIP, golden.CLIP, "--quality", 101), UsageError, "--quality 101: expected 1 to 100"),
        ((golden.CLIP, golden.CLIP, "-o", "page.pdf"), UsageError, "--output page.pdf: a page ends in .html"),
        ((golden.CLIP, golden.CLIP, "--align", "time", "--width", 1), UsageError, "--width 1: expected 16 pixels"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    outcome = jax_interp("compare", *arguments)
    assert outcome.code == error.exit_code, outcome.output
    assert message in outcome.output
    assert names(tmp_path) == []


def test_a_clip_is_not_replaced_by_its_page(videos, tmp_path):
    clip = videos[0].rename(tmp_path / "clip.html")
    outcome = jax_interp("compare", clip, videos[1], "-o", clip, "--overwrite")
    assert outcome.code == UsageError.exit_code
    assert "is a clip" in outcome.output
