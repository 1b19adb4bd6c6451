"""The memory footprint of a training run on each device and on the host, before anything is loaded."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jax_interp.config import DiTConfig
from jax_interp.nn.params import flatten
from jax_interp.runtime.block_stream import PREFETCHED_PARTS
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh_shape import ALONE, AXES, MeshShape
from jax_interp.runtime.sharding import device_bytes
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.lora import split_adapter
from jax_interp.train.steps.step import network_of
from jax_interp.types import Params

BLOCK_WIDTHS = 34
"""The activations of a block at their peak in the backward pass, in vectors of the network's width a token: fitted to a
gradient of the 7B network at 704×1280 on an H100 (18.5 GiB, of which 13.5 are weights)."""


@dataclass(frozen=True)
class TrainingFootprint:
    """The memory of a run in bytes; all but `host` is that of one device."""

    weights: int
    """The weights that the network computes with, frozen ones included."""
    gradients: int
    optimizer: int
    """Moments, averages and, where the network does not compute with them, float32 weights."""
    activations: int
    host: int

    @property
    def peak(self) -> int:
        """The sum of all on a device, which are there at the same time."""
        return self.weights + self.gradients + self.optimizer + self.activations


def training_footprint(
    config: DiTConfig, settings: TrainSettings, latents: tuple[int, int, int, int], mesh: MeshShape = ALONE
) -> TrainingFootprint:
    """Predict the footprint of a run with latents of the shape [T, H, W, C]."""
    network = network_of(config, settings)
    trained, frozen = network.abstract, {}
    if settings.lora is not None:
        trained, frozen = split_adapter(network.abstract)
    compute = jnp.dtype(settings.dtype).itemsize
    on_device = 2 + (settings.optimizer.ema_rate is not None)  # moments, average
    mine, theirs, all_trained = _values(trained, mesh), _values(frozen, mesh), _values(trained, ALONE)
    if settings.optimizer_on_host:
        piece = max(_values(network.block_abstract, ALONE), _values(network.outer_abstract, ALONE))
        waiting = 4 * (1 + on_device)
        weights, gradients = compute * mine, compute * mine
        # One piece's state is worked on, the next one is on its way, and the last one is on its way back.
        optimizer, host = 3 * waiting * piece // mesh.along(AXES[:2]), waiting * all_trained
    else:
        weights, gradients, optimizer, host = compute * theirs + 4 * mine, 4 * mine, 4 * on_device * mine, 0
    if settings.stream_base:
        blocks = compute * _values({"blocks": frozen["blocks"]}, mesh)
        weights += blocks * (PREFETCHED_PARTS + 1) // config.num_blocks - blocks
        host = compute * _values({"blocks": frozen["blocks"]}, ALONE)
    activations = _activations(config, settings, latents, mesh)
    if mesh.size > 1:  # two blocks with all their weights
        activations += 2 * nbytes(network.block_abstract)
    return TrainingFootprint(weights, gradients, optimizer, activations, host)


def _values(abstract: Params, mesh: MeshShape) -> int:
    """Return how many values of `abstract` a device holds."""
    if not abstract:
        return 0
    blocks = abstract.get("blocks", {})
    block = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], jnp.int8), blocks)
    rest = {name: leaf for name, leaf in abstract.items() if name != "blocks"}
    counted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.int8), rest)
    number = next((leaf.shape[0] for _, leaf in flatten(blocks)), 0)
    return number * device_bytes(block, mesh, AXES[:2])[1] + device_bytes(counted, mesh, AXES[:2])[1]


def _activations(
    config: DiTConfig, settings: TrainSettings, latents: tuple[int, int, int, int], mesh: MeshShape
) -> int:
    """Return what is kept of every block, and one block with everything in it."""
    frames, height, width, _ = latents
    tokens = frames * height * width // config.patch_size**2
    rows = math.ceil(settings.batch_size / settings.accumulate / (mesh.data * mesh.sequence))
    # Products: the input, queries, keys, values and two results of self-attention, those of attention to the text, MLP.
    kept = {"inputs": 1, "attention": 2, "products": 9 + config.mlp_width / config.width}[settings.keep]
    widths = math.ceil(kept * config.num_blocks) + BLOCK_WIDTHS
    return rows * tokens * config.width * jnp.dtype(settings.dtype).itemsize * widths
