"""`generate --rate` as a user runs it: from the shell to the file, killed in the middle, and in little memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from jax_interp.media.reader import open_frames
from tests.commands import jax_interp
from tests.media import clips, film_clips

ROOT = Path(__file__).parents[3]
TINY = ("--disable-guardrail", "--height", 32, "--width", 32, "--num-steps", 1, "--dtype", "float32")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return film_clips.write_film(path, film_clips.with_cut(24, 10, 32, 32), film_clips.claps([0.5], 1.0))


def generate(converted, film, folder, *more):
    return jax_interp(
        "generate", "--checkpoint-dir", converted, "--input", film, "--video-save-folder", folder, *TINY, *more
    )


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--rate", "24/0"), 2, "--rate 24/0: expected frames a second, as 24, 23.976 or 24000/1001, source"),
        (("--rate", "0"), 2, "--rate 0: expected frames a second, from 0.01 to 1000"),
        (("--rate", "-24"), 2, "--rate -24: expected frames a second, from 0.01 to 1000"),
        (("--rate", "60", "--factor", "2"), 2, "give one of them"),
        (("--rate", "60", "--scene-cuts", "{cuts}"), 2, "cuts.txt: line 1: 'at the door' is no frame number"),
        (("--rate", "60", "--aspect", "16:9"), 2, "--aspect 16:9: expected auto, stretch, or the network's width"),
        (("--audio", "stretch", "--slow-motion", "2", "--input", "{silent}"), 2, "silent.mp4 has no sound"),
        (("--rate", "60", "--hdr", "no"), 2, "--hdr"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(converted, film, tmp_path, flags, code, message):
    (tmp_path / "cuts.txt").write_text("at the door\n")
    silent = film_clips.write_film(tmp_path / "silent.mp4", film_clips.with_cut(4, 2, 32, 32), None)
    flags = [flag.format(cuts=tmp_path / "cuts.txt", silent=silent) for flag in flags]
    source = () if "--input" in flags else ("--input", film)
    outcome = jax_interp(
        "generate", "--checkpoint-dir", converted, *source, "--video-save-folder", tmp_path / "out", *TINY, *flags
    )
    assert outcome.code == code, outcome.output
    assert message in outcome.output
    assert not (tmp_path / "out").exists() or clips.names(tmp_path / "out") == []


def test_a_file_of_cuts_is_not_overwritten(converted, film, tmp_path):
    (tmp_path / "out").mkdir()
    cuts = tmp_path / "out" / "output.txt"
    cuts.write_text("10\n")
    outcome = generate(converted, film, tmp_path / "out", "--rate", 60, "--scene-cuts", cuts, "--overwrite")
    assert outcome.code == 2
    assert "--scene-cuts" in outcome.output
    assert cuts.read_text() == "10\n"


@pytest.mark.slow
def test_a_phones_clip_becomes_slow_motion_from_the_shell(converted, tmp_path):
    """Without it nobody would notice that rotation, variable rate, sound and shape work alone but not together."""
    times = [int(each) for each in np.cumsum([0, 33, 34, 33, 45, 33, 60, 33, 33, 34, 50, 33])]
    frames = film_clips.moving_square(12, 90, 160, (60, 120, 60), step=8)
    phone = film_clips.write_film(
        tmp_path / "phone.mp4", frames, film_clips.claps([0.2], 0.5), rate=1000, times_ms=times
    )
    clips.set_display_matrix(phone, 0, 1, -1, 0)
    outcome = jax_interp(
        "generate", "--checkpoint-dir", converted, "--disable-guardrail", "--input", phone, "--slow-motion", 4,
        "--audio", "stretch", "--aspect", "64x96", "--num-steps", 1, "--dtype", "float32",
        "--video-save-folder", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    made = open_frames([tmp_path / "out" / "output.mp4"])
    record = json.loads((tmp_path / "out" / "output.json").read_text())
    assert (made.height, made.width) == (96, 54), "upright, and as high as the network's picture"
    assert record["carried_over"]["encoded_as_aac"] == ["audio aac (deu)"]
    duration = made.num_frames / made.fps if made.fps else 0
    assert float(duration) == pytest.approx(4 * record["timeline"]["input_seconds"][1], abs=0.5 / float(made.fps or 1))
    with av.open(str(tmp_path / "out" / "output.mp4")) as container:
        assert container.streams.audio


def command(converted, film, folder, *more):
    arguments = [
        sys.executable, "-m", "jax_interp", "generate", "--checkpoint-dir", converted, "--input", film,
        "--video-save-folder", folder, *TINY, *more,
    ]  # fmt: skip
    return [str(argument) for argument in arguments]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_file(converted, film, tmp_path):
    """Without it a run that was killed between cuts could number its pieces anew, and show wrong frames."""
    flags = ("--rate", 60, "--duplicates", "merge", "--scene-cuts", "auto")
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    whole = subprocess.run(command(converted, film, tmp_path / "whole", *flags), cwd=ROOT, env=environment, timeout=300)
    assert whole.returncode == 0
    out = tmp_path / "out"
    for wanted in (3, 12):
        process = subprocess.Popen(command(converted, film, out, *flags), cwd=ROOT, env=environment)
        deadline = time.monotonic() + 240
        while len(list(out.glob(".output.*.unfinished/*.npz"))) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    last = subprocess.run(command(converted, film, out, *flags), cwd=ROOT, env=environment, timeout=300)
    assert last.returncode == 0
    assert clips.names(out) == ["output.json", "output.mp4", "output.txt"]
    assert (out / "output.mp4").read_bytes() == (tmp_path / "whole" / "output.mp4").read_bytes()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(converted, tmp_path):
    """Without it frames, stamps or packets of a long film could be kept, and the process be killed after hours."""
    peaks = []
    for count in (100, 1000):
        frames = film_clips.moving_square(count, 32, 32, (60, 120, 60), step=3)
        path = film_clips.write_film(tmp_path / f"{count}.mp4", frames, film_clips.claps([0.5], count / 24))
        flags = ("--rate", 10, "--duplicates", "merge")  # a third of the pairs are needed
        done = subprocess.run(
            command(converted, path, tmp_path / str(count), *flags),
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
            timeout=500,
        )
        assert done.returncode == 0
        record = json.loads((tmp_path / str(count) / "output.json").read_text())
        assert record["frames"] == round(count * 10 / 24)
        peaks.append(record["peak_memory_bytes"]["host"])
    assert peaks[1] - peaks[0] < 30 * 2**20
