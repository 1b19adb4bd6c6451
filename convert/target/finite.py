"""The check for weights that are NaN or infinite. No released network has any, so they tell of damage or of a training
that went wrong."""

import logging
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from jax_interp.errors import CheckpointError

logger = logging.getLogger("jax_interp")

_BLOCK = 1 << 18
"""Values that are looked at together; they are in the processor's cache then."""

_NAMED = 5

_INFINITY = {np.dtype(jnp.bfloat16): 0xFF00, np.dtype(np.float16): 0xF800}
"""Infinity as bits without the sign, shifted left by one; only NaN is more."""


@dataclass
class FiniteCheck:
    """Checks every weight of a network on its way. With `refuses` one that is not finite ends the conversion; otherwise
    it is noted for `report`."""

    refuses: bool
    found: list[str] = field(default_factory=list)

    def __call__(self, values: np.ndarray, source: str) -> None:
        """Look at `values`, which come from the tensor `source`.

        Raises:
            CheckpointError: some of them are not finite, and those are refused.
        """
        if not jnp.issubdtype(values.dtype, jnp.floating) or is_finite(values):
            return
        numbers = values.astype(np.float32)
        fault = f"{source}: {np.isnan(numbers).sum():,} NaN and {np.isinf(numbers).sum():,} infinite of {values.size:,}"
        if self.refuses:
            raise CheckpointError(
                f"{fault} weights. No released network has such; the file is damaged, or its training went wrong:"
                " download it again, take an earlier state of the training, or pass --allow-non-finite to convert it"
                " as it is"
            )
        self.found.append(fault)

    def report(self, name: str) -> None:
        """Warn of the weights that were found not to be finite in the network called `name`."""
        if self.found:
            more = f" and {len(self.found) - _NAMED} more tensors" if len(self.found) > _NAMED else ""
            logger.warning("%s: has weights that are not finite: %s%s", name, "; ".join(self.found[:_NAMED]), more)


REFUSE = FiniteCheck(refuses=True)


def is_finite(values: np.ndarray) -> bool:
    """Tell whether all of `values`, of a floating dtype, are finite; for 16 bits this is faster than `np.isfinite`."""
    flat = values.ravel(order="K")
    infinity = _INFINITY.get(values.dtype)
    if infinity is None:
        return all(np.isfinite(flat[start : start + _BLOCK]).all() for start in range(0, flat.size, _BLOCK))
    bits, shifted = flat.view(np.uint16), np.empty(min(_BLOCK, flat.size), np.uint16)
    for start in range(0, bits.size, _BLOCK):
        part = bits[start : start + _BLOCK]
        if np.left_shift(part, 1, out=shifted[: part.size]).max() >= infinity:
            return False
    return True
