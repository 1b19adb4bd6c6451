"""Named layout changes between PyTorch's and Flax's order of axes. Each moves values and never changes one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Op:
    """A change of layout and the way back; `inverse(forward(x)) == x` bit for bit."""

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


keep = Op("keep", lambda x: x, lambda x: x)

transpose = Op("transpose", lambda x: x.T, lambda x: x.T)
"""Linear weight: [out, in] <-> [in, out]."""
