"""Checkpoint tensors as streams of converted layers: read, laid out anew and cast one at a time."""

from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np

from convert.formats.archive import StoredTensor
from convert.mapping.matching import Leaf
from convert.progress import Advance
from convert.target.finite import REFUSE, FiniteCheck
from jax_interp.config import Precision
from jax_interp.runtime.checkpoint.param_files import ArrayStream, split_rows


def stream(
    leaf: Leaf,
    tensors: Mapping[str, StoredTensor],
    dtype: Precision | None,
    advance: Advance,
    check: FiniteCheck = REFUSE,
) -> ArrayStream:
    """Return the array that `leaf` describes as a stream; `advance` is told the bytes read, `check` sees the values.

    Floating tensors are cast to `dtype`; without it they keep theirs, except float64, which becomes float32.
    """
    target = target_dtype(tensors[leaf.keys[0]].dtype, dtype)

    def part(key: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # what becomes infinite is told by the check
            values = leaf.op.forward(tensors[key].read()).astype(target, copy=False)
        check(values, tensors[key].source)
        advance(tensors[key].nbytes)
        return values

    def layers(rows: int) -> Iterator[np.ndarray]:
        for start in range(0, len(leaf.keys), rows):
            keys = leaf.keys[start : start + rows]
            buffer = np.empty((len(keys), *leaf.part_shape), target)
            for row, key in enumerate(keys):
                buffer[row] = part(key)
            yield buffer
            del buffer  # before the next one is made

    if leaf.stacked:
        return ArrayStream(leaf.shape, target, layers)
    return ArrayStream(leaf.shape, target, lambda rows: split_rows(part(leaf.keys[0]), rows))


def target_dtype(stored: np.dtype, wanted: Precision | None) -> np.dtype:
    """Return the dtype in which a tensor of the dtype `stored` is written if `wanted` was asked for."""
    if not jnp.issubdtype(stored, jnp.floating):
        return stored
    if wanted is not None:
        return np.dtype(jnp.dtype(wanted))
    # No network computes in float64.
    return np.dtype(np.float32) if stored == np.float64 else stored
