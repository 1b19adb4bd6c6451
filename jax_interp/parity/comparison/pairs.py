"""Finding what can be compared: networks that are in the checkpoint folder and in the converted one."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from convert.mapping.matching import Leaf
from convert.networks.component import Component
from convert.networks.components import named
from convert.source.adapter import merge_adapter
from convert.source.checkpoint_files import OpenedCheckpoint, infer_network, locate, open_checkpoint
from jax_interp.errors import CheckpointError
from jax_interp.parity.request import ParityRequest, require_full
from jax_interp.runtime.checkpoint.converted import ConvertedComponent, open_component
from jax_interp.runtime.checkpoint.description import stated_component
from jax_interp.runtime.checkpoint.finding import scan


@dataclass(frozen=True)
class Pair:
    """A converted network and the checkpoint that it came from, both opened and understood, neither read."""

    component: Component
    name: str
    """Its folder, relative to both roots."""
    converted: ConvertedComponent
    opened: OpenedCheckpoint
    config: Any
    """The configuration that the checkpoint's shapes and settings tell."""
    leaves: tuple[Leaf, ...]

    @property
    def differing_settings(self) -> dict[str, tuple[Any, Any]]:
        """The settings in which the converted network differs: (converted, checkpoint) by name."""
        return dict(_differences(self.converted.config, self.config))


def find_pairs(request: ParityRequest) -> tuple[list[Pair], dict[str, str]]:
    """Return the networks to compare, and the reason for each that is absent.

    Raises:
        UsageError: there is no network of a name, or one is stored in 8 bits.
        CheckpointError: a folder is absent or damaged, or there is nothing to compare.
    """
    root = request.checkpoint_dir
    wanted = named(request.components)
    for folder, flag in ((root, "--checkpoint-dir"), (request.converted, "--converted")):
        if folder is not None and not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder; name one with {flag}")
    if root is None:
        return [], {}
    names = {component.name for component in wanted}
    # A network that was not asked for may be damaged.
    found = [open_component(folder) for folder in scan(request.converted) if stated_component(folder) in names]
    pairs, absent = [], {}
    for component in wanted:
        there = [network for network in found if network.component == component.name]
        for network in there:
            name = network.path.relative_to(request.converted).as_posix()
            if locate(component, root / name):
                require_full(network.path, network.stored)
                pairs.append(_open(component, name, network, root))
            else:
                absent[f"{component.name} ({name})"] = f"{root / name} has no weights of it"
        if not there:
            also = locate(component, root / component.folder)
            absent[component.name] = (
                f"{request.converted} has none; `jax-interp convert` makes one" if also else "neither folder has one"
            )
    if not pairs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        raise CheckpointError(
            f"{root} and {request.converted}: there is nothing to compare ({reasons}); a network must lie in the"
            " same folder below both"
        )
    return pairs, absent


def _open(component: Component, name: str, converted: ConvertedComponent, root: Path) -> Pair:
    weights = converted.manifest["settings"].get("weights")
    # "model" is also what was noted where there was no choice, in which naming one is refused.
    opened = open_checkpoint(component, root / name, None if weights == "model" else weights)
    opened, _ = merge_adapter(component.adapter, opened, root)
    config, leaves = infer_network(component, opened)
    return Pair(component, name, converted, opened, config, leaves)


def _differences(ours: Any, theirs: Any, prefix: str = "") -> list[tuple[str, tuple[Any, Any]]]:
    found = []
    for each in fields(theirs):
        mine, other = getattr(ours, each.name), getattr(theirs, each.name)
        if hasattr(other, "__dataclass_fields__"):
            found += _differences(mine, other, f"{prefix}{each.name}.")
        elif mine != other:
            found.append((prefix + each.name, (mine, other)))
    return found
