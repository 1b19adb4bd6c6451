"""How many bytes each network takes, on the device and on the host, by what a run asks of it.

Parameters are counted exactly. Activations are what one compiled block holds at its widest point; the constants were
fitted to measurements on an H100 (`benchmarks/results/` has predicted and measured peaks side by side).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax.numpy as jnp

from jax_interp.config import (
    CV8X8X8_720P,
    DecoderConfig,
    DiTConfig,
    PixtralVisionConfig,
    RetinaFaceConfig,
    T5Config,
    TokenizerConfig,
    VideoSafetyConfig,
)
from jax_interp.diffusion.guidance import branches
from jax_interp.guardrails.faces import BATCH_SIZE as FACES_AT_ONCE
from jax_interp.guardrails.frame_safety import BATCH_SIZE as FRAMES_AT_ONCE
from jax_interp.models.decoder_lm import DecoderLM
from jax_interp.models.dit import DiT
from jax_interp.models.pixtral_vision import PixtralVision
from jax_interp.models.retinaface import RetinaFace
from jax_interp.models.safety_head import VideoSafety
from jax_interp.models.t5 import T5Encoder
from jax_interp.models.tokenizer import Tokenizer
from jax_interp.nn.params import Network, StackedNetwork
from jax_interp.pipeline.prompt.embeddings import PROMPT_TOKENS
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.block_stream import WAITING
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh import ALONE, AXES, MeshShape
from jax_interp.runtime.placement import Kind, Placement
from jax_interp.runtime.sharding import device_bytes
from jax_interp.types import Precision

GIB = 2**30
WORKSPACE = 9 * GIB // 16
"""What every stage takes beside parameters and activations: where XLA tries out kernels, libraries' workspaces."""
LATENT_CELL = CV8X8X8_720P.compression
"""Pixels, and frames, that a latent cell spans."""
ENCODE_BYTES, DECODE_BYTES = 112, 140
"""Activations of the tokenizer for one pixel of one frame of the clip."""
PICTURE_PATCHES = 64 * 64
"""Of the largest picture that the prompt upsampler looks at."""
CONVERSATION = 1024
"""Tokens of the longest question and answer that is planned for, beside those of a picture."""
PREFILL_BYTES = 11
"""Activations of a language model for one hidden unit of one token of a prompt."""
FACE_BYTES = 220
"""Activations of the face detector for one pixel of one frame."""


@dataclass(frozen=True)
class Workload:
    """What decides the size of activations."""

    height: int = 704
    width: int = 1280
    num_video_frames: int = 10
    pairs_per_batch: int = 1
    branches: int = 1
    """Evaluations of the network that the guidance needs in a step."""
    mesh: MeshShape = ALONE
    """Devices that share the work; all memory is counted for one of them."""
    share_axes: tuple[str, ...] = AXES[:2]
    """Along which weights can be divided (`runtime.mesh.DeviceMesh.share_axes`)."""
    picture_patches: int = PICTURE_PATCHES
    """Of the picture that a language model reads about; 0 for one that reads words alone."""

    @classmethod
    def of(
        cls, settings: InterpolationSettings, mesh: MeshShape = ALONE, share_axes: tuple[str, ...] = AXES[:2]
    ) -> "Workload":
        """What a run with `settings` asks for."""
        return cls(
            mesh=mesh,
            share_axes=share_axes,
            height=settings.height,
            width=settings.width,
            num_video_frames=settings.num_video_frames,
            pairs_per_batch=settings.pairs_per_batch,
            branches=len(branches(settings.sampling.guidance)),
        )

    @property
    def rows(self) -> int:
        """Evaluations of the network that a device works on at a time."""
        return self.pairs_per_batch * self.mesh.pairs_at_once(self.branches) * self.branches // self.mesh.data


@dataclass(frozen=True)
class Footprint:
    """The bytes of one network, on one device unless it says otherwise."""

    outer: int
    """Parameters outside of the stack of blocks."""
    block: int
    share: int
    """What it holds of a block that is divided among devices."""
    num_parts: int
    """Of a block; each moves by itself."""
    num_blocks: int
    activations: int
    """Largest need of its stage beside parameters."""
    params: int
    """All parameters, on however many devices."""
    kept_on_host: Collection[Kind] = ("offloaded", "streamed")
    """Placements in which parameters wait there; in others they are read from disk for every stage."""
    leaves_host: bool = False
    """Whether they wait there for their own stage only."""

    def in_stage(self, placement: Placement) -> int:
        """Bytes on the device at the peak of its stage."""
        stay = placement.blocks_on_device(self.num_blocks)
        each = self._each(placement)
        # `WAITING` parts are on their way beside the computing one (`runtime.block_stream`); of what is divided, the
        # computing part and the one after it are there whole (`runtime.gather_ahead`).
        passing = min((1 + WAITING) * each // max(self.num_parts, 1), (self.num_blocks - stay) * each)
        together = 2 * self.block // max(self.num_parts, 1) if each < self.block else 0
        return self.outer + stay * each + passing + together + self.activations + WORKSPACE

    def at_rest(self, placement: Placement) -> int:
        """Bytes on the device while other stages run."""
        return self.outer + self.num_blocks * self._each(placement) if placement.stays else 0

    def on_host(self, placement: Placement) -> int:
        """Bytes that wait in host memory."""
        return self.params if placement.kind in self.kept_on_host else 0

    def _each(self, placement: Placement) -> int:
        return self.share if placement.shares else self.block


def waiting_on_host(footprints: Mapping[str, Footprint], placements: Mapping[str, Placement]) -> int:
    """Most bytes of parameters that wait in host memory at a time."""
    bytes_of = {name: found.on_host(placements[name]) for name, found in footprints.items()}
    passing = [bytes_of[name] for name, found in footprints.items() if found.leaves_host]
    return sum(bytes_of.values()) - sum(passing) + max(passing, default=0)


def footprint(config: Any, precision: Precision, workload: Workload) -> Footprint:
    """The bytes of the network `config` in `precision`."""
    activations = _ACTIVATIONS[type(config)](config, jnp.dtype(precision).itemsize, workload)
    return replace(_parameters(config, precision, workload.mesh, workload.share_axes), activations=activations)


@cache
def _parameters(config: Any, precision: Precision, mesh: MeshShape, share_axes: tuple[str, ...]) -> Footprint:
    """The footprint without activations."""
    dtype = jnp.dtype(precision)
    build = _NETWORKS[type(config)]
    if isinstance(config, TokenizerConfig | RetinaFaceConfig):
        whole = nbytes(Network(lambda rngs: build(config, dtype=dtype, rngs=rngs)).abstract)
        return Footprint(whole, block=0, share=0, num_parts=0, num_blocks=0, activations=0, params=whole)
    host_only = ("embedding",) if isinstance(config, DecoderConfig) and not config.tied_head else ()
    network = StackedNetwork(lambda rngs: build(config, dtype=dtype, rngs=rngs), host_only)
    outer = nbytes(network.outer_abstract)
    block, share = device_bytes(network.block_abstract, mesh, share_axes)
    return Footprint(
        outer,
        block,
        share,
        num_parts=len(network.parts),
        num_blocks=network.num_blocks,
        activations=0,
        params=outer + network.num_blocks * nbytes(network.block_abstract),
        kept_on_host=_KEPT_ON_HOST.get(type(config), Footprint.kept_on_host),
        leaves_host=isinstance(config, DecoderConfig),
    )


_NETWORKS: dict[type, Any] = {
    DiTConfig: DiT,
    TokenizerConfig: Tokenizer,
    T5Config: T5Encoder,
    DecoderConfig: DecoderLM,
    PixtralVisionConfig: PixtralVision,
    VideoSafetyConfig: VideoSafety,
    RetinaFaceConfig: RetinaFace,
}
_KEPT_ON_HOST: dict[type, tuple[Kind, ...]] = {T5Config: (), PixtralVisionConfig: (), DecoderConfig: ("streamed",)}


def _dit_activations(config: DiTConfig, size: int, workload: Workload) -> int:
    """The residual stream, its normalised copy and the MLP's two hidden ones for each row."""
    cell = LATENT_CELL * config.patch_size
    frames = (workload.num_video_frames - 2) // LATENT_CELL + 2
    tokens = frames * (workload.height // cell) * (workload.width // cell)
    hidden = config.mlp_width // workload.mesh.tensor
    return -(-tokens // workload.mesh.sequence) * size * workload.rows * (2 * config.width + 2 * hidden)


def _tokenizer_activations(config: TokenizerConfig, size: int, workload: Workload) -> int:
    pixels = (workload.num_video_frames - 1) * workload.height * workload.width
    widths = config.channels / 128
    return int(max(ENCODE_BYTES, DECODE_BYTES) * pixels * widths * size / 2)


def _t5_activations(config: T5Config, size: int, workload: Workload) -> int:
    """Float32 position bias, scores and weights; queries, keys, values and context; the hidden MLP twice."""
    scores = 3 * 4 * config.num_heads * PROMPT_TOKENS**2
    hidden = size * PROMPT_TOKENS * (4 * config.num_heads * config.head_width + 2 * config.mlp_width)
    return (scores + hidden) // workload.mesh.tensor


def _decoder_activations(config: DecoderConfig, size: int, workload: Workload) -> int:
    """The cache of all blocks, and one block's hidden units of the prompt or another copy of the head.

    XLA tries out kernels on operands of its own, and no other product has one as large as the head.
    """
    tokens = min(workload.picture_patches + CONVERSATION, config.context_length)
    cache_bytes = tokens * config.num_layers * 2 * config.num_kv_heads * config.head_width * size
    prefill = tokens * config.mlp_width * PREFILL_BYTES * size // 2
    head = config.vocab_size * config.width * size
    return cache_bytes // workload.mesh.tensor + max(prefill // workload.mesh.tensor, head)


def _pixtral_vision_activations(config: PixtralVisionConfig, size: int, workload: Workload) -> int:
    """Of every patch the residual stream, queries, keys, values and context, and the hidden MLP."""
    inner = config.num_heads * config.head_width
    each = PICTURE_PATCHES * (2 * config.width + 4 * inner + PREFILL_BYTES * config.mlp_width // 2)
    return size * each + PICTURE_PATCHES * 3 * config.text_width * size


def _video_safety_activations(config: VideoSafetyConfig, size: int, workload: Workload) -> int:
    """A batch of frames: the residual stream, queries, keys, values and context, and the hidden MLP twice."""
    tower = config.tower
    return FRAMES_AT_ONCE * tower.num_patches * size * (6 * tower.width + 2 * tower.mlp_width)


def _face_activations(config: RetinaFaceConfig, size: int, workload: Workload) -> int:
    return FACES_AT_ONCE * workload.height * workload.width * FACE_BYTES * config.width // 64 * size // 4


_ACTIVATIONS: dict[type, Any] = {
    DiTConfig: _dit_activations,
    TokenizerConfig: _tokenizer_activations,
    T5Config: _t5_activations,
    DecoderConfig: _decoder_activations,
    PixtralVisionConfig: _pixtral_vision_activations,
    VideoSafetyConfig: _video_safety_activations,
    RetinaFaceConfig: _face_activations,
}
