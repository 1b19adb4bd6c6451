"""`jax-interp generate` killed at every change that it makes to its files: run again, it succeeds.

One run shows what a kill at each place leaves (`tests.cli.runs.kill_at_change`), so that only what comes after has to
run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jax_interp.media.reader import open_frames
from tests import golden

ROOT = Path(__file__).parents[3]
RESULTS = ["film.json", "film.mp4", "film.txt", "frames"]
PARTS = 8
"""Tests that share the places to be killed at, each within the time that a test has."""

OTHER = ("--seed", "12", "--overwrite")


class Commands:
    """Runs `generate` in processes of their own; everything they write lies below `root`."""

    def __init__(self, converted, folder):
        self.root = folder / "root"
        self.states = folder / "states"
        self.arguments = [
            "generate", "--disable-guardrail", "--disable-prompt-upsampler", "--checkpoint-dir", str(converted),
            "--input", str(golden.CLIP), "--num-frame-pairs", "2", "--height", "32", "--width", "32",
            "--num-steps", "1", "--dtype", "float32", "--video-save-folder", str(self.root / "out"),
            "--video-save-name", "film", "--save-frames", str(self.root / "out" / "frames"),
        ]  # fmt: skip
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.runs.kill_at_change", str(self.root)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": "",
                "XDG_CACHE_HOME": str(self.root / "cache"),
                "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
                "JAX_ENABLE_COMPILATION_CACHE": "true",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "COLUMNS": "500",
            },
        )

    def run(self, *more, **request):
        """(exit code, changes that it made or was about to make); `request` is `stop` or `states`."""
        request = {"arguments": [*self.arguments, *more], **request}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return answer["code"], answer["changes"]

    def succeed(self, *more):
        """What it printed."""
        code, _ = self.run(*more)
        printed = self.root.with_suffix(".log").read_text()
        assert code == 0, printed
        return printed

    def start_over(self):
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()

    def go_back(self, change, number, torn):
        """Make the folder what a run that is killed before `change`, its change `number`, leaves."""
        shutil.rmtree(self.root)
        shutil.copytree(self.states / f"{number:06d}", self.root, symlinks=True)
        if torn:
            (self.root / change.removeprefix("open ")).touch()

    def names(self):
        """Everything below the root, hidden or not."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))

    def results(self):
        """What must be the same whenever the command has succeeded."""
        out = self.root / "out"
        record = json.loads((out / "film.json").read_text())
        frames = {path.name: path.read_bytes() for path in (out / "frames").iterdir()}
        assert open_frames([out / "film.mp4"]).num_frames == record["frames"] == len(frames) == 19
        facts = {key: record[key] for key in ("settings", "fingerprint", "input", "pairs", "networks")}
        return frames, (out / "film.txt").read_text(), facts

    def stop(self):
        self._server.communicate(timeout=60)


@pytest.fixture(scope="module")
def commands(converted, tmp_path_factory):
    running = Commands(converted, tmp_path_factory.mktemp("killed"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def whole(commands):
    """For the command, and for it with other settings: what an uninterrupted run leaves and gives; its changes."""
    found = {}
    for more, request in (((), {"states": str(commands.states)}), (OTHER, {})):
        commands.start_over()
        code, changes = commands.run(*more, **request)
        assert code == 0, commands.root.with_suffix(".log").read_text()
        found[more] = commands.names(), commands.results(), changes
    assert found[()][1][0] != found[OTHER][1][0]
    return found


def places(changes):
    """(number, whether the file is there and empty) of all places to be killed at."""
    for number, change in enumerate(changes):
        yield number, False
        if change.startswith("open") and ".png" not in change:
            yield number, True


@pytest.mark.slow
def test_the_changes_are_seen(whole):
    """Every kind of change, and every file: else the tests below would prove little."""
    changes = " ".join(whole[()][2])
    for kind in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        assert f"{kind} out/" in changes
    for name in (r"\.film\.mp4\.lock", r"\.frames\.lock", r"\.film\.mp4\.\w+\.part", r"\.frames\.\w+\.part/00018\.png",
                 r"\.film\.txt\.\w+\.part", r"\.film\.json\.\w+\.part", r"\.film\.\w+\.unfinished/.000001\.npz",
                 r"\.film\.\w+\.unfinished/.placing\.txt", r"\.\w+\.safetensors\.\w+\.part"):  # fmt: skip
        assert re.search(name, changes), name
    assert sorted(path for path in whole[()][0] if path.count("/") == 1 and path.startswith("out/")) == [
        f"out/{name}" for name in RESULTS
    ]


def without_random_names(root):
    """What lies below `root`, and the bytes of pictures; hexadecimal digits that each run draws anew are left out."""
    return sorted(
        (re.sub(r"[0-9a-f]{12}", "*", str(path.relative_to(root))), path.read_bytes() if path.suffix == ".png" else b"")
        for path in root.rglob("*")
    )


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_kill_leaves_what_was_copied(commands, whole, share):
    number = int(share * len(whole[()][2]))
    commands.start_over()
    code, changes = commands.run(stop=number)
    assert (code, len(changes)) == (-9, number + 1)
    assert without_random_names(commands.root) == without_random_names(commands.states / f"{number:06d}") != []


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("part", range(PARTS))
def test_after_a_kill_at_any_change(commands, whole, part):
    changes = whole[()][2]
    for number, torn in list(places(changes))[part::PARTS]:
        where = f"killed before change {number}, {changes[number]}{', which had made its file' if torn else ''}"
        commands.go_back(changes[number], number, torn)
        commands.succeed()
        assert (where, commands.names()) == (where, whole[()][0])
        assert (where, commands.results()) == (where, whole[()][1])
        if ".png" not in changes[number]:  # these are all alike
            commands.go_back(changes[number], number, torn)
            check_other_settings(commands, whole, where)


def check_other_settings(commands, whole, where):
    """What the killed run left is used for nothing; of it stays at most what it would need to go on, and is named."""
    printed = commands.succeed(*OTHER)
    stores = [name for name in commands.names() if re.fullmatch(r"out/\.film\.[0-9a-f]{12}\.unfinished", name)]
    own = [name for name in commands.names() if not any(name.startswith(store) for store in stores)]
    assert (where, own) == (where, whole[OTHER][0])
    assert (where, commands.results()) == (where, whole[OTHER][1])
    assert len(stores) <= 1
    for store in stores:
        assert f"{commands.root / store} is of an interrupted run with other settings" in printed, where
