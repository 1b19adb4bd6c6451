"""`jax-interp generate` with its guardrails: what they block leaves nothing behind, and what cannot be asked blocks."""

import json
import shutil
from dataclasses import replace

import pytest

from jax_interp.errors import Blocked, UsageError
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.safety.guardrails import Checked, Guardrails
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from tests import golden
from tests.cli.runs.guarded_runs import BAD, block_from_second_pair, frames, left, record
from tests.guardrails.tiny_guards import link_networks


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
def test_without_a_guardrail_nothing_is_loaded(generate, calm_networks, tmp_path, monkeypatch, missing):
    from jax_interp.runtime.checkpoint import loading

    shutil.copytree(calm_networks, tmp_path / "some", symlinks=True)
    [gone] = (tmp_path / "some").rglob(missing)
    shutil.rmtree(gone)
    monkeypatch.setattr(loading, "read_arrays", lambda *_: pytest.fail("weights were read"))
    outcome = generate(checkpoints=tmp_path / "some")
    assert outcome.code == Blocked.exit_code
    assert "this run is blocked by the guardrails" in outcome.output
    assert "--disable-guardrail" in outcome.output
    assert left(tmp_path) == []


@pytest.mark.slow
def test_a_run_without_a_prompt_needs_no_guardrail_of_prompts(generate, calm_networks, tmp_path):
    shutil.copytree(calm_networks, tmp_path / "some", symlinks=True)
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
