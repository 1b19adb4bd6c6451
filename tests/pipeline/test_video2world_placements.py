"""Video2World on meshes, streamed and offloaded: the same latents, and the same condition and frames."""

import numpy as np
import pytest

from jax_interp import Video2World
from jax_interp.runtime.placement import Placement
from tests import golden
from tests.pipeline.test_video2world import embedding, latents, recorded
from tests.tolerances import NETWORK_F32


def sampled(world, guidance=7.0):
    """Latents of a single step, whose values are the network's; and frames."""
    run = recorded("L5_float32_A_g7_n6")
    condition, noise = latents(run["condition_latent"]), latents(run["initial_noise"])
    found = world.sample(
        condition, embedding(0), embedding(2), guidance, num_steps=1, num_condition_frames=2, initial_noise=noise
    )
    return np.asarray(found)


@pytest.fixture(scope="module")
def alone(worlds):
    return sampled(worlds["float32"])


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data=2", "data=4", "sequence=2", "tensor=3"])
def test_a_mesh_gives_the_same_latents(converted_world, alone, mesh):
    world = Video2World.from_pretrained(converted_world, dtype="float32", mesh=mesh)
    assert golden.relative_l2(sampled(world), alone) < NETWORK_F32


@pytest.mark.slow
def test_more_devices_than_branches(converted_world, worlds):
    """Rows that only fill up a device are left out again."""
    world = Video2World.from_pretrained(converted_world, dtype="float32", mesh="data=2")
    assert golden.relative_l2(sampled(world, 0.0), sampled(worlds["float32"], 0.0)) < NETWORK_F32


@pytest.mark.slow
def test_encoding_and_decoding_on_a_mesh(converted_world, worlds):
    world = Video2World.from_pretrained(converted_world, dtype="float32", mesh="sequence=2")
    clip, size = recorded("inputs")["clip"], {"num_video_frames": 17, "height": 48, "width": 64}
    ours, alone = (each.encode_condition(clip, 9, **size) for each in (world, worlds["float32"]))
    assert golden.relative_l2(ours, alone) < 2**-8
    frames = [each.decode(np.asarray(alone)) for each in (world, worlds["float32"])]
    assert np.abs(frames[0].astype(int) - frames[1]).max() <= 1


@pytest.mark.parametrize("kind", ["streamed", pytest.param("offloaded", marks=pytest.mark.slow)])
def test_placements_give_the_same_bits(converted_world, alone, kind):
    world = Video2World.from_pretrained(converted_world, dtype="float32")
    world.place({"diffusion_transformer": kind, "tokenizer": "offloaded"})
    assert world.placements["diffusion_transformer"] == Placement(kind)
    assert np.array_equal(sampled(world), alone)


@pytest.mark.slow
def test_networks_that_were_unloaded_load_again(converted_world, alone):
    world = Video2World.from_pretrained(converted_world, dtype="float32")
    sampled(world)
    world.unload()
    assert np.array_equal(sampled(world), alone)
