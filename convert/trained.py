"""A trained transformer as a converted network like any other, which says what it was trained from."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from convert.networks.components import DIFFUSION_TRANSFORMER
from convert.source.provenance import SourceRecord
from convert.target.folders import clear_leftovers, replace_atomically
from convert.target.manifest import write_description
from jax_interp.nn.params import check_complete, flatten, unflatten
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.description import PARAMS_FOLDER
from jax_interp.runtime.checkpoint.param_files import ArrayStream, write_params
from jax_interp.types import Params


def write_trained(target: Path, base: ConvertedComponent, network: Params, facts: Mapping[str, Any]) -> None:
    """Write `network`, trained from `base`, as the converted network `target`, in the dtype that `base` is stored in.

    `facts` (JSON values) go into its manifest. An earlier result at `target` is replaced.

    Raises:
        CheckpointError: the disk is full or cannot be written to; nothing is left half-written.
    """
    check_complete(network, DIFFUSION_TRANSFORMER.abstract(base.config))
    arrays = {path: np.asarray(jnp.asarray(leaf).astype(base.dtype)) for path, leaf in flatten(network)}
    streams = {path: ArrayStream.of(array) for path, array in arrays.items()}
    digest = hashlib.sha256()
    for path in sorted(arrays):
        digest.update(path.encode() + np.ascontiguousarray(arrays[path]).view(np.uint8).data)
    size = sum(array.nbytes for array in arrays.values())
    clear_leftovers(target)
    with replace_atomically(target) as folder:
        write_params(folder / PARAMS_FOLDER, unflatten(streams))
        write_description(
            folder,
            component=base.component,
            config=base.config,
            settings=_settings(base, facts),
            sources=[SourceRecord("trained parameters", size, 0, digest.hexdigest(), None, None)],
            leaves=DIFFUSION_TRANSFORMER.plan(base.config),
            streams=streams,
        )


def _settings(base: ConvertedComponent, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in the manifest: where the network is from, and that it is of its base's type."""
    settings: dict[str, Any] = {"trained": {"from": {"folder": base.path.name, "sha256": base.source_sha256}, **facts}}
    return settings if base.transformer_type is None else settings | {"type": base.transformer_type}
