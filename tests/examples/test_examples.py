"""Every example runs on the demo's networks and gives what it says."""

import importlib.util
import json
import re
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp import InterpolationSettings, Interpolator, Size, Timeline
from jax_interp.errors import UsageError
from tests.commands import jax_interp

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "jax_interp/demo"
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


def load(name: str):
    """The example as a module; examples are scripts, not a package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / f"examples/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """The demo's networks, as `make demo` converts them."""
    folder = tmp_path_factory.mktemp("demo") / "converted"
    outcome = jax_interp(
        "convert", "--checkpoint-dir", ASSETS / "checkpoints", "--output-dir", folder, "--no-check-md5"
    )
    assert outcome.code == 0, outcome.output
    return folder


@pytest.fixture(scope="session")
def frames():
    return iio.imread(ASSETS / "clip.mp4")[:2]


def run_main(monkeypatch, name: str, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
    load(name).main()


def test_every_example_is_tested():
    tested = set(re.findall(r'= load\("(\w+)"\)', Path(__file__).read_text()))
    assert tested == set(EXAMPLES)


@pytest.mark.slow
def test_two_pictures_become_a_video(monkeypatch, tmp_path, converted, frames):
    module = load("two_pictures")
    between = module.between(converted, *frames, 128, 192)
    assert between.shape == (10, 128, 192, 3)
    for name, frame in zip("ab", frames, strict=True):
        iio.imwrite(tmp_path / f"{name}.png", frame)
    run_main(
        monkeypatch,
        "two_pictures",
        tmp_path / "a.png",
        tmp_path / "b.png",
        tmp_path / "out.mp4",
        "--converted",
        converted,
    )
    assert len(iio.imread(tmp_path / "out.mp4")) == 10


@pytest.mark.slow
@pytest.mark.thorough
def test_a_clip_in_slow_motion(monkeypatch, tmp_path, converted):
    module = load("slow_motion")
    clip = module.slow_motion(converted, ASSETS / "clip.mp4", Timeline(slow_motion=2, scene_cuts="off"), Size(128, 192))
    source = iio.improps(ASSETS / "clip.mp4", plugin="pyav")
    assert clip.num_frames == 2 * source.shape[0]
    short = tmp_path / "short.mp4"
    iio.imwrite(short, iio.imread(ASSETS / "clip.mp4")[:3], fps=24, codec="libx264")
    run_main(monkeypatch, "slow_motion", short, tmp_path / "out.mp4", "--slow-motion", 2, "--converted", converted)
    assert len(iio.imread(tmp_path / "out.mp4")) == 6


@pytest.mark.slow
def test_the_budget_decides_where_networks_live_and_not_what_comes_out(converted, frames):
    module = load("memory_budget")
    settings = InterpolationSettings(height=128, width=192)
    least = Interpolator.from_pretrained(converted).planner(settings).smallest().process_peak
    shown, placements = module.interpolate_within(converted, frames, least, settings)
    assert "resident" not in placements.values()
    with pytest.raises(UsageError, match="too little"):
        module.interpolate_within(converted, frames, least // 2, settings)
    roomy, everywhere = module.interpolate_within(converted, frames, 80 * 2**30, settings)
    assert set(everywhere.values()) == {"resident"}
    np.testing.assert_array_equal(shown, roomy)


@pytest.mark.slow
@pytest.mark.thorough
def test_stages_one_by_one_give_the_whole(converted, frames):
    module = load("one_stage_at_a_time")
    decoded, heard = module.run(converted, *frames, num_steps=3)
    assert heard == [1, 3, 5, 7]  # of two branches a step, the negative prompt's
    whole = Interpolator.from_pretrained(converted, dtype="float32").interpolate(
        frames, num_steps=3, height=128, width=192
    )
    np.testing.assert_array_equal(decoded, whole.frames)


def test_plain_orbax_reads_the_parameters(capsys, monkeypatch, converted):
    module = load("read_parameters")
    folder = converted / "Cosmos-Predict1-7B-WorldInterpolator"
    config, params = module.read(folder)
    assert config == json.loads((folder / "config.json").read_text())
    assert params["positions"]["w"].shape[-1] == params["time_norm"]["scale"].shape[0]
    run_main(monkeypatch, "read_parameters", folder)
    assert "positions.w: bfloat16" in capsys.readouterr().out
