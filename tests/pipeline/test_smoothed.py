"""Networks in 8 bits with factors: where they live, on meshes, and what is said about them."""

import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from convert import convert
from jax_interp import Interpolator
from jax_interp.components import TABLE
from jax_interp.config import Quantization
from jax_interp.errors import UsageError
from jax_interp.pipeline.jobs.record import fingerprint, networks
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import ALONE, MeshShape
from jax_interp.runtime.placement import RESIDENT
from tests import golden
from tests.changed_weights import change_weight, nudge
from tests.convert.checkpoints import DIT
from tests.made_up_calibration import MadeUp, drawn_factors
from tests.pipeline.test_many_devices import PLACEMENTS, Quick
from tests.pipeline.test_quantized import check_equal, denoiser, run
from tests.tolerances import INT8_FLIPPED

MADE_UP_ERROR = 0.05
"""Error of a network whose factors are random, from 1/2 to 2, against float32."""


@cache
def smoothed(folder, shape=ALONE):
    return Quick(find_component(folder, "diffusion_transformer"), "float32", None, DeviceMesh(shape))


@cache
def expected(folder):
    """On one device, resident."""
    stage = smoothed(folder)
    stage.place(RESIDENT)
    return run(stage)


def test_every_placement_gives_the_same_bits(smoothed_folder):
    stage, right = smoothed(smoothed_folder), expected(smoothed_folder)
    for name in ("streamed", "offloaded"):
        stage.place(PLACEMENTS[name])
        assert run(stage).tobytes() == right.tobytes(), name
    stage.place(RESIDENT)


def test_the_network_divides_what_its_weights_multiply(converted, smoothed_folder):
    """Factors that the run forgets, or applies to another channel, would be as large as the values themselves."""
    right = run(denoiser(converted, quantization="none"))
    assert INT8_FLIPPED / 4 < golden.relative_l2(expected(smoothed_folder)[:, 1:-1], right[:, 1:-1]) < MADE_UP_ERROR


@pytest.mark.slow
def test_factors_at_load_give_the_bits_of_stored_ones(converted, smoothed_folder):
    plain = find_component(converted, "diffusion_transformer")
    factors = drawn_factors(plain.config)
    stage = Quick(replace(plain, quantization="int8-smoothed", factors=factors), "float32")
    assert run(stage).tobytes() == expected(smoothed_folder).tobytes()


MESHES = [
    MeshShape(tensor=2),
    pytest.param(MeshShape(2, 2, 2), marks=pytest.mark.slow),
    pytest.param(MeshShape(1, 3), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_a_mesh_gives_what_one_device_gives(smoothed_folder, shape):
    """Devices along `tensor` have some of the hidden units, each with the factors of its own."""
    stage = smoothed(smoothed_folder, shape)
    for placement in ("resident", "sharded"):
        stage.place(PLACEMENTS[placement])
        check_equal(run(stage), expected(smoothed_folder))
    change_weight(stage, "blocks/mlp/down/factors", lambda array: np.roll(array, 1))
    with pytest.raises(AssertionError):
        check_equal(run(stage), expected(smoothed_folder))
    change_weight(stage, "blocks/mlp/down/int8_kernel", lambda array: nudge(array, 64))
    stage.unload()


# What is said about them.


@pytest.mark.slow
def test_the_record_and_the_fingerprint_know_the_calibration(converted, quantized, smoothed_folder, tmp_path):
    settings, inputs = InterpolationSettings(height=64, width=96), (golden.CLIP,)
    another = tmp_path / "another"
    shutil.copytree(smoothed_folder, another, ignore=shutil.ignore_patterns(DIT))
    convert(golden.CHECKPOINTS, another, quantization="int8", calibrate=MadeUp("other.mp4", 1))
    opened = {
        folder: Interpolator.from_pretrained(folder, embedding_cache=False)
        for folder in (converted, quantized, smoothed_folder, another)
    }
    identities = {fingerprint(each, settings, inputs) for each in opened.values()}
    assert len(identities) == 4
    facts = networks(opened[smoothed_folder])
    assert facts["diffusion_transformer"]["quantization"] == "int8-smoothed"
    assert facts["diffusion_transformer"]["calibration"]["clip"] == "clip.mp4"
    assert networks(opened[another])["diffusion_transformer"]["calibration"]["clip"] == "other.mp4"
    assert facts["text_encoder"]["quantization"] == "int8"
    assert not {"quantization", "calibration"} & facts["tokenizer"].keys()
    planned = {folder: each.planner(settings).footprints() for folder, each in opened.items()}
    own, plain, full = (
        planned[folder]["diffusion_transformer"].params for folder in (smoothed_folder, quantized, converted)
    )
    assert plain < own < plain + 0.05 * (full - plain)
    planner = opened[smoothed_folder].planner(settings)
    assert planner._in_8_bits() == planner  # there is nothing to advise


def test_one_kind_of_8_bits_is_not_made_of_the_other(quantized, smoothed_folder):
    kinds: list[Quantization] = ["none", "int8", "int8-rotated"]
    for wanted in kinds:
        with pytest.raises(UsageError, match=rf"stored in int8-smoothed, from .* leave out --quantization {wanted},"):
            Interpolator.from_pretrained(smoothed_folder, quantization=wanted)
    with pytest.raises(UsageError, match=r"stored in int8, from which .* leave out --quantization int8-smoothed,"):
        Interpolator.from_pretrained(quantized, quantization="int8-smoothed")
    opened = Interpolator.from_pretrained(smoothed_folder, quantization="int8-smoothed")
    assert opened.denoiser.quantization == "int8-smoothed"


def test_all_but_the_transformer_take_it_as_int8():
    wanted = {name: row.runs_in("int8-smoothed") for name, row in TABLE.items()}
    assert {name for name, each in wanted.items() if each == "int8-smoothed"} == {"diffusion_transformer"}
    assert {name for name, each in wanted.items() if each == "int8"} == {
        "text_encoder",
        "prompt_upsampler",
        "text_safety",
    }
