"""What more GPUs would cost: one evaluation of the transformer predicted from link speeds and one GPU's time.

docs/several-gpus.md says what the formulas leave out.
"""

from dataclasses import dataclass, replace

from benchmarks.scaling.block_costs import EXCHANGED, SUMS, BlockCosts
from jax_interp.config import DIT_7B, DiTConfig
from jax_interp.runtime.mesh_shape import MeshShape

PROGRAMS = 2
"""The number of programs of a block."""
GPUS_PER_HOST = 8


@dataclass(frozen=True)
class Machine:
    """The measured or assumed speeds that a prediction starts from."""

    evaluation: float
    """Milliseconds of one evaluation on one GPU."""
    undivided: float
    """Milliseconds of a pair outside the denoiser."""
    inside: float
    """GB/s that leave a GPU in an all-to-all within its host."""
    gather: float
    """GB/s that reach a GPU in an all-gather within its host."""
    host: float
    """GB/s from the host's memory to a GPU, all GPUs copying."""
    network: float
    """GB/s that leave a GPU for other hosts."""
    latency: float
    """Microseconds of an exchange of nearly nothing within a host."""
    network_latency: float
    """Microseconds of an exchange of nearly nothing between hosts."""
    dispatch: float
    """Microseconds from the start of one program to that of the next."""
    memory: float
    """GB/s at which a GPU reads its own memory."""


ASSUMED = Machine(
    evaluation=315.0,
    undivided=81.0,
    inside=300.0,
    gather=300.0,
    host=50.0,
    network=50.0,
    latency=20.0,
    network_latency=40.0,
    dispatch=100.0,
    memory=3350.0,
)
"""The first two and `host` as measured on one H100 (README.md). NVLink at two thirds of its 450 GB/s, NDR InfiniBand,
the H100's memory as its maker states it. Latencies and `dispatch` are guesses."""


@dataclass(frozen=True)
class Prediction:
    """The milliseconds of one evaluation, by kind of work of the GPU."""

    arithmetic: float
    """The arithmetic, at least the time of reading the weights."""
    exchanges: float
    """All-to-alls and all-reduces, during which nothing computes."""
    gathering: float
    """Gathering sharded weights, which overlaps the arithmetic but uses the links of the exchanges."""
    copying: float
    """Copying each GPU's shard of the weights from the host, which overlaps everything."""
    dispatch: float
    """The least time in which one Python process starts all programs, which overlaps everything."""

    @property
    def resident(self) -> float:
        """The whole time with resident weights."""
        return max(self.arithmetic + self.exchanges, self.dispatch)

    @property
    def sharded(self) -> float:
        """The whole time with sharded weights."""
        return max(self.resident, self.gathering + self.exchanges)

    @property
    def streamed(self) -> float:
        """The whole time with sharded weights in host memory."""
        return max(self.sharded, self.copying)


def predict(config: DiTConfig, shape: MeshShape, machine: Machine) -> Prediction:
    """Predict one evaluation of `config` on hosts of `GPUS_PER_HOST`, with one pair along `data`."""
    alone, costs = (BlockCosts(config, mesh) for mesh in (MeshShape(), shape))
    share = machine.evaluation / config.num_blocks * costs.flop / alone.flop
    reading = costs.weights / machine.memory / 1e6
    return Prediction(
        arithmetic=config.num_blocks * max(share, reading),
        exchanges=config.num_blocks * (_exchange(costs, machine) + _sums(costs, machine)),
        gathering=config.num_blocks * costs.received_by_gather / machine.gather / 1e6,
        copying=config.num_blocks * costs.shard / machine.host / 1e6,
        dispatch=config.num_blocks * PROGRAMS * machine.dispatch / 1e3,
    )


def _exchange(costs: BlockCosts, machine: Machine) -> float:
    """Return the milliseconds of a block's all-to-alls; traffic within the host and to others is concurrent."""
    ranks = costs.shape.sequence
    if ranks == 1:
        return 0.0
    near = min(ranks, GPUS_PER_HOST // costs.shape.tensor)
    for_each = costs.exchanged / ranks / 1e6
    moving = max(for_each * (near - 1) / machine.inside, for_each * (ranks - near) / machine.network)
    latency = machine.latency if near == ranks else machine.network_latency
    return EXCHANGED * moving + costs.exchanges * latency / 1e3


def _sums(costs: BlockCosts, machine: Machine) -> float:
    """Return the milliseconds of a block's all-reduces, which stay within a host."""
    return 0.0 if costs.shape.tensor == 1 else costs.sent_by_sums / machine.inside / 1e6 + SUMS * machine.latency / 1e3


def break_even(gpus: int, machine: Machine) -> float | None:
    """Return the GB/s between hosts above which `gpus` GPUs beat one host; None if no link is fast enough."""

    def pays(network: float) -> bool:
        return predict(DIT_7B, MeshShape(sequence=gpus), replace(machine, network=network)).resident < one_host

    one_host = predict(DIT_7B, MeshShape(sequence=GPUS_PER_HOST), machine).resident
    slow, fast = 0.01, 1e4
    if not pays(fast):
        return None
    while fast - slow > 0.01:
        middle = (slow + fast) / 2
        slow, fast = (slow, middle) if pays(middle) else (middle, fast)
    return fast
