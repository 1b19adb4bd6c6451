"""Low-rank adapters merged into a network's weights as they are read, block by block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float


class LowRankPair(NamedTuple):
    """The change that an adapter makes to one weight, which is the product `down @ up`."""

    down: Float[np.ndarray, "I r"]
    up: Float[np.ndarray, "r O"]
    """The second factor, multiplied by the scale that the adapter was trained with."""


@dataclass(frozen=True)
class Adapter:
    """The trained pairs of one adapter file, and the strength with which they are added."""

    file: str
    sha256: str
    pairs: Mapping[tuple[str, int], LowRankPair]
    """The pairs by (path of the weight in the network's tree, block), for example
    `("blocks/self_attention/query/kernel", 0)`."""
    strength: float = 1.0

    @property
    def facts(self) -> dict[str, Any]:
        """The adapter's entry in a run record."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "strength": self.strength,
            "layers": len(self.pairs),
        }


def adapted_paths(adapters: Sequence[Adapter]) -> set[str]:
    """Return the paths of the weights that any of `adapters` changes in some block."""
    return {path for adapter in adapters for path, _ in adapter.pairs}


def merge(weight: np.ndarray, path: str, block: int, adapters: Sequence[Adapter], dtype: Any) -> np.ndarray:
    """Return `weight` (float32) of one block with all adapters added in their order, rounded once to `dtype`.

    Values to which nothing is added keep their bits, so a fresh adapter, or one of strength 0, changes no result.
    """
    for adapter in adapters:
        pair = adapter.pairs.get((path, block))
        if pair is not None and adapter.strength:
            change = np.float32(adapter.strength) * (pair.down @ pair.up)
            weight = np.where(change == 0, weight, weight + change)  # adding 0 would turn -0 into +0
    return weight.astype(dtype)
