"""The placement of a network's parameters, during its own stage and during others."""

from dataclasses import dataclass
from typing import Literal, get_args

from jax_interp.errors import UsageError

Kind = Literal["resident", "sharded", "offloaded", "streamed"]


@dataclass(frozen=True)
class Placement:
    """The placement of one network, for example `Placement("streamed", resident_blocks=4)`.

    *resident*: the parameters are on the device from the first use on, replicated on every device of a mesh. *sharded*:
    the same, but every device has a shard of each block, which is gathered when the block's turn comes; this is for
    networks that can be streamed, on several devices. *offloaded*: the parameters are in host memory, and move to the
    device as a whole for the network's stage. *streamed*: they are in host memory; the blocks of the stack pass through
    the device one after the other, each copied while the one before computes, except `resident_blocks` of them, which
    stay on the device for the stage.
    """

    kind: Kind = "resident"
    resident_blocks: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"placement {self.kind!r}: expected one of {', '.join(get_args(Kind))}")
        if self.resident_blocks < 0:
            raise UsageError(f"resident_blocks (--resident-blocks) is {self.resident_blocks}: expected 0 or more")
        if self.resident_blocks and self.kind != "streamed":
            raise UsageError(f"resident_blocks is {self.resident_blocks}: only for streamed networks, not {self.kind}")

    @property
    def stays(self) -> bool:
        """Whether the parameters stay on the device between stages."""
        return self.kind in ("resident", "sharded")

    @property
    def is_sharded(self) -> bool:
        """Whether the devices of a mesh shard the blocks, which saves device memory or copies from the host."""
        return self.kind in ("sharded", "streamed")

    def check_blocks(self, component: str, num_blocks: int) -> None:
        """Raise `UsageError` if more blocks should be resident than the network has."""
        if self.resident_blocks > num_blocks:
            raise UsageError(
                f"resident_blocks (--resident-blocks) is {self.resident_blocks}: this {component} has {num_blocks}"
                " blocks"
            )

    def blocks_on_device(self, num_blocks: int) -> int:
        """Return how many of `num_blocks` blocks are on the device during the whole stage."""
        return min(self.resident_blocks, num_blocks) if self.kind == "streamed" else num_blocks


RESIDENT = Placement()


def spread(count: int, num_blocks: int) -> frozenset[int]:
    """Choose `count` of `num_blocks` blocks to stay, spread evenly, so that every copy overlaps as much work."""
    return frozenset((2 * i + 1) * num_blocks // (2 * count) for i in range(count))
