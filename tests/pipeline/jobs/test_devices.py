"""Which mesh is chosen, and that a run on several devices gives the same frames."""

import json
from pathlib import Path

import numpy as np
import pytest

from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import UsageError
from jax_interp.pipeline.jobs.devices import choose_mesh
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.requests.settings import DeviceSettings
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.mesh_shape import MeshShape, fastest_shape, shapes
from tests import golden
from tests.commands import jax_interp


def job(num_pairs=None, guidance=-1.0, clip=golden.CLIP):
    sampling = SampleSettings(guidance=guidance)
    settings = InterpolationSettings(num_frame_pairs=num_pairs, sampling=sampling)
    return Job(inputs=(clip,), video=Path("out.mp4"), settings=settings)


def test_what_this_machine_cannot_do():
    """It looks like eight devices."""
    with pytest.raises(UsageError, match="--mesh data=1,sequence=16,tensor=1 needs 16 devices, but 8 are there"):
        choose_mesh(DeviceSettings(mesh=MeshShape.parse("sequence=16")), [job(1)])
    with pytest.raises(UsageError, match=r"--num-gpus 9: JAX sees 8 device\(s\)"):
        choose_mesh(DeviceSettings(num_gpus=9), [job(1)])
    with pytest.raises(UsageError, match=r"data=4 for 1 evaluation.*would work: data=1,sequence=4,tensor=1$"):
        choose_mesh(DeviceSettings(mesh=MeshShape.parse("data=4")), [job(1)])


def test_without_a_gpu_one_device_is_used():
    assert choose_mesh(DeviceSettings(), [job(1)]) == MeshShape()


@pytest.mark.parametrize(
    ("num_gpus", "num_pairs", "guidance", "expected"),
    [
        (1, 3, -1.0, MeshShape()),
        (4, 1, -1.0, MeshShape(sequence=4)),
        (2, 1, 3.0, MeshShape(data=2)),  # a guidance branch on each
        (4, 1, 3.0, MeshShape(data=2, sequence=2)),
        (3, 3, -1.0, MeshShape(data=3)),
        (4, 2, -1.0, MeshShape(data=2, sequence=2)),
        (4, 3, -1.0, MeshShape(sequence=4)),  # side by side one of four would idle
    ],
)
def test_the_fastest_mesh_is_chosen(num_gpus, num_pairs, guidance, expected):
    assert choose_mesh(DeviceSettings(num_gpus=num_gpus), [job(num_pairs, guidance)]) == expected


def test_a_batch_has_one_mesh():
    two = DeviceSettings(num_gpus=2)
    assert choose_mesh(two, [job(2), job(2)]) == MeshShape(data=2)
    assert choose_mesh(two, [job(2), job(1), job(2)]) == MeshShape(sequence=2)
    assert choose_mesh(two, [job(clip=Path("missing.mp4")), job(2)]) == MeshShape(data=2)


def test_many_pairs_run_side_by_side():
    assert fastest_shape(8, [64], 1) == MeshShape(data=8)
    assert fastest_shape(8, [1], 1) == MeshShape(sequence=8)


def test_all_shapes_have_the_devices_they_say():
    found = list(shapes(12))
    assert len(found) == len(set(found)) == 6
    assert all(shape.size == 12 for shape in found)
    assert found[0] == MeshShape(data=12)


@pytest.mark.slow
def test_frames_of_two_devices(converted, tmp_path):
    """Guidance with two branches, one on each device; the record says so."""
    import imageio.v3 as iio

    videos = []
    for count in (1, 2):
        out = tmp_path / str(count)
        outcome = jax_interp(
            "generate", "--disable-guardrail",
            "--checkpoint-dir", converted, "--video-save-folder", tmp_path / "videos", "--num-gpus", count,
            "--input", golden.CLIP, "--num-frame-pairs", 1, "--guidance", 1, "--prompt", "rain", "--save-frames", out,
            "--height", 64, "--width", 96, "--num-steps", 1, "--dtype", "float32",
        )  # fmt: skip
        assert outcome.code == 0, outcome.output
        record = json.loads((tmp_path / "videos/output.json").read_text())
        assert record["mesh"] == {"data": count, "sequence": 1, "tensor": 1}
        videos.append(np.stack([iio.imread(path) for path in sorted(out.iterdir())]).astype(int))
    assert videos[0].shape == videos[1].shape
    assert videos[0].std() > 1
    assert np.abs(videos[0] - videos[1]).max() <= 1
