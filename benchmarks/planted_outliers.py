"""Networks in which a few channels are much larger than the others, as in trained transformers, at known positions.

Random weights have no such channels. Here a channel of a random or small network is made 64 times as large where it is
written, and what reads it has 1/64 of its weight; powers of two, so that bfloat16 rounds as before. It is done in every
block, to channels of the residual stream and of the MLP's hidden layer. Other channels become as small beside them as
norms make them.
"""

from typing import Any

import numpy as np

from jax_interp.pipeline.stages.denoiser import Denoiser

FACTOR = 64.0
"""How much larger the channels are."""
STREAM_WRITERS = ("patch_embedding", "self_attention/out", "cross_attention/out", "mlp/down")
STREAM_READERS = (
    *("self_attention/query", "self_attention/key", "self_attention/value", "cross_attention/query", "mlp/up"),
    "final_linear",
)


def outliers(width: int) -> list[int]:
    """Return the positions of three channels among `width`."""
    return [width // 8 + 1, width // 2 + 3, 7 * width // 8 + 5]


def planted(path: str, weight: np.ndarray) -> np.ndarray:
    """Return the parameter `path` of a transformer, of one block or all of them, with outliers in it."""
    layer = path.removesuffix("/kernel")
    written = layer.endswith((*STREAM_WRITERS, "mlp/up"))
    read = layer.endswith((*STREAM_READERS, "mlp/down"))
    if layer == path or not (written or read):
        return weight
    changed = np.array(weight)
    if written:
        changed[..., outliers(weight.shape[-1])] *= weight.dtype.type(FACTOR)
    if read:
        changed[..., outliers(weight.shape[-2]), :] *= weight.dtype.type(1 / FACTOR)
    return changed


def plant_outliers(stage: Denoiser) -> None:
    """Have `stage` read every weight with outliers, before it quantises any; for folders that are not in 8 bits."""
    stage.unload()
    stored: Any = stage._stored
    read = stored._read

    def read_planted(wanted: Any, row: int | None) -> dict[str, Any]:
        return {path: planted(path, array) for path, array in read(wanted, row).items()}

    stored._read = read_planted
