"""`jax-interp generate` with its guardrails: what they block leaves nothing behind, and what cannot be asked blocks."""

import json
import re
import shutil
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import Blocked, UsageError
from jax_interp.files.atomic import write_atomically
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.safety.guardrails import Checked, Guardrails
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from tests import golden
from tests.commands import jax_interp
from tests.guardrails.tiny_guards import MARK, link_networks, write_guardrails

BAD = f"a {MARK} in the rain"


@pytest.fixture(scope="module")
def folder(converted, tmp_path_factory):
    """The golden networks beside tiny guardrails to which all frames are safe."""
    root = tmp_path_factory.mktemp("calm")
    checkpoints = write_guardrails(root / "pt", calm=True)
    outcome = jax_interp("convert", "--checkpoint-dir", checkpoints, "--output-dir", root / "all")
    assert outcome.code == 0, outcome.output
    return link_networks(root / "all", converted)


@pytest.fixture
def generate(folder, tmp_path):
    """Run `generate` on the golden clip."""
    fixed = ("--video-save-folder", tmp_path / "out", "--height", 64, "--width", 96, "--num-steps", 1)
    fixed += ("--num-frame-pairs", 2, "--dtype", "float32", "--negative-prompt", "")
    source = ("--input", golden.CLIP)

    def run(*arguments, source=source, checkpoints=folder):
        return jax_interp("generate", *source, "--checkpoint-dir", checkpoints, *fixed, *arguments)

    return run


def left(tmp_path):
    """All that lies in the output folder, hidden or not."""
    return sorted(path.name for path in (tmp_path / "out").rglob("*")) if (tmp_path / "out").exists() else []


def record(tmp_path, name="output"):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())


def frames(folder):
    return np.stack([iio.imread(path) for path in sorted(folder.glob("*.png"))]).astype(int)


@pytest.mark.slow
def test_what_passes_is_checked_frame_by_frame_and_recorded(generate, tmp_path):
    outcome = generate("--save-frames", tmp_path / "checked")
    assert outcome.code == 0, outcome.output
    made = record(tmp_path)
    assert made["guardrail"]["state"] == "on"
    # Two pairs of ten frames; the one that they share is looked at twice.
    assert (made["guardrail"]["frames"], made["guardrail"]["checked_frames"]) == (20, 20)
    assert made["guardrail"]["faces"] > 0
    assert {"text_safety", "video_safety", "face_blur"} <= set(made["networks"])
    assert made["seconds"]["guardrails"] > 0
    again = generate("--disable-guardrail", "--save-frames", tmp_path / "unchecked")
    assert again.code == 0, again.output
    checked, unchecked = frames(tmp_path / "checked"), frames(tmp_path / "unchecked")
    # The detector sees faces everywhere, so most of every frame is in blocks.
    assert all((abs(a - b) > 0).mean() > 0.2 for a, b in zip(checked, unchecked, strict=True))


@pytest.mark.slow
def test_every_nth_frame(generate, tmp_path):
    assert generate("--guardrail-frame-stride", 4).code == 0
    found = record(tmp_path)["guardrail"]
    # 0, 4, 8 of the first pair, 12 and 16 of the second, whose first frame is number 9.
    assert (found["frame_stride"], found["checked_frames"]) == (4, 5)


def test_a_blocked_prompt(generate, tmp_path, monkeypatch):
    from jax_interp.pipeline.stages.denoiser import Denoiser

    monkeypatch.setattr(Denoiser, "sample", lambda *_, **__: pytest.fail("generated all the same"))
    outcome = generate("--guidance", 0, "--prompt", BAD, "--save-frames", tmp_path / "out/frames")
    assert outcome.code == Blocked.exit_code == 8
    assert "the prompt is blocked by the guardrails (category O1)" in outcome.output
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [0, 0.5])
def test_a_negative_prompt_is_not_checked_where_frames_are_drawn_away_from_it(generate, tmp_path, guidance):
    outcome = generate("--guidance", guidance, "--prompt", "a street", "--negative-prompt", BAD)
    assert outcome.code == 0, outcome.output


@pytest.mark.slow
def test_a_negative_prompt_is_checked_where_frames_are_drawn_towards_it(generate, tmp_path):
    outcome = generate("--negative-prompt", BAD)
    assert outcome.code == Blocked.exit_code
    assert "the negative prompt is blocked by the guardrails (category O1)" in outcome.output
    assert left(tmp_path) == []
    # The blocklist's words are what negative prompts are made of.
    assert generate("--negative-prompt", "a florble").code == 0
    assert record(tmp_path)["guardrail"]["guardrails"] == ["text_safety", "video_safety", "face_blur"]


@pytest.mark.slow
def test_a_prompt_whose_embedding_is_kept_is_checked_all_the_same(generate, tmp_path, monkeypatch):
    """Before anything is read, the cache and the networks included."""
    from jax_interp.pipeline.prompt.embeddings import EmbeddingCache
    from jax_interp.runtime.checkpoint import loading

    command = ("--guidance", 0, "--prompt", BAD)
    assert generate(*command, "--disable-guardrail").code == 0
    kept, get = [], EmbeddingCache.get
    monkeypatch.setattr(EmbeddingCache, "get", lambda *asked: kept.append(get(*asked)) or kept[-1])
    assert generate(*command, "--disable-guardrail").code == 0
    assert kept
    assert kept[0] is not None
    kept.clear()
    read = loading.read_arrays
    monkeypatch.setattr(
        loading,
        "read_arrays",
        lambda path, *rest: read(path, *rest) if "Guard" in str(path) else pytest.fail("read"),
    )
    outcome = generate(*command)
    assert outcome.code == Blocked.exit_code
    assert "the prompt is blocked by the guardrails (category O1)" in outcome.output
    assert kept == []


@pytest.mark.slow
def test_embeddings_cannot_be_checked(generate, converted, tmp_path):
    from jax_interp import Interpolator, save_embeddings

    rows = Interpolator.from_pretrained(converted, dtype="float32").encode_text(["a street"])[0]
    save_embeddings(tmp_path / "a.safetensors", {"a street": rows})
    outcome = generate("--guidance", 0, "--prompt", "a street", "--text-embeddings", tmp_path / "a.safetensors")
    assert outcome.code == 0, outcome.output
    assert "the guardrails check a text, not what is given as its embedding" in outcome.output


def test_frames_that_a_classifier_finds_unsafe(generate, converted, guarded, tmp_path):
    """The golden networks' frames are bright, which this one calls violent."""
    shutil.copytree(guarded, tmp_path / "strict")
    outcome = generate(
        "--save-frames", tmp_path / "out/frames", checkpoints=link_networks(tmp_path / "strict", converted)
    )
    assert outcome.code == Blocked.exit_code
    assert "the video is blocked by the guardrails (category Violence): video_safety" in outcome.output
    assert left(tmp_path) == []


def block_from_second_pair(monkeypatch):
    check = Guardrails.check_video

    def second(self, frames, first_number=0):
        if first_number:
            return Checked({"video_safety": Verdict.block("frame 9 shows violence", "Violence")}, None)
        return check(self, frames, first_number)

    monkeypatch.setattr(Guardrails, "check_video", second)


@pytest.mark.slow
def test_a_video_that_is_blocked_half_way_leaves_nothing(generate, tmp_path, monkeypatch):
    block_from_second_pair(monkeypatch)
    outcome = generate("--save-frames", tmp_path / "out/frames")
    assert outcome.code == Blocked.exit_code
    assert "the video is blocked by the guardrails (category Violence): video_safety: frame 9" in outcome.output
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("guard", "method"), [(FrameGuard, "check"), pytest.param(FaceGuard, "blur", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("answer", ["raises", "nothing"])
def test_a_guardrail_that_breaks_blocks(generate, tmp_path, monkeypatch, guard, method, answer):
    def broken(*_, **__):
        if answer == "raises":
            raise RuntimeError("the kernel is broken")

    monkeypatch.setattr(guard, method, broken)
    outcome = generate()
    assert outcome.code == Blocked.exit_code
    assert "it could not tell" in outcome.output
    assert left(tmp_path) == []


def test_a_check_that_takes_too_long_blocks(generate, tmp_path):
    outcome = generate("--guardrail-timeout", 0.01)
    assert outcome.code == Blocked.exit_code
    assert "--guardrail-timeout" in outcome.output
    assert left(tmp_path) == []


@pytest.mark.parametrize("missing", ["video_content_safety_filter", "face_blur_filter"])
def test_without_a_guardrail_nothing_is_loaded(generate, folder, tmp_path, monkeypatch, missing):
    from jax_interp.runtime.checkpoint import loading

    shutil.copytree(folder, tmp_path / "some", symlinks=True)
    [gone] = (tmp_path / "some").rglob(missing)
    shutil.rmtree(gone)
    monkeypatch.setattr(loading, "read_arrays", lambda *_: pytest.fail("weights were read"))
    outcome = generate(checkpoints=tmp_path / "some")
    assert outcome.code == Blocked.exit_code
    assert "this run is blocked by the guardrails" in outcome.output
    assert "--disable-guardrail" in outcome.output
    assert left(tmp_path) == []


@pytest.mark.slow
def test_a_run_without_a_prompt_needs_no_guardrail_of_prompts(generate, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "some", symlinks=True)
    shutil.rmtree(tmp_path / "some/meta-llama")
    assert generate(checkpoints=tmp_path / "some").code == 0
    assert record(tmp_path)["guardrail"]["guardrails"] == ["video_safety", "face_blur"]
    outcome = generate("--guidance", 0, "--prompt", "a street", checkpoints=tmp_path / "some")
    assert outcome.code == Blocked.exit_code
    assert "text_safety" in outcome.output


@pytest.mark.slow
def test_a_batch_goes_on_behind_what_is_blocked(generate, tmp_path):
    lines = [
        {"visual_input": str(golden.CLIP), "name": name, "prompt": prompt}
        for name, prompt in (("bad", BAD), ("good", "a street"))
    ]
    (tmp_path / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    outcome = generate("--guidance", 0, source=("--batch-input-path", tmp_path / "batch.jsonl"))
    assert outcome.code == Blocked.exit_code
    assert "1 of 2 clips failed: bad.mp4" in outcome.output
    assert left(tmp_path) == ["good.json", "good.mp4", "good.txt"]


@pytest.mark.slow
def test_a_prompt_that_has_passed_is_asked_about_once_in_a_batch(generate, tmp_path, monkeypatch):
    asked = []
    check = Guardrails.check_prompt
    monkeypatch.setattr(Guardrails, "check_prompt", lambda self, text: asked.append(text) or check(self, text))
    prompts = {"a": "a street", "b": "a street", "c": BAD, "d": BAD}
    lines = [{"visual_input": str(golden.CLIP), "name": name, "prompt": prompt} for name, prompt in prompts.items()]
    (tmp_path / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    outcome = generate("--guidance", 0, source=("--batch-input-path", tmp_path / "batch.jsonl"))
    assert "2 of 4 clips failed: c.mp4, d.mp4" in outcome.output
    assert asked == ["a street", BAD, BAD]
    everyone = ["blocklist", "text_safety", "video_safety", "face_blur"]
    assert [record(tmp_path, name)["guardrail"]["guardrails"] for name in "ab"] == [everyone, everyone]


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


def test_a_prompt_that_was_written_is_checked_before_it_is_seen(generate, tmp_path, monkeypatch):
    from jax_interp.pipeline.interpolator import Interpolator
    from jax_interp.pipeline.jobs import job
    from jax_interp.pipeline.jobs.pair_store import PairStore

    monkeypatch.setattr(Interpolator, "upsample_prompt", lambda *_, **__: BAD)
    monkeypatch.setattr(PairStore, "keep_prompt", lambda *_: pytest.fail("kept all the same"))
    run_job = job.run_job
    monkeypatch.setattr(
        "jax_interp.pipeline.jobs.generate.run_job",
        lambda interpolator, asked, *rest: run_job(interpolator, replace(asked, upsampler=UpsamplerSettings()), *rest),
    )
    outcome = generate("--guidance", 0, "--disable-prompt-upsampler")
    assert outcome.code == Blocked.exit_code
    assert BAD not in outcome.output
    assert left(tmp_path) == []


@pytest.mark.slow
def test_what_cannot_be_removed_is_named(generate, tmp_path, monkeypatch):
    block_from_second_pair(monkeypatch)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    outcome = generate("--save-frames", tmp_path / "out/frames")
    assert outcome.code == Blocked.exit_code
    assert outcome.output.count("belongs to what is blocked and cannot be removed") == 2
    assert re.search(r"out/\.frames\.[0-9a-f]{12}\.part", outcome.output.replace(" ", ""))  # lines are broken anywhere


def test_frames_that_are_allowed_but_not_there_block(generate, tmp_path, monkeypatch):
    verdicts = {"video_safety": Verdict.allow(), "face_blur": Verdict.allow()}
    monkeypatch.setattr(Guardrails, "check_video", lambda *_: Checked(verdicts, None))
    outcome = generate()
    assert outcome.code == Blocked.exit_code
    assert "gave no frames to show" in outcome.output


@pytest.mark.parametrize("flag", ["--guardrail-frame-stride", "--guardrail-timeout"])
def test_flags_that_cannot_work(generate, flag):
    outcome = generate(flag, 0)
    assert (outcome.code, flag in outcome.output) == (UsageError.exit_code, True)


@pytest.mark.parametrize(
    "flag",
    [("--guardrail-frame-stride", 2), ("--guardrail-timeout", 5), ("--face-blur-dir", "x"), ("--text-safety-dir", "x")],
    ids=lambda flag: flag[0],
)
def test_flags_of_disabled_guardrails(generate, tmp_path, flag):
    outcome = generate("--disable-guardrail", *flag)
    assert outcome.code == UsageError.exit_code
    assert f"--disable-guardrail contradicts {flag[0]}" in outcome.output
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["offloaded", "streamed"])
def test_placed_elsewhere(generate, tmp_path, placement):
    outcome = generate("--guidance", 0, "--prompt", BAD, "--placement", f"guardrail_models={placement}")
    assert outcome.code == Blocked.exit_code, outcome.output
    outcome = generate("--placement", f"guardrail_models={placement}")
    assert outcome.code == 0, outcome.output
    assert record(tmp_path)["placements"]["guardrail_models"]["kind"] == placement


def test_a_batch_whose_clips_fail_for_different_reasons(generate, tmp_path):
    (tmp_path / "broken.mp4").write_text("not a video")
    lines = [
        {"visual_input": str(golden.CLIP), "name": "blocked", "prompt": BAD},
        {"visual_input": str(tmp_path / "broken.mp4"), "name": "broken", "prompt": "a street"},
    ]
    (tmp_path / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    outcome = generate("--guidance", 0, source=("--batch-input-path", tmp_path / "batch.jsonl"))
    assert outcome.code == 1
    assert "2 of 2 clips failed: blocked.mp4, broken.mp4" in outcome.output
