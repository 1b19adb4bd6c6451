"""Applying a run's memory settings: limit the process, choose a plan, and place the networks by it."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Protocol

from jax_interp.byte_sizes import gib
from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.pipeline.memory.available import available, fullest_gpu
from jax_interp.pipeline.memory.plan import MAX_STREAMED_PAIRS, PROCESS_OVERHEAD, MemoryPlan, Planner, describe
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.settings import RunSettings
from jax_interp.runtime.placement import Placement

logger = logging.getLogger("jax_interp")


class Placeable(Protocol):
    """Networks that are planned for and placed together, for example `Networks` or an `Interpolator`."""

    def planner(self, settings: RunSettings) -> Planner:
        """Return a planner of the networks' memory in a run with `settings`."""
        ...

    def place(self, placements: Mapping[str, Placement], /) -> None:
        """Place the named networks."""
        ...


def limit_process(settings: MemorySettings) -> None:
    """Let JAX reserve the share of the GPU that plans may use; call this before JAX starts.

    By default JAX reserves three quarters of the whole GPU, which a plan for the free memory can exceed.
    """
    gpu, budget = fullest_gpu(), available(settings)
    if gpu is None or budget is None:
        return
    if budget > gpu.free:
        logger.warning("--memory-budget is %s, but the GPU has only %s free", gib(budget), gib(gpu.free))
    share = (budget - PROCESS_OVERHEAD) / gpu.memory
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{min(max(share, 0.01), 0.95):.4f}")


def place(
    settings: MemorySettings,
    networks: Placeable,
    run_settings: RunSettings,
    agree: Callable[[int | None], int | None] = lambda own: own,
) -> int:
    """Place `networks` for a run with `run_settings`; return how many pairs share a pass.

    `agree` gives the bytes that a run of several processes plans for, of those that this one has; both are None where
    there is no GPU.

    Raises:
        UsageError: the budget is too small for any plan.
        OutOfMemory: no budget was given, and the free memory is too small for any plan.
    """
    planner, budget = networks.planner(run_settings), agree(available(settings))
    if budget is None:
        networks.place(placements_in(settings, planner))
        return settings.pairs_per_batch or 1
    plan = choose(settings, planner, budget, run_settings.num_frame_pairs)
    networks.place(plan.placements)
    logger.info("%s: up to %s of GPU memory", describe(plan), gib(plan.process_peak))
    return plan.workload.pairs_per_batch


def choose(settings: MemorySettings, planner: Planner, budget: int, num_pairs: int | None = None) -> MemoryPlan:
    """Return the fastest plan within `budget` bytes for a run of `num_pairs` pairs.

    Raises:
        UsageError: `settings` has a budget that is too small for any plan.
        OutOfMemory: no budget was given, and `budget`, the free memory, is too small for any plan.
    """
    placed, most = placements_in(settings, planner), num_pairs or MAX_STREAMED_PAIRS
    try:
        return planner.within(budget, placed, pairs_per_batch=settings.pairs_per_batch, num_pairs=most)
    except UsageError as error:
        if settings.budget is not None:
            raise
        raise OutOfMemory(str(error)) from error


def placements_in(settings: MemorySettings, planner: Planner) -> dict[str, Placement]:
    """Return the user's placements of networks that take part in the run; log the names of the others.

    Raises:
        UsageError: more blocks should be resident than the network has.
    """
    if absent := sorted(settings.placements.keys() - set(planner.names)):
        logger.info("%s: not part of this run, so placing it changes nothing", ", ".join(absent))
    there = {name: placement for name, placement in settings.placements.items() if name in planner.names}
    for name, placement in there.items():
        if placement.resident_blocks:
            placement.check_blocks(name, planner.footprints()[name].num_blocks)
    return there
