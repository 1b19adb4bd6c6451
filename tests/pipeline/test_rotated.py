"""Networks in 8 bits whose channels are rotated: where they live, on meshes, stored, and what is said about them."""

from functools import cache

import pytest

from jax_interp import Interpolator
from jax_interp.components import TABLE
from jax_interp.config import Precision, Quantization
from jax_interp.errors import UsageError
from jax_interp.pipeline.jobs.record import fingerprint, networks
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stage_classes import planned
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import ALONE, MeshShape
from jax_interp.runtime.placement import RESIDENT, Placement
from tests import golden
from tests.changed_weights import change_weight, nudge
from tests.pipeline.test_many_devices import PLACEMENTS, Quick
from tests.pipeline.test_quantized import QuickText, denoiser, run
from tests.tolerances import INT8_FLIPPED, INT8_RATIO, NETWORK_F32

PRECISIONS: list[Precision] = ["float32", "bfloat16"]


def rotated(converted, shape=ALONE):
    return denoiser(converted, shape, quantization="int8-rotated")


@cache
def expected(converted):
    """On one device, resident."""
    stage = rotated(converted)
    stage.place(RESIDENT)
    return run(stage)


def check_equal(ours, right):
    """A pair at least is equal, and the others differ by what follows from few integers.

    A rotation hands the last bits of a channel on to its group, so that more values than without lie between two
    integers.
    """
    check_errors([golden.relative_l2(mine[1:-1], theirs[1:-1]) for mine, theirs in zip(ours, right, strict=True)])


def check_errors(errors):
    assert min(errors) < NETWORK_F32, errors
    assert max(errors) < INT8_FLIPPED, errors


def test_every_placement_gives_the_same_bits(converted):
    stage, right = rotated(converted), expected(converted)
    for name in ("streamed", "offloaded"):
        stage.place(PLACEMENTS[name])
        assert run(stage).tobytes() == right.tobytes(), name
    stage.place(RESIDENT)


@pytest.mark.slow
def test_a_stored_network_gives_the_bits_of_quantising_at_load(converted, rotated_folder):
    stage = Quick(find_component(rotated_folder, "diffusion_transformer"), "float32")
    assert run(stage).tobytes() == expected(converted).tobytes()


MESHES = [
    MeshShape(tensor=2),
    pytest.param(MeshShape(2, 2, 2), marks=pytest.mark.slow),
    pytest.param(MeshShape(1, 1, 4), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_devices_that_share_heads_and_hidden_units_give_what_one_gives(converted, shape):
    """Of 4 heads with 32 channels two devices have 64 channels of 128 each, of which the groups are 32."""
    stage = rotated(converted, shape)
    check_equal(run(stage), expected(converted))
    change_weight(stage, "blocks/mlp/down/int8_kernel", lambda array: nudge(array, 64))
    with pytest.raises(AssertionError):
        check_equal(run(stage), expected(converted))
    denoiser.cache_clear()


@pytest.mark.slow
def test_text_on_a_mesh(converted):
    found = find_component(converted, "text_encoder").quantized("int8-rotated")
    alone, spread = QuickText(found, "float32"), QuickText(found, "float32", DeviceMesh(MeshShape(tensor=2)))
    spread.place(Placement("streamed"))
    texts = ("rain on a tin roof", "a street", "snow", "a river in the evening")
    check_errors([golden.relative_l2(spread.encode(text).rows, alone.encode(text).rows) for text in texts])


def test_networks_without_outliers_stay_as_accurate(converted):
    found = find_component(converted, "text_encoder")
    text = "rain on a tin roof"
    right, half = (QuickText(found, precision).encode(text).rows for precision in PRECISIONS)
    ours = QuickText(found.quantized("int8-rotated"), "float32").encode(text).rows
    assert 0 < golden.relative_l2(ours, right) < INT8_RATIO * golden.relative_l2(half, right)


# What is said about them.


def test_the_record_and_the_fingerprint_know_it(converted, rotated_folder):
    settings, inputs = InterpolationSettings(height=64, width=96), (golden.CLIP,)
    opened = {
        kind: Interpolator.from_pretrained(converted, embedding_cache=False, quantization=kind)
        for kind in ("none", "int8", "int8-rotated")
    }
    opened["stored"] = Interpolator.from_pretrained(rotated_folder, embedding_cache=False)
    identities = {name: fingerprint(each, settings, inputs) for name, each in opened.items()}
    assert identities["stored"] == identities["int8-rotated"]
    assert len(set(identities.values())) == 3
    encoders = [each.text_encoder for each in opened.values()]
    texts = {encoder.network.identity for encoder in encoders if encoder and encoder.network}
    assert len(texts) == 4  # a stored network may have been made of rounded weights
    facts = networks(opened["stored"])
    assert facts["diffusion_transformer"]["quantization"] == facts["text_encoder"]["quantization"] == "int8-rotated"
    assert "quantization" not in facts["tokenizer"]
    plans = {name: each.planner(settings).footprints() for name, each in opened.items()}
    assert plans["int8"] == plans["int8-rotated"] == plans["stored"] != plans["none"]


def test_one_kind_of_8_bits_is_not_made_of_the_other(quantized, rotated_folder):
    kinds: list[Quantization] = ["int8", "int8-rotated"]
    for folder, stored, wanted in zip((quantized, rotated_folder), kinds, reversed(kinds), strict=True):
        with pytest.raises(UsageError, match=f"stored in {stored}, from which .* leave out --quantization {wanted},"):
            Interpolator.from_pretrained(folder, quantization=wanted)


def test_language_models_take_it_as_int8():
    wanted = {name: row.runs_in("int8-rotated") for name, row in TABLE.items()}
    assert {name for name, each in wanted.items() if each == "int8-rotated"} == {
        "diffusion_transformer",
        "text_encoder",
    }
    assert {name for name, each in wanted.items() if each == "int8"} == {"prompt_upsampler", "text_safety"}
    for row in TABLE.values():
        assert row.runs_in("none") == "none"
        assert row.runs_in("int8") == ("int8" if row.quantizes else "none")
    config = next(iter(TABLE["prompt_upsampler"].released.values()))
    plans = planned("prompt_upsampler", config, "bfloat16", "int8-rotated")
    assert [network.quantization for network in plans.values()] == ["none", "int8"]
