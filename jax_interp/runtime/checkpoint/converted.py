"""A converted network on disk: its configuration, where its parameters lie, and whether all files are there.

A converted folder has one folder for each network, under upstream's name:
`converted/Cosmos-Predict1-7B-WorldInterpolator/{config.json, manifest.json, params/}`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jax_interp.components import TABLE
from jax_interp.config import from_json
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.adapters import Adapter
from jax_interp.runtime.checkpoint.description import (
    AGAIN,
    CONFIG_FILE,
    Manifest,
    read_description,
    read_manifest,
)


@dataclass(frozen=True)
class ConvertedComponent:
    """A converted network: what it is and where its parameters lie, none of them read."""

    path: Path
    component: str
    config: Any
    """The network's configuration, of the class that `components.TABLE` has for it."""
    dtype: str
    """The dtype that most of the stored bytes have."""
    manifest: Manifest
    """Where it came from ("sources"), its arrays ("params") and the sizes of its files ("files")."""
    within: str = ""
    """How the paths of the arrays begin that count, if it is a `part` of what the folder holds."""
    adapters: tuple[Adapter, ...] = ()
    """What is merged into the parameters as they are read, in this order."""

    def part(self, name: str, config: Any) -> "ConvertedComponent":
        """One of several networks that are stored together: that of `config`, whose arrays are under `name`."""
        return replace(self, config=config, within=f"{self.within}{name}/")

    @property
    def source_sha256(self) -> dict[str, str]:
        """SHA-256 of every file that it was converted from, by name."""
        return {source["name"]: source["sha256"] for source in self.manifest["sources"]}


def open_component(path: Path, *, allow_incomplete: bool = False) -> ConvertedComponent:
    """Read what a converted folder says about itself, and check that all its files are there.

    Raises:
        CheckpointError: its config or manifest is missing, damaged or of a newer format, or files are missing or cut
            short (all are named).
    """
    description = read_description(path)
    component = description["component"]
    if component not in TABLE:
        raise CheckpointError(
            f"{path / CONFIG_FILE}: damaged or not written by jax-interp, component is {component!r:.60}, expected"
            f" {' or '.join(TABLE)}; {AGAIN}"
        )
    manifest = read_manifest(path, component)
    config = from_json(TABLE[component].config, description["config"], str(path / CONFIG_FILE))
    converted = ConvertedComponent(path, component, config, description["dtype"], manifest)
    if not allow_incomplete and (faults := faulty_files(converted)):
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise CheckpointError(f"{path}: incomplete, {shown}; {AGAIN}")
    return converted


def faulty_files(converted: ConvertedComponent) -> list[str]:
    """Every file of the manifest that is missing or not as long as it was written."""
    faults = []
    for name, size in converted.manifest["files"].items():
        path = converted.path / name
        try:
            if not path.is_file():
                faults.append(f"{name} is missing")
            elif path.stat().st_size != size:
                faults.append(f"{name} has {path.stat().st_size} bytes, expected {size}")
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror})")
    return faults
