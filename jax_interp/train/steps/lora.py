"""The layers of the transformer that get a LoRA adapter, and the transformer with adapters."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
from flax import nnx

from jax_interp.errors import UsageError
from jax_interp.models.dit import DiT
from jax_interp.nn.low_rank import DOWN, UP, AdaptedLinear
from jax_interp.nn.params import flatten, unflatten
from jax_interp.train.settings import LoraSettings
from jax_interp.types import Params

_ATTENTION_LAYERS = ("query", "key", "value", "out")
LAYERS = (
    *(f"self_attention/{layer}" for layer in _ATTENTION_LAYERS),
    *(f"cross_attention/{layer}" for layer in _ATTENTION_LAYERS),
    *("mlp/up", "mlp/down"),
)
"""The layers of a block that can have an adapter."""

SHORT_NAMES = {
    "q": "*_attention/query",
    "k": "*_attention/key",
    "v": "*_attention/value",
    "out": "*_attention/out",
    "mlp": "mlp/*",
}
"""The layers that each of LoRA's usual short names stands for."""


def target_layers(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the layers of a block that `targets` name, in their order in the block.

    Raises:
        UsageError: a name or pattern matches no layer (each is named), or there is none.
    """
    patterns = {target: SHORT_NAMES.get(target, target) for target in targets}
    lost = [target for target, pattern in patterns.items() if not _matching(pattern)]
    if lost or not patterns:
        raise UsageError(
            f"--lora-targets {','.join(targets)}: {', '.join(lost) or 'an empty list'} matches no layer; expected"
            f" {', '.join(SHORT_NAMES)}, or patterns of {', '.join(LAYERS)}"
        )
    chosen = {layer for pattern in patterns.values() for layer in _matching(pattern)}
    return tuple(layer for layer in LAYERS if layer in chosen)


def adapt(network: DiT, settings: LoraSettings, rngs: nnx.Rngs) -> DiT:
    """Add an adapter to every target layer of all blocks of `network`, and return it."""
    for path in target_layers(settings.targets):
        module, name = path.split("/")
        parent = getattr(network.blocks, module)
        kernel = getattr(parent, name).kernel
        setattr(parent, name, AdaptedLinear(kernel, settings.rank, settings.scale, rngs=rngs))
    return network


def split_adapter(params: Params) -> tuple[Params, Params]:
    """Split an adapted network's parameters into (the adapter's arrays, all others)."""
    leaves = dict(flatten(params))
    adapter = {path: leaf for path, leaf in leaves.items() if path.rpartition("/")[2] in (DOWN, UP)}
    return unflatten(adapter), unflatten({path: leaf for path, leaf in leaves.items() if path not in adapter})


def draw_adapter(abstract: Params, rank: int, key: jax.Array) -> Params:
    """Draw float32 arrays for an adapter like `abstract` that has no effect yet.

    `A` is normal with deviation 1/rank, as upstream's, and `B` is zero.
    """
    leaves = dict(flatten(abstract))
    keys = jax.random.split(key, len(leaves))
    drawn = {
        path: jax.random.normal(each, leaf.shape) / rank if path.endswith(f"/{DOWN}") else jnp.zeros(leaf.shape)
        for each, (path, leaf) in zip(keys, leaves.items(), strict=True)
    }
    return unflatten(drawn)


def num_adapted(adapter: Params) -> int:
    """Count the layers that have an adapter, over all blocks."""
    return sum(leaf.shape[0] for path, leaf in flatten(adapter) if path.endswith(f"/{DOWN}"))


def _matching(pattern: str) -> list[str]:
    return [layer for layer in LAYERS if fnmatchcase(layer, pattern)]
