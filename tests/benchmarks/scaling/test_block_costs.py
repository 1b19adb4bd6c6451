"""The formulas for what a block sends, held against the collectives in its compiled programs."""

import re
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.scaling.block_costs import EXCHANGED, SUMS, BlockCosts
from jax_interp.config import DIT_7B, DIT_14B
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.sharding import gathered_specs, sharded_specs

HEIGHT, WIDTH, FRAMES = 48, 80, 3
COLLECTIVE = re.compile(r"= (.*?) (all-to-all|all-reduce|all-gather|reduce-scatter|collective-permute)(?:-start)?\(")
"""A line of HLO that begins one, with the shapes that come out."""


def collective_bytes(hlo: str) -> Counter:
    """Bytes of float32 that come out of each kind of collective on one device."""
    found = Counter()
    for line in hlo.splitlines():
        if match := COLLECTIVE.search(line):
            shapes = re.findall(r"f32\[([\d,]*)\]", match[1])
            assert shapes, line
            found[match[2]] += sum(4 * int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)
    return found


def abstract_params(denoiser, part, specs):
    abstract = denoiser.network.part_abstract(part)
    shardings = denoiser.devices.shardings(abstract, specs(abstract))
    return jax.tree.map(lambda leaf, sharding: leaf.update(sharding=sharding), abstract, shardings)


def block_collectives(denoiser, *, divided=False):
    """Those of both parts of a block; with `divided` each gathers the other's weights."""
    devices, config = denoiser.devices, denoiser.config
    shape = (devices.shape.data, FRAMES, HEIGHT // 8, WIDTH // 8)
    text = jnp.zeros((shape[0], 512, config.text_width))
    mask = jnp.zeros((*shape, 1))
    inputs = jnp.zeros((*shape, config.latent_channels)), jnp.zeros(shape[0]), text, mask, mask
    angles = jnp.zeros((FRAMES * HEIGHT * WIDTH // 16**2, config.head_width // 2))
    cells, shared = denoiser._embed(denoiser.outer, *devices.put((*inputs, angles)))
    found = Counter()
    for part, (program, static) in enumerate(
        ((denoiser._attend, {"cells": HEIGHT * WIDTH // 16**2}), (denoiser._transform, {}))
    ):
        ahead = abstract_params(denoiser, 1 - part, lambda a: sharded_specs(a, devices)) if divided else None
        params = abstract_params(denoiser, part, gathered_specs)
        found += collective_bytes(program.lower(params, cells, shared, ahead, **static).compile().as_text())
    return found


def made(converted, **axes):
    denoiser = Denoiser(
        find_component(converted, "diffusion_transformer"), "float32", devices=DeviceMesh(MeshShape(**axes))
    )
    costs = BlockCosts(
        denoiser.config,
        denoiser.devices.shape,
        HEIGHT,
        WIDTH,
        FRAMES,
        itemsize=4,
        num_shards=denoiser.devices.num_shards,
    )
    return denoiser, costs


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        {"data": 2},
        {"sequence": 2},
        {"sequence": 4},  # 15 cells a frame: one is added
        {"sequence": 3},  # heads are added
        {"tensor": 2},
        {"sequence": 2, "tensor": 2},
    ],
    ids=str,
)
def test_bytes_between_devices(converted, axes):
    denoiser, costs = made(converted, **axes)
    expected = Counter({"all-to-all": EXCHANGED * costs.exchanged, "all-reduce": SUMS * costs.summed})
    assert block_collectives(denoiser) == +expected


@pytest.mark.parametrize("axes", [{"sequence": 2}, {"data": 2, "sequence": 2}, {"sequence": 2, "tensor": 2}], ids=str)
def test_bytes_of_gathered_weights(converted, axes):
    denoiser, costs = made(converted, **axes)
    assert block_collectives(denoiser, divided=True)["all-gather"] == costs.weights


def test_other_costs_would_be_noticed(converted):
    denoiser, costs = made(converted, sequence=2)
    wrong = replace(costs, config=replace(costs.config, head_width=costs.config.head_width + 2))
    assert block_collectives(denoiser)["all-to-all"] != EXCHANGED * wrong.exchanged


def test_a_device_sends_all_but_its_own_shard():
    costs = BlockCosts(DIT_7B, MeshShape(sequence=4))
    assert costs.exchanged == 10560 // 4 * 4096 * 2
    assert costs.sent_by_exchange == 3 * costs.exchanged
    assert BlockCosts(DIT_7B, MeshShape(data=4)).sent_by_exchange == 0
    assert BlockCosts(DIT_7B, MeshShape(tensor=4)).sent_by_sums == 3 * 2 * 3 / 4 * 10560 * 4096 * 2
    assert costs.shard == costs.weights / 4
    assert costs.shard + costs.received_by_gather == costs.weights


@pytest.mark.parametrize(("config", "tflop", "gigabytes"), [(DIT_7B, 193, 14.3), (DIT_14B, 366, 28.3)])
def test_whole_evaluation(config, tflop, gigabytes):
    costs = BlockCosts(config, MeshShape())
    assert round(config.num_blocks * costs.flop / 1e12) == tflop
    assert round(config.num_blocks * costs.weights / 1e9, 1) == gigabytes


def test_added_heads_are_work():
    alone, spread = (BlockCosts(DIT_7B, MeshShape(sequence=n)) for n in (1, 64))
    assert spread.heads == 64
    assert 1.3 < 64 * spread.flop / alone.flop < 1.4
