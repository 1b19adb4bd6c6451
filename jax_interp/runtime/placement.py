"""Where a network's parameters are while its stage runs and while others do."""

from dataclasses import dataclass
from typing import Literal, get_args

from jax_interp.errors import UsageError

Kind = Literal["resident", "sharded", "offloaded", "streamed"]


@dataclass(frozen=True)
class Placement:
    """How one network shares the device.

    *resident*: on the device from its first use on, whole on every device of a mesh. *sharded*: the same, but every
    device holds its share of each block and they put it together when its turn comes; for networks that can be
    streamed, on several devices. *offloaded*: in host memory, moved to the device in whole for its
    stage. *streamed*: in host memory; the blocks of its stack pass through the device one after the other, each copied
    while the one before computes, except `resident_blocks` of them that stay there for the stage.
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
        """Whether the parameters keep their place on the device between stages."""
        return self.kind in ("resident", "sharded")

    @property
    def shares(self) -> bool:
        """Whether the devices of a mesh divide the blocks among them, which spares memory or copies from the host."""
        return self.kind in ("sharded", "streamed")

    def check_blocks(self, component: str, num_blocks: int) -> None:
        """Raise `UsageError` if more blocks should stay than the network has."""
        if self.resident_blocks > num_blocks:
            raise UsageError(
                f"resident_blocks (--resident-blocks) is {self.resident_blocks}: this {component} has {num_blocks}"
                " blocks"
            )

    def blocks_on_device(self, num_blocks: int) -> int:
        """How many of `num_blocks` blocks are on the device all through the stage."""
        return min(self.resident_blocks, num_blocks) if self.kind == "streamed" else num_blocks


RESIDENT = Placement()


def spread(count: int, num_blocks: int) -> frozenset[int]:
    """Which `count` of `num_blocks` blocks stay: spread evenly, so that every copy has the same work to hide behind."""
    return frozenset((2 * i + 1) * num_blocks // (2 * count) for i in range(count))
