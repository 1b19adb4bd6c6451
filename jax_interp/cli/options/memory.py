"""The options that say how much memory to use: parsed before anything is loaded, then turned into placements."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from jax_interp.components import PLACEMENT_NAMES
from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.runtime.hardware import Gpu, nvidia_gpus
from jax_interp.runtime.placement import Kind, Placement

if TYPE_CHECKING:
    from jax_interp.pipeline.interpolator import Interpolator
    from jax_interp.pipeline.memory.networks import Networks
    from jax_interp.pipeline.memory.plan import Plan, Planner
    from jax_interp.pipeline.settings import InterpolationSettings

logger = logging.getLogger("jax_interp")

AUTO = "auto"
SHARE_OF_FREE = 0.97
"""How much of the free memory `auto` plans with: what the driver calls free is never all to be had."""


@dataclass(frozen=True)
class MemoryFlags:
    """What the user asked for; None is `auto`."""

    budget: int | None
    """Bytes of GPU memory."""
    placements: Mapping[str, Placement]
    """Of the networks that the user placed by name."""
    pairs_per_batch: int | None

    @classmethod
    def parse(
        cls, budget: str, placements: list[str], resident_blocks: str, pairs: str, offloaded: Mapping[str, bool]
    ) -> "MemoryFlags":
        """Read the options' values.

        Raises:
            UsageError: one of them cannot be understood, or two contradict each other.
        """
        fixed = {name: Placement("offloaded") for name, wanted in offloaded.items() if wanted}
        for entry in placements:
            name, _, kind = entry.partition("=")
            name = name.strip().replace("-", "_")
            if name not in PLACEMENT_NAMES:
                raise UsageError(f"--placement {entry}: no such network; expected NETWORK=KIND with {_choices()}")
            wanted = Placement(_kind(entry, kind.strip()))
            if fixed.get(name, wanted) != wanted:
                raise UsageError(f"--placement {entry}: contradicts another option for {name}; give one of them")
            fixed[name] = wanted
        if resident_blocks != AUTO:
            name = "diffusion_transformer"
            if fixed.get(name, Placement("streamed")).kind != "streamed":
                raise UsageError(f"--resident-blocks is for a streamed {name}, which another option places elsewhere")
            fixed[name] = Placement("streamed", _count("--resident-blocks", resident_blocks, least=0))
        count = None if pairs == AUTO else _count("--pairs-per-batch", pairs, least=1)
        return cls(None if budget == AUTO else parse_bytes(budget), fixed, count)

    def limit_process(self) -> None:
        """Make what is planned with the share of the GPU that JAX may reserve; call before JAX starts.

        JAX's own share is three quarters of the whole GPU, which a plan for what is free can exceed.
        """
        from jax_interp.pipeline.memory.plan import PROCESS

        gpu, available = _gpu(), self.available()
        if gpu is None or available is None:
            return
        if available > gpu.free:
            logger.warning(
                "--memory-budget is %.1f GiB, but the GPU has only %.1f GiB free", available / 2**30, gpu.free / 2**30
            )
        share = (available - PROCESS) / gpu.memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{min(max(share, 0.01), 0.95):.4f}")

    def place(self, networks: "Interpolator | Networks", settings: "InterpolationSettings") -> int:
        """Place `networks`; returns how many pairs share a pass.

        Raises:
            UsageError: the budget is too small for any plan.
            OutOfMemory: what is free is.
        """
        from jax_interp.pipeline.memory.plan import describe, gib
        from jax_interp.runtime import processes

        planner, everyones = networks.planner(settings), processes.everyone("GPU memory", self.available())
        if None in everyones:
            networks.place(self.placements_in(planner))
            return self.pairs_per_batch or 1
        available = min(everyones)  # all processes follow the plan of the one with the least
        plan = self.choose(planner, available, settings.num_frame_pairs)
        networks.place(plan.placements)
        logger.info("%s: up to %s of GPU memory", describe(plan), gib(plan.process_peak))
        return plan.workload.pairs_per_batch

    def available(self) -> int | None:
        """Bytes of GPU memory to plan with: the budget, else what is free; None without a GPU."""
        gpu = _gpu()
        return self.budget or (int(SHARE_OF_FREE * gpu.free) if gpu else None)

    def choose(self, planner: "Planner", available: int, num_pairs: int | None = None) -> "Plan":
        """The fastest plan in `available` bytes for a run of `num_pairs` pairs; raises as `place` does."""
        from jax_interp.pipeline.memory.plan import MOST_PAIRS

        placed, most = self.placements_in(planner), num_pairs or MOST_PAIRS
        try:
            return planner.within(available, placed, pairs_per_batch=self.pairs_per_batch, num_pairs=most)
        except UsageError as error:
            if self.budget is not None:
                raise
            raise OutOfMemory(str(error)) from error

    def placements_in(self, planner: "Planner") -> dict[str, Placement]:
        """The user's placements of networks that are there; says which are not.

        Raises:
            UsageError: more blocks should stay than there are.
        """
        if absent := sorted(self.placements.keys() - set(planner.names)):
            logger.info("%s: not part of this run, so placing it changes nothing", ", ".join(absent))
        there = {name: placement for name, placement in self.placements.items() if name in planner.names}
        for name, placement in there.items():
            if placement.resident_blocks:
                placement.check_blocks(name, planner.footprints()[name].num_blocks)
        return there


def parse_bytes(text: str) -> int:
    """Bytes of a --memory-budget: `8GB`, `6GiB`, `512MiB` or a number of bytes.

    Raises:
        UsageError: it is none of these.
    """
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    stripped = text.strip().lower()
    number = stripped.rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        size = int(float(number) * units[stripped[len(number) :].strip()])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 2**20:
        raise UsageError(f"--memory-budget {text}: expected an amount of memory like 8GB or 6GiB, or auto")
    return size


def _gpu() -> Gpu | None:
    """Of the GPUs that JAX sees the one with the least free memory; None without one."""
    gpus = nvidia_gpus()
    if not gpus or os.environ.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("cuda", "gpu", ""):
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return min(gpus, key=lambda gpu: gpu.free)
    named = [entry.strip() for entry in visible.split(",")]
    if named[0] in ("", "-1"):
        return None
    # A GPU may also be named by its identifier, of which the driver was not asked.
    seen = [gpus[int(entry)] for entry in named if entry.isdecimal() and int(entry) < len(gpus)]
    return min(seen or gpus, key=lambda gpu: gpu.free)


def _kind(entry: str, kind: str) -> Kind:
    match kind:
        case "resident" | "sharded" | "offloaded" | "streamed":
            return kind
    raise UsageError(f"--placement {entry}: expected NETWORK=KIND with {_choices()}")


def _count(flag: str, text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{flag} {text}: expected auto or a whole number from {least} on")
    return int(text)


def _choices() -> str:
    return f"NETWORK one of {', '.join(PLACEMENT_NAMES)} and KIND one of {', '.join(get_args(Kind))}"
