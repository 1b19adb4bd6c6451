"""What the kernels of `benchmarks.attention.variants` do otherwise, and how their programs share the queries."""

from typing import NamedTuple

from jax.experimental import pallas as pl

from jax_interp.nn.kernels.occupancy import BLOCK_Q, PROCESSORS


class Variant(NamedTuple):
    """A kernel."""

    block_kv: int = 192
    """The keys of a step, a multiple of 64."""
    slots: int = 2
    """The number of blocks of keys, and of values, in shared memory at a time."""
    schedule: str = "tiles"
    """What a program owns: one of the "tiles" of a head; two "halves", of two heads where a head has an odd number of
    them, as the product does; or "split": halves, and a single half each where the last wave would be at most half
    full."""
    conversion: str = "bits"
    """How int32 scores become float32: by an instruction ("convert"), or as sums from `INTEGER_ZERO` on ("bits")."""
    polynomial: int = 0
    """The number of keys of a step, a multiple of 64, whose exponentials are computed with `POLYNOMIAL`."""


class Plan(NamedTuple):
    """How halves of tiles, numbered head after head, go to programs: two to each of the first `pairs`, then one."""

    halves: int
    """The halves of a head of one batch row."""
    pairs: int
    programs: int

    @property
    def mixes(self) -> bool:
        """Tell whether a program has halves of two heads."""
        return self.halves % 2 == 1 and self.pairs > 0


def plan(variant: Variant, num_queries: int, heads: int) -> Plan:
    """Share out the halves of `heads`, those of all batch rows."""
    halves = pl.cdiv(num_queries, BLOCK_Q)
    if variant.schedule == "tiles":
        halves += halves % 2
    pairs, lone = divmod(heads * halves, 2)
    last_wave = (pairs + lone) % PROCESSORS
    if variant.schedule == "split" and 2 * last_wave <= PROCESSORS:
        split = min(last_wave - lone, pairs) if last_wave else 0
        pairs, lone = pairs - split, lone + 2 * split
    return Plan(halves, pairs, pairs + lone)
