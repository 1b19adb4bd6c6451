"""Finding a placement of a run's networks that fits a given amount of memory, before anything is loaded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jax_interp.byte_sizes import GIB, gib, gib_or_more
from jax_interp.components import GUARDRAIL_MODELS, PLACEMENT_NAMES, TABLE, placement_name
from jax_interp.config import Precision, Quantization
from jax_interp.errors import UsageError
from jax_interp.pipeline.memory.footprint import Footprint, Stage, footprint, peak_host_bytes
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.mesh_shape import ALONE
from jax_interp.runtime.placement import RESIDENT, Placement

PROCESS_OVERHEAD = 9 * GIB // 8
"""Bytes of GPU memory that a process takes beside its arrays: CUDA's context, kernels and library handles."""
MAX_STREAMED_PAIRS = 2
"""The largest number of pairs to share a pass over streamed weights: it is enough to hide the copies of weights behind
the arithmetic."""
_ALWAYS_USED = {row.placed_as for row in TABLE.values() if row.used == "always"}
OFFLOADED_FIRST = tuple(name for name in PLACEMENT_NAMES if name not in _ALWAYS_USED)
"""The networks that a run uses least, which are the first to be offloaded."""
FRAME_INDEPENDENT = frozenset({"prompt_upsampler", "text_encoder"})
"""The networks whose memory does not depend on the size of a run's frames."""


@dataclass(frozen=True)
class MemoryPlan:
    """A placement for every network, and the memory that a run with it takes."""

    placements: Mapping[str, Placement]
    workload: Workload
    stages: Mapping[str, int]
    """Predicted peak bytes of every stage on the device, for arrays alone."""
    host: int
    """Peak bytes of parameters in host memory."""

    @property
    def peak(self) -> int:
        """The predicted peak bytes of the run on the device, for arrays alone."""
        return max(self.stages.values())

    @property
    def largest_stage(self) -> str:
        """The network whose stage sets the peak."""
        return max(self.stages, key=lambda name: self.stages[name])

    @property
    def process_peak(self) -> int:
        """The predicted peak bytes that the GPU's driver shows for the process."""
        return self.peak + PROCESS_OVERHEAD


@dataclass(frozen=True)
class PlannedNetwork:
    """The facts about a network that a plan depends on."""

    stage: Stage
    """The class of the stage that runs it."""
    config: Any
    precision: Precision
    quantization: Quantization = "none"


@dataclass(frozen=True)
class Planner:
    """The networks of a run and their workload; predicts memory and finds plans."""

    networks: Mapping[str, PlannedNetwork]
    """The networks by the names of `components.ComponentRow.plan_names`."""
    workload: Workload

    @property
    def names(self) -> list[str]:
        """The names by which networks are placed, each once."""
        return list(dict.fromkeys(map(placement_name, self.networks)))

    @property
    def _size(self) -> str:
        """The size of the frames, as "704×1280"; empty if the networks' memory does not depend on it."""
        return "" if FRAME_INDEPENDENT.issuperset(self.names) else f"{self.workload.height}×{self.workload.width}"

    def footprints(self, workload: Workload | None = None) -> dict[str, Footprint]:
        """Return the footprint of every network for `workload`, by default the planner's own."""
        together = workload or self.workload
        # The guardrails run on one device whatever the mesh, and their text classifier reads no pictures.
        guards = replace(together, mesh=ALONE, picture_patches=0)
        return {
            name: footprint(
                network.stage,
                network.config,
                network.precision,
                guards if placement_name(name) == GUARDRAIL_MODELS else together,
                network.quantization,
            )
            for name, network in self.networks.items()
        }

    def plan(self, placements: Mapping[str, Placement], pairs_per_batch: int | None = None) -> MemoryPlan:
        """Return the plan of `placements`; networks that are not named are resident."""
        workload = replace(self.workload, pairs_per_batch=pairs_per_batch or self.workload.pairs_per_batch)
        prints = self.footprints(workload)
        full = {name: placements.get(name, RESIDENT) for name in self.names}
        each = {name: full[placement_name(name)] for name in prints}
        rest = {name: found.at_rest(each[name]) for name, found in prints.items()}
        stages = {name: found.in_stage(each[name]) + sum(rest.values()) - rest[name] for name, found in prints.items()}
        return MemoryPlan(full, workload, stages, peak_host_bytes(prints, each))

    def within(
        self,
        budget: int,
        fixed: Mapping[str, Placement] | None = None,
        *,
        pairs_per_batch: int | None = None,
        num_pairs: int = 1,
    ) -> MemoryPlan:
        """Return the fastest plan whose peak, the process' own overhead included, is at most `budget` bytes.

        `fixed` are placements that the caller insists on. `pairs_per_batch=None` leaves the pairs to the plan too, up
        to `num_pairs`.

        Raises:
            UsageError: nothing fits; the message says what the smallest plan takes.
        """
        for placements in self._by_speed(fixed or {}):
            for pairs in [pairs_per_batch] if pairs_per_batch else _pair_counts(placements, num_pairs):
                plan = self.plan(placements, pairs)
                if plan.process_peak <= budget:
                    return self._with_resident_blocks(plan, budget, fixed or {})
        smallest = self.smallest(fixed, pairs_per_batch=pairs_per_batch or 1)
        at = f" at {self._size}" if self._size else ""
        raise UsageError(
            f"{gib(budget)} of GPU memory are too little: the smallest plan{at} takes"
            f" {gib_or_more(smallest.process_peak)} ({describe(smallest)}; most in the stage of"
            f" {smallest.largest_stage}). Give more memory"
            + "".join(f", or {remedy}" for remedy in self._remedies(smallest, budget, fixed or {}))
        )

    def _remedies(self, smallest: MemoryPlan, budget: int, fixed: Mapping[str, Placement]) -> Iterator[str]:
        """Yield what would help where even `smallest` does not fit."""
        pairs = smallest.workload.pairs_per_batch
        if fixed and self.smallest(pairs_per_batch=pairs).process_peak <= budget:
            yield f"leave it to the plan where {', '.join(fixed)} lives"
        elif smallest.largest_stage == "text_encoder" and self.networks["text_encoder"].precision == "float32":
            yield "pass --text-encoder-dtype bfloat16"
        elif "diffusion_transformer" in self.names:
            half = replace(self.workload, height=self.workload.height // 2, width=self.workload.width // 2)
            if replace(self, workload=half).smallest(fixed, pairs_per_batch=pairs).peak < smallest.peak:
                yield "choose a smaller --height and --width"
        quantized = self._in_8_bits()
        if quantized != self and quantized.smallest(fixed, pairs_per_batch=pairs).process_peak <= budget:
            yield "pass --quantization int8"

    def _in_8_bits(self) -> "Planner":
        """Return the planner of the same run with `--quantization int8`."""
        networks = {
            name: replace(network, quantization="int8")
            if network.stage.QUANTIZES and network.quantization == "none"
            else network
            for name, network in self.networks.items()
        }
        return replace(self, networks=networks)

    def strategies(self, pairs_per_batch: int | None = None) -> dict[str, MemoryPlan]:
        """Return plans to compare, by a description: networks offloaded one more at a time, then all of them streamed.

        The order of offloading is upstream's. `pairs_per_batch=None` means one pair a pass, except that there is a
        streamed plan for every number of pairs that `within` may choose.
        """
        placements: dict[str, Placement] = {}
        plans = {"nothing offloaded": self.plan(placements, pairs_per_batch or 1)}
        for name in sorted(self.names, key=PLACEMENT_NAMES.index):
            placements[name] = Placement("offloaded")
            plans[f"+ {name}"] = self.plan(placements, pairs_per_batch or 1)
        if self.workload.mesh.along(self.workload.shard_axes) > 1:
            plans["all sharded"] = self.plan({name: Placement("sharded") for name in self.names}, pairs_per_batch or 1)
        streamed = {name: Placement("streamed") for name in self.names}
        for pairs in [pairs_per_batch] if pairs_per_batch else range(1, MAX_STREAMED_PAIRS + 1):
            plans[f"all streamed, {pairs} a pass"] = self.plan(streamed, pairs)
        return plans

    def smallest(self, fixed: Mapping[str, Placement] | None = None, *, pairs_per_batch: int = 1) -> MemoryPlan:
        """Return the plan with the lowest peak; `fixed` are placements that the caller insists on."""
        plans = [self.plan(placements, pairs_per_batch) for placements in self._by_speed(fixed or {})]
        return min(plans, key=lambda plan: plan.peak)

    def advice(self, placements: Mapping[str, Placement], *, on_host: bool) -> str:
        """Return the advice for a user whose memory ran out with `placements`, on the host or on the device."""
        current, smallest = self.plan(placements), self.smallest()
        at = f"at {self._size}, " if self._size else ""
        said = (
            f"{at}with {describe(current)}; the plan counted on"
            f" {gib(current.process_peak)} of GPU memory and {gib(current.host)} of host memory."
        )
        if on_host:
            resident = self.plan({})
            return (
                f"{said} It was the host's memory: free some, or keep the networks on the GPU, which takes"
                f" {gib_or_more(resident.process_peak)} there (--memory-budget {gib_or_more(resident.process_peak)})"
            )
        if smallest.process_peak >= current.process_peak:
            smaller = ", or a smaller --height and --width" if self._size else ""
            return f"{said} No plan takes less: give it a larger GPU{smaller}"
        return (
            f"{said} The smallest plan takes {gib(smallest.process_peak)} and {gib(smallest.host)}"
            f" ({describe(smallest)}): run again with --memory-budget and what the GPU has free, at least"
            f" {gib_or_more(smallest.process_peak)}"
        )

    def _by_speed(self, fixed: Mapping[str, Placement]) -> Iterator[dict[str, Placement]]:
        """Yield placements from the fastest to the smallest: the networks that a run uses least are offloaded first."""
        dit = "diffusion_transformer"
        once = [name for name in OFFLOADED_FIRST if name in self.names]
        rungs: list[dict[str, Any]] = [{}]
        for name in once:
            rungs.append({**rungs[-1], name: "offloaded"})
        small = dict.fromkeys(once, "streamed")
        rungs += [small, {**small, "tokenizer": "offloaded"}]
        if self.workload.mesh.along(self.workload.shard_axes) > 1:
            rungs += [{**small, dit: "sharded"}, {**rungs[-1], dit: "sharded"}]
        without_tokenizer = {**small, "tokenizer": "offloaded"}
        rungs += [{**without_tokenizer, dit: "offloaded"}, {**without_tokenizer, dit: "streamed"}]
        for rung in rungs:
            yield {name: fixed.get(name, Placement(rung.get(name, "resident"))) for name in self.names}

    def _with_resident_blocks(self, plan: MemoryPlan, budget: int, fixed: Mapping[str, Placement]) -> MemoryPlan:
        """Return `plan` with as many resident blocks of a streamed transformer as `budget` has room for."""
        name = "diffusion_transformer"
        if plan.placements.get(name, RESIDENT).kind != "streamed" or name in fixed:
            return plan
        found = self.footprints(plan.workload)[name]
        room = (budget - PROCESS_OVERHEAD - plan.stages[name]) // found.shard
        blocks = max(0, min(room, found.num_blocks - 2))
        placements = {**plan.placements, name: Placement("streamed", blocks)}
        return self.plan(placements, plan.workload.pairs_per_batch)


def _pair_counts(placements: Mapping[str, Placement], num_pairs: int) -> list[int]:
    """Return the numbers of pairs a pass to try, best first.

    More than one pair gains only where weights are streamed, because all pairs of a pass share the copies.
    """
    if placements.get("diffusion_transformer", RESIDENT).kind != "streamed":
        return [1]
    return list(range(max(1, min(num_pairs, MAX_STREAMED_PAIRS)), 0, -1))


def describe(plan: MemoryPlan) -> str:
    """Return a line that names every network's placement."""
    parts = []
    for name, placement in plan.placements.items():
        many = placement.resident_blocks
        blocks = f", {many} block{'' if many == 1 else 's'} resident" if many else ""
        parts.append(f"{name} {placement.kind}{blocks}")
    pairs = plan.workload.pairs_per_batch
    return ", ".join(parts) + (f"; {pairs} pairs a pass" if pairs > 1 else "")
