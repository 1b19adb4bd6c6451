"""What a job may write: nothing that is read, and nobody else's files."""

import json
import os
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.files.overlap import Input
from jax_interp.files.partial import PartialOutput
from jax_interp.pipeline.jobs.outputs import (
    check_outputs,
    held_results,
    network_files,
    own_record,
    refuse_held_results,
)
from jax_interp.pipeline.jobs.pair_store import PairStore
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.settings import InterpolationSettings
from tests.damages import FILE_DAMAGES


@pytest.fixture
def job(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "clip.mp4").write_text("clip")
    return Job(
        inputs=(tmp_path / "in" / "clip.mp4",), video=tmp_path / "out/film.mp4", settings=InterpolationSettings()
    )


def finish(job, prompt="rain", **changes):
    """As a run leaves it."""
    job.video.parent.mkdir(exist_ok=True)
    job.video.write_bytes(b"video")
    job.prompt_file.write_text(f"{prompt}\n")
    record = {
        "fingerprint": "f" * 64,
        "settings": {"prompt": prompt},
        "output": {"video": str(job.video), "bytes": 5},
        "frames": 10,
        "pairs": 1,
        "seconds": {},
    }
    job.record.write_text(json.dumps(record | changes))


def refused(*jobs, read=()):
    with pytest.raises(UsageError) as error:
        check_outputs(jobs, read)
    return str(error.value)


def test_new_results_and_those_of_an_earlier_run(job):
    check_outputs([job])
    finish(job)
    check_outputs([job])


def test_the_input_is_not_replaced_even_when_told(job):
    same = replace(job, video=job.inputs[0], overwrite=True)
    assert refused(same) == f"the result {same.video}: is an input ({same.video}); choose another name"


@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_an_input_under_the_name_of_what_lies_beside_the_video(job, tmp_path, suffix):
    """A folder of pictures whose name ends so, or a picture that was named so."""
    path = tmp_path / f"film.{suffix}"
    path.write_text("clip")
    assert "is an input" in refused(replace(job, inputs=(path,), video=tmp_path / "film.mp4", overwrite=True))


def test_results_of_one_job_are_inputs_of_another(job, tmp_path):
    other = replace(job, inputs=(tmp_path / "out/film.mp4",), video=tmp_path / "out/other.mp4")
    finish(job)
    assert f"{job.video}: is an input" in refused(job, other)
    assert f"{job.video}: is an input" in refused(other, job)
    check_outputs([other])


def test_frames_over_the_input(job, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("00000.png", "00001.png"):
        iio.imwrite(pictures / name, np.zeros((4, 4, 3), np.uint8))
    whole = replace(job, inputs=(pictures,), frames_folder=pictures, overwrite=True)
    assert "--save-frames" in refused(whole)
    assert "is an input" in refused(whole)
    some = replace(job, inputs=tuple(sorted(pictures.iterdir())), frames_folder=pictures, overwrite=True)
    assert "would replace an input" in refused(some)
    (tmp_path / "link").symlink_to(pictures)
    assert "is an input" in refused(replace(whole, frames_folder=tmp_path / "link"))
    assert "would replace an input" in refused(replace(job, frames_folder=tmp_path, overwrite=True))


@pytest.mark.parametrize("where", ["out", ".", "out/film.mp4", "out/film.txt", "out/film.json"])
def test_frames_over_other_results(job, tmp_path, where):
    folder = tmp_path / where
    assert f"{folder}" in refused(replace(job, inputs=(), frames_folder=folder, overwrite=True))
    check_outputs([replace(job, inputs=(), frames_folder=tmp_path / "out/frames")])


def test_what_else_is_read(job, tmp_path):
    (tmp_path / "out").mkdir()
    batch = tmp_path / "out/film.json"
    batch.write_text("{}")
    told = replace(job, overwrite=True)
    assert f"is --batch-input-path ({batch})" in refused(told, read=[Input(batch, "--batch-input-path")])
    check_outputs([told])


def test_networks(job, tmp_path):
    network = tmp_path / "converted" / "google-t5" / "t5-11b"
    network.mkdir(parents=True)
    for name in ("config.json", "manifest.json"):
        (network / name).write_text("{}")
    read = network_files(tmp_path / "converted")
    assert [item.path for item in read] == [network]
    for folder in (network, network / "new"):
        inside = replace(job, video=folder / "config.mp4", overwrite=True)
        assert "lies in a network" in refused(inside, read=read)
    assert "would replace a network" in refused(
        replace(job, frames_folder=tmp_path / "converted/google-t5", overwrite=True), read=read
    )
    check_outputs([replace(job, video=tmp_path / "converted/film.mp4")], read)
    assert network_files(tmp_path / "none") == []


@pytest.mark.parametrize("suffix", ["mp4", "txt", "json"])
def test_what_this_program_did_not_write_is_replaced_only_when_told(job, suffix):
    path = job.video.with_suffix(f".{suffix}")
    path.parent.mkdir()
    path.write_text('{"mine": true}')
    said = refused(job)
    assert said.startswith(
        f"{path}: is there already, and not what this program wrote for film.mp4"
        + (f" ({path} does not tell: it is not the record of a run)" if suffix == "json" else "")
        + "; choose another name"
    )
    assert "--overwrite" in said
    check_outputs([replace(job, overwrite=True)])


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": 3},
        {"output": {"video": "other.mp4"}},
        {"output": "film.mp4"},
        {"output": {}},
        {"settings": []},
        {"settings": {"prompt": None}},
    ],
    ids=str,
)
def test_a_record_of_something_else(job, changes):
    finish(job, **changes)
    assert own_record(job) is None
    assert refused(job).count("not what this program wrote") == 3


def test_a_video_in_another_container_would_share_the_record(job):
    finish(job)
    other = replace(job, video=job.video.with_suffix(".mkv"))
    said = f"{job.record}: is the record of film.mp4, and film.mkv would share it; give another --video-save-name, or"
    assert refused(other).startswith(said)
    check_outputs([replace(other, overwrite=True)])


@pytest.mark.parametrize("folder", ["clip.mp4", "clip.mp4/below/it"])
def test_a_file_where_a_folder_is_wanted(job, tmp_path, folder):
    where, clip = tmp_path / "in" / folder, job.inputs[0]
    for flag, changed in (
        ("--video-save-folder", replace(job, video=where / "film.mp4")),
        ("--save-frames", replace(job, frames_folder=where / "frames")),
    ):
        assert refused(changed) == f"{flag} {where}: {clip} is a file, expected a folder; choose another name"


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff", b"[" * 100_000, b'"film"', b"{}"])
def test_a_file_that_is_no_record(job, content):
    finish(job)
    job.record.write_bytes(content)
    assert (
        f"film.json: is there already, and not what this program wrote for film.mp4 ({job.record} does not tell: "
        in (refused(job))
    )


@pytest.mark.parametrize("damage", sorted(FILE_DAMAGES.keys() - {"missing", "broken link"}))
def test_a_damaged_record_is_named(job, damage):
    finish(job)
    FILE_DAMAGES[damage](job.record)
    assert own_record(job) is None
    said = refused(job)
    assert f"film.mp4: is there already, and not what this program wrote for film.mp4 ({job.record} does not" in said
    assert "--overwrite" in said


def test_what_was_changed_since_is_the_users(job):
    finish(job)
    job.prompt_file.write_text("my own words\n")
    assert "film.txt: is there already" in refused(job)
    finish(job)
    job.video.write_bytes(b"my own cut")
    assert "film.mp4: is there already" in refused(job)


def test_a_record_from_before_sizes_were_noted(job):
    finish(job, output={"video": "elsewhere/film.mp4"})
    check_outputs([job])


def test_what_a_killed_run_had_begun_to_put_there_is_ours(job):
    job.video.parent.mkdir()
    job.video.write_bytes(b"video")
    store = PairStore(job.video, "a" * 12)
    store.keep_prompt("rain")
    assert "film.mp4: is there already" in refused(job)
    store.claim()
    check_outputs([job])


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_and_devices_under_the_names_of_results(job, overwrite):
    finish(job)
    job.prompt_file.unlink()
    job.prompt_file.mkdir()
    assert f"{job.prompt_file}: is a folder or a device" in refused(replace(job, overwrite=overwrite))


@pytest.mark.parametrize("letter", ["x", "映"])
def test_names_that_are_too_long_with_what_is_written_beside_them(job, tmp_path, letter):
    room = 230 // len(letter.encode())
    fits = replace(job, video=tmp_path / f"{letter * room}.mp4")
    check_outputs([fits])
    with held_results(fits):
        for path in fits.files:
            PartialOutput(path).path.touch()
        PairStore(fits.video, "f" * 12).keep_prompt("rain")
    assert "--video-save-name" in refused(replace(job, video=tmp_path / f"{letter * (room + 1)}.mp4"))
    assert "--save-frames" in refused(replace(job, frames_folder=tmp_path / (letter * (room + 7))))


def test_results_are_held_together(job, tmp_path):
    job = replace(job, frames_folder=tmp_path / "frames")
    with held_results(job) as was_killed:
        assert not was_killed
        for other in (
            replace(job, video=tmp_path / "out/other.mp4"),  # the same frames
            replace(job, frames_folder=None),  # the same video
        ):
            with pytest.raises(MediaError, match=f"is being written by another run .process {os.getpid()} on"):
                refuse_held_results(other)
            with pytest.raises(MediaError, match="is being written by another run"), held_results(other):
                pass
        with held_results(replace(job, video=tmp_path / "out/other.mp4", frames_folder=None)):
            pass
    assert list((tmp_path / "out").iterdir()) == []
    refuse_held_results(job)


def test_a_run_that_would_write_the_same_record_is_refused(job):
    other = replace(job, video=job.video.with_suffix(".gif"))
    with held_results(other):
        with pytest.raises(MediaError, match=r"film\.gif: is being written by another run"):
            refuse_held_results(job)
        with pytest.raises(MediaError, match=r"film\.gif: is being written by another run"), held_results(job):
            pass
    with held_results(job):
        pass


def test_what_killed_runs_left_half_written_goes(job, tmp_path):
    job = replace(job, frames_folder=tmp_path / "frames")
    job.video.parent.mkdir()
    for path in (*job.files, job.frames_folder):
        PartialOutput(path).path.write_text("half")
    with held_results(job):
        pass
    assert list(job.video.parent.iterdir()) == []
    assert not list(tmp_path.glob(".frames*"))
