"""What is asked of a command is read and checked before JAX is imported, which takes longer than all of it."""

import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("jax", "jaxtyping", "numpy", "flax", "orbax", "av", "PIL", "imageio", "transformers", "torch")


def imported(program: str, *arguments: object) -> set[str]:
    """Which of `HEAVY` a fresh interpreter has imported when `program` ends."""
    source = f"import sys\n{program}\nprint('imported:', *(name for name in {HEAVY} if name in sys.modules))"
    command = [sys.executable, "-c", source, *map(str, arguments)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, outcome.stderr
    return set(outcome.stdout.splitlines()[-1].split()[1:])


COMMAND = """
from jax_interp.cli.main import app
try:
    app(sys.argv[1:], standalone_mode=False)
except SystemExit:
    pass
"""


def test_what_is_looked_for_would_be_found():
    assert imported("import jax") >= {"jax", "numpy"}


def test_a_request_for_several_clips_imports_nothing_heavy(tmp_path):
    (tmp_path / "a.mp4").touch()
    batch = tmp_path / "clips.jsonl"
    batch.write_text('{"visual_input": "%s", "name": "b", "prompt": "rain"}\n' % (tmp_path / "a.mp4"))
    program = """
from pathlib import Path
from jax_interp import GenerateRequest, InterpolationSettings, Job, MemorySettings, NetworkSettings, Placement
from jax_interp import SampleSettings
from jax_interp.pipeline.requests.batch import read_batch
settings = InterpolationSettings(sampling=SampleSettings(num_steps=4), height=64, width=96)
request = GenerateRequest(
    jobs=(Job(inputs=(), video=Path("out/film.mp4"), settings=settings),),
    networks=NetworkSettings(checkpoint_dir=Path("mine"), dtype="float32"),
    memory=MemorySettings(placements={"tokenizer": Placement("offloaded")}),
)
request = read_batch(Path(sys.argv[1]), request)
assert request.jobs[0].video == Path("out/b.mp4")
assert request.jobs[0].settings.height == 64
"""
    assert imported(program, batch) == set()


@pytest.mark.parametrize(
    "command",
    [
        "generate",
        "video2world",
        "compare",
        "evaluate",
        "train",
        "memory",
        "upsample",
        "check",
        "convert",
        "export",
        "parity",
    ],
)
def test_help_imports_nothing_heavy(command):
    assert imported(COMMAND, command, "--help") == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("generate",),
        ("generate", "--input", "a.mp4", "--num-steps", 0),
        ("generate", "--input", "a.mp4", "--mesh", "data"),
        ("video2world", "--input", "a.mp4", "--num-input-frames", 2),
        ("train", "--data", "d", "--output-dir", "o", "--steps", 0),
        ("check",),
        ("compare", "a.mp4"),
        ("evaluate", "a.mp4", "--num-frame-pairs", 0),
        ("upsample", "a.png", "--seed", -1),
        ("parity", "--seed", -1),
    ],
)
def test_wrong_options_are_refused_before_anything_heavy(arguments):
    refused = COMMAND.replace("except SystemExit:\n    pass", "except ValueError:\n    pass\nelse:\n    sys.exit(1)")
    assert imported(refused, *arguments) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["missing.mp4", "empty.mp4", "one.png"])
def test_an_input_that_cannot_be_interpolated_is_refused_before_jax(tmp_path, name):
    (tmp_path / "empty.mp4").touch()
    iio.imwrite(tmp_path / "one.png", np.zeros((8, 8, 3), np.uint8))
    refused = "from jax_interp.errors import MediaError\n" + COMMAND.replace(
        "except SystemExit:\n    pass",
        f"except MediaError as error:\n    assert {name!r} in str(error)\nelse:\n    sys.exit(1)",
    )
    assert "jax" not in imported(refused, "generate", "--input", tmp_path / name)


def test_help_takes_less_than_half_a_second():
    """Of the processor; with JAX it would be more than a second."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "jax_interp", "generate", "--help"], cwd=ROOT, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5
