"""How much memory a run takes, and which placement of its networks fits into a given amount, before anything is loaded.

Parameters are counted exactly. Activations are what one compiled block holds at its widest point; the constants were
fitted to measurements on an H100 (`benchmarks/results/memory.jsonl` has predicted and measured peaks side by side).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax.numpy as jnp

from jax_interp.config import CV8X8X8_720P, DiTConfig, T5Config, TokenizerConfig
from jax_interp.diffusion.guidance import branches
from jax_interp.errors import UsageError
from jax_interp.models.dit import DiT
from jax_interp.models.t5 import T5Encoder
from jax_interp.models.tokenizer import Tokenizer
from jax_interp.nn.params import Network, StackedNetwork
from jax_interp.pipeline.embeddings import PROMPT_TOKENS
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.block_stream import WAITING
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh import ALONE, AXES, MeshShape
from jax_interp.runtime.placement import NETWORKS, RESIDENT, Placement
from jax_interp.runtime.sharding import device_bytes
from jax_interp.types import Precision

GIB = 2**30
WORKSPACE = 9 * GIB // 16
"""What every stage takes beside parameters and activations: where XLA tries out kernels, libraries' workspaces."""
PROCESS = 9 * GIB // 8
"""What a process takes of a GPU beside its arrays: CUDA's context, kernels and library handles."""
LATENT_CELL = CV8X8X8_720P.compression
"""Pixels, and frames, that a latent cell spans."""
ENCODE_BYTES, DECODE_BYTES = 112, 140
"""Activations of the tokenizer for one pixel of one frame of the clip."""
MOST_PAIRS = 2
"""Pairs that share a pass where weights are streamed: enough to hide their copies behind the arithmetic."""


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
    kept_on_host: bool = True

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
        return 0 if placement.stays or not self.kept_on_host else self.params

    def _each(self, placement: Placement) -> int:
        return self.share if placement.shares else self.block


@dataclass(frozen=True)
class Plan:
    """A placement for every network, and what it takes."""

    placements: Mapping[str, Placement]
    workload: Workload
    stages: Mapping[str, int]
    """Predicted peak bytes of every stage on the device, arrays only."""
    host: int
    """Bytes of parameters in host memory."""

    @property
    def peak(self) -> int:
        """Predicted peak bytes of the run on the device, arrays only."""
        return max(self.stages.values())

    @property
    def largest_stage(self) -> str:
        """The network whose stage sets the peak."""
        return max(self.stages, key=lambda name: self.stages[name])

    @property
    def process_peak(self) -> int:
        """Predicted bytes that the GPU's driver shows for the process."""
        return self.peak + PROCESS


def footprint(config: Any, precision: Precision, workload: Workload) -> Footprint:
    """The bytes of the network `config` in `precision`."""
    activations = _ACTIVATIONS[type(config)](config, jnp.dtype(precision).itemsize, workload)
    return replace(_parameters(config, precision, workload.mesh, workload.share_axes), activations=activations)


@cache
def _parameters(config: Any, precision: Precision, mesh: MeshShape, share_axes: tuple[str, ...]) -> Footprint:
    """The footprint without activations."""
    dtype = jnp.dtype(precision)
    if isinstance(config, TokenizerConfig):
        whole = nbytes(Network(lambda rngs: Tokenizer(config, dtype=dtype, rngs=rngs)).abstract)
        return Footprint(whole, block=0, share=0, num_parts=0, num_blocks=0, activations=0, params=whole)
    build: Any = DiT if isinstance(config, DiTConfig) else T5Encoder
    network = StackedNetwork(lambda rngs: build(config, dtype=dtype, rngs=rngs))
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
        kept_on_host=build is DiT,
    )


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


_ACTIVATIONS = {DiTConfig: _dit_activations, TokenizerConfig: _tokenizer_activations, T5Config: _t5_activations}


@dataclass(frozen=True)
class Planner:
    """The networks of a run and what they are asked to do."""

    configs: Mapping[str, Any]
    """Configuration of every network by its name in `runtime.placement.NETWORKS`."""
    precisions: Mapping[str, Precision]
    workload: Workload

    def footprints(self, workload: Workload | None = None) -> dict[str, Footprint]:
        """Bytes of every network."""
        workload = workload or self.workload
        return {name: footprint(config, self.precisions[name], workload) for name, config in self.configs.items()}

    def plan(self, placements: Mapping[str, Placement], pairs_per_batch: int | None = None) -> Plan:
        """What `placements` take; networks that are not named are resident."""
        workload = replace(self.workload, pairs_per_batch=pairs_per_batch or self.workload.pairs_per_batch)
        prints = self.footprints(workload)
        full = {name: placements.get(name, RESIDENT) for name in prints}
        rest = {name: found.at_rest(full[name]) for name, found in prints.items()}
        stages = {name: found.in_stage(full[name]) + sum(rest.values()) - rest[name] for name, found in prints.items()}
        return Plan(full, workload, stages, sum(found.on_host(full[name]) for name, found in prints.items()))

    def within(
        self,
        budget: int,
        fixed: Mapping[str, Placement] | None = None,
        *,
        pairs_per_batch: int | None = None,
        num_pairs: int = 1,
    ) -> Plan:
        """The fastest plan whose peak, the process' own share included, is at most `budget` bytes.

        `fixed` are placements that the caller insists on. `pairs_per_batch=None` chooses it too, up to `num_pairs`.

        Raises:
            UsageError: nothing fits; says what the smallest plan takes.
        """
        for placements in self._by_speed(fixed or {}):
            for pairs in [pairs_per_batch] if pairs_per_batch else _pair_counts(placements, num_pairs):
                plan = self.plan(placements, pairs)
                if plan.process_peak <= budget:
                    return self._with_resident_blocks(plan, budget, fixed or {})
        smallest = self.smallest(fixed, pairs_per_batch=pairs_per_batch or 1)
        narrower = smallest.largest_stage == "text_encoder" and self.precisions["text_encoder"] == "float32"
        remedy = "--text-encoder-dtype bfloat16" if narrower else "a smaller --height and --width"
        raise UsageError(
            f"{gib(budget)} of GPU memory are too little: the smallest plan at {self.workload.height}×"
            f"{self.workload.width} takes {gib_or_more(smallest.process_peak)} ({describe(smallest)}). Give more"
            f" memory, or {remedy}"
        )

    def strategies(self, pairs_per_batch: int | None = None) -> dict[str, Plan]:
        """Plans to compare, by what they do: networks offloaded one more at a time, then all of them streamed.

        The order of offloading is upstream's. `pairs_per_batch=None` is one pair, and of the streamed plans one each
        for one pair and for as many as `within` would choose.
        """
        placements: dict[str, Placement] = {}
        plans = {"nothing offloaded": self.plan(placements, pairs_per_batch or 1)}
        for name in sorted(self.configs, key=NETWORKS.index):
            placements[name] = Placement("offloaded")
            plans[f"+ {name}"] = self.plan(placements, pairs_per_batch or 1)
        if self.workload.mesh.along(self.workload.share_axes) > 1:
            plans["all sharded"] = self.plan(
                {name: Placement("sharded") for name in self.configs}, pairs_per_batch or 1
            )
        streamed = {name: Placement("streamed") for name in self.configs}
        for pairs in [pairs_per_batch] if pairs_per_batch else range(1, MOST_PAIRS + 1):
            plans[f"all streamed, {pairs} a pass"] = self.plan(streamed, pairs)
        return plans

    def smallest(self, fixed: Mapping[str, Placement] | None = None, *, pairs_per_batch: int = 1) -> Plan:
        """The plan with the lowest peak."""
        plans = [self.plan(placements, pairs_per_batch) for placements in self._by_speed(fixed or {})]
        return min(plans, key=lambda plan: plan.peak)

    def advice(self, placements: Mapping[str, Placement], *, on_host: bool) -> str:
        """What to tell a user whose memory ran out with `placements`, on the host or on the device."""
        current, smallest = self.plan(placements), self.smallest()
        said = (
            f"at {self.workload.height}×{self.workload.width}, with {describe(current)}; the plan counted on"
            f" {gib(current.process_peak)} of GPU memory and {gib(current.host)} of host memory."
        )
        if on_host:
            resident = self.plan({})
            return (
                f"{said} It was the host's memory: free some, or keep the networks on the GPU, which takes"
                f" {gib_or_more(resident.process_peak)} there (--memory-budget {gib_or_more(resident.process_peak)})"
            )
        if smallest.process_peak >= current.process_peak:
            return f"{said} No plan takes less: give it a larger GPU, or a smaller --height and --width"
        return (
            f"{said} The smallest plan takes {gib(smallest.process_peak)} and {gib(smallest.host)}"
            f" ({describe(smallest)}): run again with --memory-budget and what the GPU has free, at least"
            f" {gib_or_more(smallest.process_peak)}"
        )

    def _by_speed(self, fixed: Mapping[str, Placement]) -> Iterator[dict[str, Placement]]:
        """Placements from the fastest to the smallest: what a run uses least leaves the device first."""
        dit = "diffusion_transformer"
        rungs = [{}, {"text_encoder": "offloaded"}, {"text_encoder": "streamed"}]
        rungs.append({**rungs[-1], "tokenizer": "offloaded"})
        if self.workload.mesh.along(self.workload.share_axes) > 1:
            rungs += [{"text_encoder": "streamed", dit: "sharded"}, {**rungs[-1], dit: "sharded"}]
        rungs += [{**rungs[3], dit: "offloaded"}, {**rungs[3], dit: "streamed"}]
        for rung in rungs:
            yield {name: fixed.get(name, Placement(rung.get(name, "resident"))) for name in self.configs}

    def _with_resident_blocks(self, plan: Plan, budget: int, fixed: Mapping[str, Placement]) -> Plan:
        """`plan` with as many blocks of a streamed transformer on the device as `budget` has room for."""
        name = "diffusion_transformer"
        if plan.placements[name].kind != "streamed" or name in fixed:
            return plan
        found = self.footprints(plan.workload)[name]
        room = (budget - PROCESS - plan.stages[name]) // found.share
        blocks = max(0, min(room, found.num_blocks - 2))
        placements = {**plan.placements, name: Placement("streamed", blocks)}
        return self.plan(placements, plan.workload.pairs_per_batch)


def _pair_counts(placements: Mapping[str, Placement], num_pairs: int) -> list[int]:
    """Pairs a pass to try, best first: they only gain where weights are streamed, which more pairs then share."""
    if placements["diffusion_transformer"].kind != "streamed":
        return [1]
    return list(range(max(1, min(num_pairs, MOST_PAIRS)), 0, -1))


def describe(plan: Plan) -> str:
    """One line: every network's placement."""
    parts = []
    for name, placement in plan.placements.items():
        blocks = f", {placement.resident_blocks} blocks resident" if placement.resident_blocks else ""
        parts.append(f"{name} {placement.kind}{blocks}")
    pairs = plan.workload.pairs_per_batch
    return ", ".join(parts) + (f"; {pairs} pairs a pass" if pairs > 1 else "")


def gib(size: int) -> str:
    """`size` bytes for people."""
    return f"{size / GIB:.1f} GiB"


def gib_or_more(size: int) -> str:
    """As `gib`, but rounded up: a budget of that much holds `size`."""
    return f"{math.ceil(10 * size / GIB) / 10:.1f} GiB"
