"""From files to files: what is written, what an interrupt leaves, and that nothing is half there."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import MediaError, UsageError
from jax_interp.files.lock import lock_path
from jax_interp.files.partial import PartialOutput
from jax_interp.media.reader import open_frames
from jax_interp.media.video.codecs import EncodingSettings
from jax_interp.pipeline.jobs import job as job_module
from jax_interp.pipeline.jobs.earlier_runs import is_finished, tidy_finished
from jax_interp.pipeline.jobs.job import run_job
from jax_interp.pipeline.jobs.outputs import held_results
from jax_interp.pipeline.jobs.pair_store import CLAIM, PairStore
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.settings import InterpolationSettings
from tests import golden
from tests.pipeline.jobs.watched_guardrails import Watched


@pytest.fixture
def interpolator(interpolators):
    return interpolators["float32"]


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_video_frames_text_and_record(interpolator, make_job, tmp_path):
    job = make_job(frames_folder=tmp_path / "frames")
    record = run_job(interpolator, job)
    assert record is not None
    assert files(tmp_path / "out") == ["film.json", "film.mp4", "film.txt"]
    assert open_frames([job.video]).num_frames == record["frames"] == 28
    stored = np.stack(list(open_frames([tmp_path / "frames"])))
    expected = interpolator.interpolate(golden.load("inputs_clip")["frames"], num_steps=1, height=64, width=96)
    assert np.array_equal(stored, expected.frames)


def test_the_record_tells_all(interpolator, make_job):
    job = make_job(
        settings=InterpolationSettings(prompt="rain", sampling=SampleSettings(num_steps=1), height=64, width=96)
    )
    run_job(interpolator, job)
    record = json.loads(job.record.read_text())
    assert record["guardrail"] == "off"
    assert record["prompt_upsampler"] == "not used"
    settings = record["settings"]
    assert (settings["prompt"], settings["negative_prompt"]) == ("rain", DEFAULT_NEGATIVE_PROMPT)
    assert (settings["guidance"], settings["seed"], settings["num_steps"], settings["fps"]) == (-1, 11, 1, 24)
    assert (settings["dtype"], settings["rotary_precision"], settings["condition_noise"]) == (
        "float32",
        "float32",
        "fixed",
    )
    assert {"text", "encode", "denoise", "decode"} <= record["seconds"].keys()
    assert record["peak_memory_bytes"]["host"] > 0
    assert record["versions"]["jax"]
    assert all(len(sha) == 64 for network in record["networks"].values() for sha in network["sha256"].values())
    assert job.prompt_file.read_text() == "rain\n"


def test_the_seconds_are_the_jobs_own(interpolator, make_job, tmp_path):
    run_job(interpolator, make_job())
    again = run_job(interpolator, make_job(video=tmp_path / "out" / "again.mp4"))
    assert again is not None
    assert sum(again["seconds"].values()) <= again["total_seconds"]


class Stop(Exception):
    """What interrupts a run in these tests."""


def stopping_after(interpolator, pairs, monkeypatch):
    """Make `interpolator.stream` raise once it has given `pairs` pairs; returns the numbers of those that it made."""
    made = []
    whole = interpolator.stream

    def stream(*arguments):
        for pair in whole(*arguments):
            if len(made) == pairs:
                raise Stop
            made.append(pair.index)
            yield pair

    monkeypatch.setattr(interpolator, "stream", stream)
    return made


def test_an_interrupted_run_goes_on_where_it_stopped(interpolator, make_job, tmp_path, monkeypatch):
    job = make_job(frames_folder=tmp_path / "frames")
    with monkeypatch.context() as patched:
        assert stopping_after(interpolator, 2, patched) == []
        with pytest.raises(Stop):
            run_job(interpolator, job)
    (left,) = files(tmp_path / "out")
    assert left.startswith(".film.")
    assert left.endswith(".unfinished")
    assert not (tmp_path / "frames").exists()
    with monkeypatch.context() as patched:
        made = stopping_after(interpolator, 10, patched)
        run_job(interpolator, job)
    assert made == [2]
    assert files(tmp_path / "out") == ["film.json", "film.mp4", "film.txt"]
    resumed = np.stack(list(open_frames([tmp_path / "frames"])))
    whole = interpolator.interpolate(golden.load("inputs_clip")["frames"], num_steps=1, height=64, width=96)
    assert np.array_equal(resumed, whole.frames)


def test_a_damaged_pair_of_an_interrupted_run_is_named_and_made_again(
    interpolator, make_job, tmp_path, monkeypatch, caplog
):
    job = make_job(frames_folder=tmp_path / "frames")
    with monkeypatch.context() as patched:
        stopping_after(interpolator, 2, patched)
        with pytest.raises(Stop):
            run_job(interpolator, job)
    [store] = (tmp_path / "out").iterdir()
    path = store / "000001.npz"
    path.write_bytes(path.read_bytes()[:-100])
    made = stopping_after(interpolator, 10, monkeypatch)
    run_job(interpolator, job)
    assert made == [1, 2]
    assert f"{path}: damaged (" in caplog.text
    assert files(tmp_path / "out") == ["film.json", "film.mp4", "film.txt"]
    whole = interpolator.interpolate(golden.load("inputs_clip")["frames"], num_steps=1, height=64, width=96)
    assert np.array_equal(np.stack(list(open_frames([tmp_path / "frames"]))), whole.frames)


def run_up_to_the_record(interpolator, job, monkeypatch):
    """As if killed when video and frames have their names and the record is about to be written."""

    def stop(*arguments, **facts):
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(job_module, "run_record", stop)
        with pytest.raises(Stop):
            run_job(interpolator, job)


def test_a_run_killed_between_its_frames_and_its_record_can_finish(interpolator, make_job, tmp_path, monkeypatch):
    job = make_job(frames_folder=tmp_path / "frames")
    run_up_to_the_record(interpolator, job, monkeypatch)
    assert not job.record.exists()
    before = {path.name: path.read_bytes() for path in (tmp_path / "frames").iterdir()}
    made = stopping_after(interpolator, 10, monkeypatch)
    run_job(interpolator, job)
    assert made == []
    assert files(tmp_path / "out") == ["film.json", "film.mp4", "film.txt"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "frames").iterdir()} == before
    with pytest.raises(UsageError, match=r"frames: is not empty; .*--overwrite"):
        run_job(interpolator, job)


def test_that_a_video_is_replaced_is_not_said_before_its_frames_are_refused(interpolator, make_job, tmp_path, caplog):
    job = make_job(frames_folder=tmp_path / "frames")
    earlier = {"fingerprint": "", "settings": {"prompt": ""}, "output": {"video": str(job.video)}}
    job.video.parent.mkdir(exist_ok=True)
    job.video.touch()
    job.record.write_text(json.dumps(earlier | {"frames": 10, "pairs": 1, "seconds": {}}))
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "00000.png").touch()
    with caplog.at_level("INFO", "jax_interp"), pytest.raises(UsageError, match=r"frames: is not empty; .*--overwrite"):
        run_job(interpolator, job)
    assert "this run replaces it" not in caplog.text


def test_frames_of_somebody_else_are_not_replaced_by_a_run_that_goes_on(interpolator, make_job, tmp_path, monkeypatch):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "00000.png").touch()
    run_up_to_the_record(interpolator, make_job(), monkeypatch)
    with pytest.raises(UsageError, match="others: is not empty"):
        run_job(interpolator, make_job(frames_folder=tmp_path / "others"))
    run_up_to_the_record(interpolator, make_job(frames_folder=tmp_path / "frames"), monkeypatch)
    with pytest.raises(UsageError, match="others: is not empty"):
        run_job(interpolator, make_job(frames_folder=tmp_path / "others"))
    assert files(tmp_path / "others") == ["00000.png"]


OTHER = InterpolationSettings(sampling=SampleSettings(num_steps=1, seed=12), height=64, width=96)


@pytest.mark.parametrize("changes", [{"settings": OTHER}, {"encoding": EncodingSettings(codec="hevc")}])
def test_other_settings_do_not_use_what_is_left(interpolator, make_job, tmp_path, monkeypatch, caplog, changes):
    with monkeypatch.context() as patched:
        stopping_after(interpolator, 2, patched)
        with pytest.raises(Stop):
            run_job(interpolator, make_job())
    [left] = files(tmp_path / "out")
    made = stopping_after(interpolator, 10, monkeypatch)
    with caplog.at_level("WARNING", "jax_interp"):
        run_job(interpolator, make_job(**changes))
    assert made == [0, 1, 2]
    assert f"{left} is of an interrupted run with other settings; remove it if it is not wanted" in caplog.text


def test_a_run_with_another_codec_goes_on_where_it_stopped(interpolator, make_job, tmp_path, monkeypatch):
    job = make_job(video=tmp_path / "out/film.mkv", encoding=EncodingSettings(codec="ffv1"))
    with monkeypatch.context() as patched:
        stopping_after(interpolator, 2, patched)
        with pytest.raises(Stop):
            run_job(interpolator, job)
    made = stopping_after(interpolator, 10, monkeypatch)
    record = run_job(interpolator, job)
    assert made == [2]
    assert record is not None
    assert record["output"].items() >= {"codec": "ffv1", "crf": None, "pixel_format": "bgr0"}.items()
    assert is_finished(interpolator, job)
    assert not is_finished(interpolator, replace(job, encoding=EncodingSettings(codec="h264")))


def leave_its_lock(job):
    """As a killed run does."""
    lock_path(job.video).touch()


def test_a_run_killed_while_it_removes_its_store_can_be_run_again(interpolator, make_job, tmp_path, monkeypatch):
    """The claim on the frames went first; without a look at what is finished they were taken for somebody else's."""
    job = make_job(frames_folder=tmp_path / "frames")

    def stop(store):
        (store.folder / CLAIM).unlink()
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(PairStore, "remove", stop)
        with pytest.raises(Stop):
            run_job(interpolator, job)
    leave_its_lock(job)
    made = stopping_after(interpolator, 10, monkeypatch)
    record = run_job(interpolator, job)
    assert made == []
    assert record == json.loads(job.record.read_text())
    assert files(tmp_path / "out") == ["film.json", "film.mp4", "film.txt"]


def test_only_what_is_finished_is_not_made_again_after_a_kill(interpolator, make_job, monkeypatch):
    job = make_job()
    run_job(interpolator, job)
    leave_its_lock(job)
    made = stopping_after(interpolator, 10, monkeypatch)
    run_job(interpolator, make_job(settings=OTHER))
    assert made == [0, 1, 2]
    run_job(interpolator, make_job(settings=OTHER))
    assert made == [0, 1, 2] * 2


def test_what_a_killed_run_left_of_a_finished_job_is_tidied(interpolator, make_job, tmp_path):
    job = make_job()
    run_job(interpolator, job)
    tidy_finished(interpolator, job)
    leave_its_lock(job)
    PartialOutput(job.prompt_file).path.write_text("half")
    tidy_finished(interpolator, job)
    assert files(tmp_path / "out") == ["film.json", "film.mp4", "film.txt"]


def test_results_of_two_runs_are_not_one_that_is_finished(interpolator, make_job, monkeypatch):
    """The second run was killed when its video had its name, under the record of the first."""
    first, second = make_job(), make_job(settings=OTHER)
    run_job(interpolator, first)
    assert is_finished(interpolator, first)
    run_up_to_the_record(interpolator, second, monkeypatch)
    assert not is_finished(interpolator, first)
    run_job(interpolator, first)
    assert is_finished(interpolator, first)
    run_job(interpolator, second)
    assert is_finished(interpolator, second)


def test_a_video_that_was_changed_since_is_not_finished(interpolator, make_job):
    job = make_job()
    run_job(interpolator, job)
    job.video.write_bytes(b"cut")
    assert not is_finished(interpolator, job)


def test_nothing_that_is_read_or_somebody_elses_is_replaced(interpolator, make_job, tmp_path, monkeypatch):
    made = stopping_after(interpolator, 10, monkeypatch)
    (tmp_path / "out").mkdir()
    shutil.copy(golden.CLIP, tmp_path / "out" / "film.mp4")
    with pytest.raises(UsageError, match=r"film\.mp4: is an input"):
        run_job(interpolator, make_job(inputs=(tmp_path / "out" / "film.mp4",), overwrite=True))
    with pytest.raises(UsageError, match="not what this program wrote"):
        run_job(interpolator, make_job())
    assert (made, files(tmp_path / "out")) == ([], ["film.mp4"])


def test_a_second_run_ends_before_it_computes(interpolator, make_job, tmp_path, monkeypatch):
    made = stopping_after(interpolator, 10, monkeypatch)
    with held_results(make_job()):
        with pytest.raises(MediaError, match=r"film\.mp4: is being written by another run \(process \d+ on"):
            run_job(interpolator, make_job(settings=OTHER))
        assert files(tmp_path / "out") == [".film.mp4.lock"]
    assert made == []


@pytest.mark.parametrize("kept", ["000000.npz", "000001.npz", "placing.txt", "film.txt", "film.json"])
def test_a_full_disk_names_file_space_and_remedy(interpolator, make_job, tmp_path, monkeypatch, kept):
    """The store of pairs, the claim, the prompt and the record; the same run goes on when there is room."""
    job, real = make_job(frames_folder=tmp_path / "frames"), PartialOutput.create_file

    def create_file(partial, mode=0o666):
        file = real(partial)
        if partial.target.name == kept:
            full = os.open("/dev/full", os.O_WRONLY)  # a device that takes nothing, as a full disk
            os.dup2(full, file.fileno())
            os.close(full)
        return file

    with monkeypatch.context() as patched:
        patched.setattr(PartialOutput, "create_file", create_file)
        with pytest.raises(MediaError) as error:
            run_job(interpolator, job)
    assert f"{kept}: cannot be written (No space left on device)" in str(error.value)
    assert f" GB are free in {tmp_path}" in str(error.value)
    assert "make room there, or choose another place" in str(error.value)
    assert error.value.exit_code == 4
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("*.lock"))
    run_job(interpolator, job)
    assert files(tmp_path / "out") == ["film.json", "film.mp4", "film.txt"]


def test_a_changed_picture_of_an_input_folder_is_another_job(interpolator, make_job, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, frame in enumerate(golden.load("inputs_clip")["frames"][:2]):
        iio.imwrite(folder / f"{index}.png", frame)
    job = make_job(inputs=(folder,))
    run_job(interpolator, job)
    assert is_finished(interpolator, job)
    iio.imwrite(folder / "1.png", golden.load("inputs_clip")["frames"][2])
    assert not is_finished(interpolator, job)


def test_frames_that_were_not_asked_for_before(interpolator, make_job, tmp_path):
    run_job(interpolator, make_job())
    assert not is_finished(interpolator, make_job(frames_folder=tmp_path / "frames"))


def test_a_folder_that_cannot_be_made(interpolator, make_job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"film\.mp4: cannot be written .* choose another place"):
        run_job(interpolator, make_job(video=tmp_path / "file" / "film.mp4"))


def test_is_finished(interpolator, make_job):
    job = make_job()
    assert not is_finished(interpolator, job)
    run_job(interpolator, job)
    assert is_finished(interpolator, job)
    other = InterpolationSettings(sampling=SampleSettings(num_steps=2), height=64, width=96)
    assert not is_finished(interpolator, make_job(settings=other))


def test_a_full_disk_leaves_nothing_under_the_final_names(interpolator, make_job, tmp_path, monkeypatch):
    def full(writer, frames):
        raise MediaError(f"{writer}: cannot be written (No space left on device)")

    monkeypatch.setattr(job_module.VideoWriter, "write", full)
    with pytest.raises(MediaError, match="No space left"):
        run_job(interpolator, make_job(frames_folder=tmp_path / "frames"))
    assert not [name for name in files(tmp_path / "out") if not name.endswith(".unfinished")]
    assert not (tmp_path / "frames").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"inputs": ("missing.mp4",)}, MediaError, "missing.mp4"),
        ({"settings": InterpolationSettings(frame_stride=4, height=64, width=96)}, UsageError, "--frame-stride 4"),
        ({"settings": InterpolationSettings(height=65, width=96)}, UsageError, "--height 65"),
    ],
)
def test_bad_jobs_stop_before_anything_is_made(interpolator, make_job, tmp_path, changes, error, message, monkeypatch):
    made = stopping_after(interpolator, 10, monkeypatch)
    changes = changes | {"inputs": tuple(map(Path, changes["inputs"]))} if "inputs" in changes else changes
    with pytest.raises(error, match=message):
        run_job(interpolator, make_job(**changes))
    assert made == []
    assert files(tmp_path / "out") == []


def test_progress(interpolator, make_job):
    seen = []
    run_job(interpolator, make_job(), lambda *counts: seen.append(counts))
    assert seen == [(pair, 3, call, 2) for pair in range(3) for call in (1, 2)]


@pytest.mark.parametrize("pairs_left", [3, 1, 0])
def test_a_prompt_is_checked_once_in_a_job(interpolator, make_job, monkeypatch, pairs_left):
    """However many pairs an interrupted run has left to do."""
    guardrails = Watched()
    monkeypatch.setattr(interpolator, "guardrails", guardrails)
    settings = replace(
        make_job().settings, prompt="rain", negative_prompt="snow", sampling=SampleSettings(-0.5, num_steps=1)
    )
    job = make_job(settings=settings)
    if pairs_left < 3:
        with monkeypatch.context() as patched:
            if pairs_left:
                stopping_after(interpolator, 3 - pairs_left, patched)
            else:
                patched.setattr(PairStore, "take_over", stop)
            with pytest.raises(Stop):
                run_job(interpolator, job)
        guardrails.asked.clear()
    run_job(interpolator, job)
    assert guardrails.asked == ["rain", "snow"]


def stop(*_):
    raise Stop


def test_a_written_prompt_is_checked_once_and_before_it_is_kept(interpolator, make_job, monkeypatch):
    guardrails, kept = Watched(), []
    monkeypatch.setattr(interpolator, "guardrails", guardrails)
    monkeypatch.setattr(interpolator, "upsample_prompt", lambda *_, **__: "rain")
    monkeypatch.setattr(PairStore, "keep_prompt", lambda self, prompt: kept.append((prompt, list(guardrails.asked))))
    run_job(interpolator, make_job(upsampler=UpsamplerSettings()))
    assert guardrails.asked == ["rain"]
    assert kept == [("rain", ["rain"])]
