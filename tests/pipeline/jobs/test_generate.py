"""A request that a Python program makes runs as that of the command line does."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jax_interp import GenerateRequest, InterpolationSettings, Job, NetworkSettings, SampleSettings, generate
from jax_interp.errors import JaxInterpError, MediaError
from jax_interp.pipeline.jobs.reporter import Reporter
from tests import golden
from tests.commands import jax_interp

PAGE = Path(__file__).parents[3] / "docs/python.md"
SETTINGS = InterpolationSettings(
    sampling=SampleSettings(num_steps=1), num_frame_pairs=1, height=64, width=96, prompt="rain"
)


@pytest.fixture
def request_of(converted, tmp_path):
    def make(*inputs, names=("film.mp4",)):
        jobs = (
            Job(inputs=(clip,), video=tmp_path / "python" / name, settings=SETTINGS)
            for clip, name in zip(inputs, names, strict=True)
        )
        networks = NetworkSettings(checkpoint_dir=converted, dtype="float32")
        return GenerateRequest(jobs=tuple(jobs), networks=networks, guardrails=None)

    return make


class Heard(Reporter):
    """Notes what is reported."""

    def __init__(self):
        self.events = []

    def joined(self, is_first):
        self.events.append(("joined", is_first))

    def already_there(self, job):
        self.events.append(("there", job.video.name))

    def made(self, job, record):
        self.events.append(("made", job.video.name))

    def failed(self, job, error):
        self.events.append(("failed", job.video.name))


@pytest.mark.slow
def test_it_is_the_run_of_the_command_line(request_of, converted, tmp_path):
    [record] = generate(request_of(golden.CLIP))
    outcome = jax_interp(
        "generate", "--disable-guardrail", "--checkpoint-dir", converted, "--input", golden.CLIP, "--prompt", "rain",
        "--video-save-folder", tmp_path / "command", "--video-save-name", "film", "--dtype", "float32",
        "--num-frame-pairs", 1, "--num-steps", 1, "--height", 64, "--width", 96,
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    assert (tmp_path / "python/film.mp4").read_bytes() == (tmp_path / "command/film.mp4").read_bytes()
    theirs = json.loads((tmp_path / "command/film.json").read_text())
    assert (record["fingerprint"], record["settings"]) == (theirs["fingerprint"], theirs["settings"])


def test_clips_that_fail_do_not_stop_the_others(request_of, tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    request, heard = request_of(golden.CLIP, tmp_path / "no.mp4", names=("good.mp4", "bad.mp4")), Heard()
    with pytest.raises(JaxInterpError, match=r"1 of 2 clips failed: bad\.mp4") as caught:
        generate(request, heard)
    assert caught.value.exit_code == MediaError.exit_code
    assert heard.events == [("joined", True), ("made", "good.mp4"), ("failed", "bad.mp4")]
    again = Heard()
    assert generate(replace(request, jobs=request.jobs[:1], batch=Path("clips.jsonl")), again) == []
    assert again.events == [("joined", True), ("there", "good.mp4")]


def test_one_clip_that_fails_is_the_runs_failure(request_of, tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError):
        generate(request_of(tmp_path / "no.mp4"))


@pytest.mark.slow
def test_the_pages_example(converted, tmp_path, monkeypatch):
    """As it stands there, but for sizes that the golden networks have in a moment."""
    [example] = [
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "GenerateRequest(" in code
    ]
    for usual, small in (("num_steps=35", "num_steps=1"), ("height=704, width=1280", "height=64, width=96")):
        assert usual in example
        example = example.replace(usual, small)
    (tmp_path / "converted").symlink_to(converted)
    shutil.copy(golden.CLIP, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    assert names["record"]["frames"] == 10
    assert (tmp_path / "outputs/slow.mp4").exists()
