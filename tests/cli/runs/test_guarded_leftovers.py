"""Guardrails and what earlier runs left: nothing unchecked is taken up, and what is blocked now is removed or named."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from jax_interp.errors import Blocked
from jax_interp.files.atomic import write_atomically
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.safety.guardrails import Guardrails
from tests import golden
from tests.cli.runs.guarded_runs import BAD, block_from_second_pair, left, record


@pytest.mark.slow
def test_what_was_made_unchecked_is_made_again(generate, tmp_path):
    (tmp_path / "batch.jsonl").write_text(json.dumps({"visual_input": str(golden.CLIP), "name": "film"}))
    source = ("--batch-input-path", tmp_path / "batch.jsonl")
    assert generate("--disable-guardrail", source=source).code == 0
    assert "already there" not in generate(source=source).output
    assert record(tmp_path, "film")["guardrail"]["state"] == "on"
    assert "already there" in generate(source=source).output


@pytest.mark.slow
def test_finished_pairs_of_an_unchecked_run_are_not_taken_up(generate, tmp_path, monkeypatch):
    """An interrupted run without guardrails leaves its pairs; a run with guardrails checks all of its own."""
    from jax_interp.pipeline.jobs.pair_store import PairStore
    from jax_interp.pipeline.stages.codec import Codec

    save = PairStore.save

    def stop_at_second(self, index, *frames):
        if index:
            raise OSError("the disk is full")
        save(self, index, *frames)

    with monkeypatch.context() as patched:
        patched.setattr(PairStore, "save", stop_at_second)
        assert generate("--disable-guardrail", "--pairs-per-batch", 1).code != 0
    assert any(name.endswith(".unfinished") for name in left(tmp_path))
    decoded = []
    decode = Codec.decode_pairs
    monkeypatch.setattr(Codec, "decode_pairs", lambda self, x: decoded.append(len(x)) or decode(self, x))
    assert generate("--pairs-per-batch", 1).code == 0
    assert sum(decoded) == 2


def block_prompts(monkeypatch):
    """From now on what had passed does not, as with new word lists."""
    monkeypatch.setattr(
        Guardrails, "check_prompt", lambda *_: Verdict.block("blocklist: it has a new word", "Blocklist")
    )


def kill(*_, **__):
    raise KeyboardInterrupt


def kill_at_the_video(writer, *_):
    writer._partial._release()  # the lock of who is killed goes
    kill()


def kill_at_the_record(path, content, **options):
    if path.suffix == ".json":
        kill()
    write_atomically(path, content, **options)


KILLED = {
    "before results are noted": ("jax_interp.pipeline.jobs.pair_store.PairStore.note_results", kill, False),
    "before the video has its name": ("jax_interp.media.video.writer.VideoWriter.__exit__", kill_at_the_video, False),
    "before the prompt": ("jax_interp.pipeline.jobs.job.run_record", kill, True),
    "before the record": ("jax_interp.pipeline.jobs.job.write_atomically", kill_at_the_record, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", KILLED)
def test_what_a_killed_run_left_of_a_clip_that_is_blocked_now_is_removed(generate, tmp_path, monkeypatch, moment):
    from jax_interp.media.writer import PngWriter, VideoWriter

    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    where, how, is_placed = KILLED[moment]
    command = ("--guidance", 0, "--prompt", "a street", "--save-frames", tmp_path / "out/frames")
    with monkeypatch.context() as patched:
        for writer in (PngWriter, VideoWriter):  # who is killed tidies nothing, but its locks go
            patched.setattr(writer, "_discard", lambda self: self._partial._release())
        patched.setattr(where, how)
        assert generate(*command).code == 130
    assert ("output.mp4" in left(tmp_path)) == is_placed
    assert "00000.png" in left(tmp_path)
    assert ("output.txt" in left(tmp_path)) == (moment == "before the record")
    with monkeypatch.context() as patched:
        block_prompts(patched)
        outcome = generate(*command)
    assert outcome.code == Blocked.exit_code
    assert "cannot be removed" not in outcome.output
    assert left(tmp_path) == ["mine.txt"]


@pytest.mark.slow
def test_results_of_a_finished_run_stay_when_the_same_is_blocked_later(generate, tmp_path, monkeypatch):
    command = ("--guidance", 0, "--prompt", "a street")
    assert generate(*command).code == 0
    before = (tmp_path / "out/output.mp4").read_bytes()
    block_prompts(monkeypatch)
    assert generate(*command).code == Blocked.exit_code
    assert left(tmp_path) == ["output.json", "output.mp4", "output.txt"]
    assert (tmp_path / "out/output.mp4").read_bytes() == before


def opened_to_all(folder):
    folder.chmod(0o777)


def replaced_by_a_link(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def of_an_unchecked_run(folder):
    for path in folder.glob("*.npz"):
        np.savez_compressed(path, frames=np.load(path)["frames"], checked="null")


@pytest.mark.slow
@pytest.mark.parametrize("change", [opened_to_all, replaced_by_a_link, of_an_unchecked_run])
def test_pairs_that_others_may_have_put_there_are_made_again(generate, tmp_path, monkeypatch, change):
    """They say that they were checked, and would go into the video without being looked at."""
    from jax_interp.pipeline.jobs import job
    from jax_interp.pipeline.stages.codec import Codec

    with monkeypatch.context() as patched:
        patched.setattr(job, "run_record", kill)
        assert generate().code == 130
    [folder] = (tmp_path / "out").glob("*.unfinished")
    change(folder)
    decoded, decode = [], Codec.decode_pairs
    monkeypatch.setattr(Codec, "decode_pairs", lambda self, x: decoded.append(len(x)) or decode(self, x))
    outcome = generate()
    assert outcome.code == 0, outcome.output
    assert sum(decoded) == 2
    assert ("finished pair(s) are not taken up" in outcome.output) == (change is not of_an_unchecked_run)


@pytest.mark.slow
def test_what_another_run_left_of_a_blocked_clip_is_named(generate, tmp_path, monkeypatch):
    from jax_interp.pipeline.jobs import job

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(job, "run_record", interrupt)
        assert generate("--guardrail-frame-stride", 4).code == 130
    block_from_second_pair(monkeypatch)
    outcome = generate()
    assert outcome.code == Blocked.exit_code
    [folder] = (name for name in left(tmp_path) if name.endswith(".unfinished"))
    assert f"{folder}isofaninterruptedrun" in outcome.output.replace(" ", "")


@pytest.mark.parametrize("done", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_records_what_was_checked_before(generate, tmp_path, monkeypatch, done):
    """Also where no pair was left to be made, and after another clip; the prompt is asked about once more."""
    from jax_interp.pipeline.jobs.pair_store import PairStore

    names = {"one": "a street", "two": ""}
    lines = [{"visual_input": str(golden.CLIP), "name": name, "prompt": prompt} for name, prompt in names.items()]
    (tmp_path / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = ("--batch-input-path", tmp_path / "batch.jsonl")
    made, save = [], PairStore.save

    def stop(self, index, *rest):
        save(self, index, *rest)
        made.append(index)
        if len(made) == 2 + done:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PairStore, "save", stop)
        assert generate("--guidance", 0, "--pairs-per-batch", 1, source=source).code == 130
    (tmp_path / "out/one.mp4").unlink()
    assert generate("--guidance", 0, "--pairs-per-batch", 1, source=source).code == 0
    one, two = (record(tmp_path, name)["guardrail"] for name in names)
    assert (two["frames"], two["checked_frames"], two["faces"] > 0) == (20, 20, True)
    assert two["guardrails"] == ["video_safety", "face_blur"]
    assert one["guardrails"] == ["blocklist", "text_safety", "video_safety", "face_blur"]


@pytest.mark.slow
def test_a_prompt_that_an_interrupted_run_left_is_checked_again(generate, tmp_path, monkeypatch):
    """All pairs are there; whoever could write in the folder changed the prompt, which goes to NAME.txt."""
    from jax_interp.pipeline.interpolator import Interpolator
    from jax_interp.pipeline.jobs import job

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Interpolator, "upsample_prompt", lambda *_, **__: "a street")
    settings = UpsamplerSettings()
    run_job = job.run_job
    monkeypatch.setattr(
        "jax_interp.pipeline.jobs.generate.run_job",
        lambda interpolator, asked, *rest: run_job(interpolator, replace(asked, upsampler=settings), *rest),
    )
    with monkeypatch.context() as patched:
        patched.setattr(job, "run_record", interrupt)
        assert generate("--guidance", 0, "--disable-prompt-upsampler").code == 130
    [kept] = (tmp_path / "out").glob(".*.unfinished/prompt.txt")
    assert kept.read_text() == "a street"
    kept.write_text(BAD)
    outcome = generate("--guidance", 0, "--disable-prompt-upsampler")
    assert outcome.code == Blocked.exit_code
    assert left(tmp_path) == []


@pytest.mark.slow
def test_what_cannot_be_removed_is_named(generate, tmp_path, monkeypatch):
    block_from_second_pair(monkeypatch)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    outcome = generate("--save-frames", tmp_path / "out/frames")
    assert outcome.code == Blocked.exit_code
    assert outcome.output.count("belongs to what is blocked and cannot be removed") == 2
    assert re.search(r"out/\.frames\.[0-9a-f]{12}\.part", outcome.output.replace(" ", ""))  # lines are broken anywhere
