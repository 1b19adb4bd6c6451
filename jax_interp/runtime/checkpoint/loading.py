"""Converted networks on disk: find one, check that it is whole, load its parameters where they belong.

A converted folder has one folder for each network, under upstream's name:
`converted/Cosmos-Predict1-7B-WorldInterpolator/{config.json, manifest.json, params/}`.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp.components import TABLE
from jax_interp.config import from_json
from jax_interp.errors import CheckpointError
from jax_interp.nn.params import check_complete, flatten, unflatten
from jax_interp.runtime.checkpoint.adapters import Adapter, adapted_paths, merge
from jax_interp.runtime.checkpoint.description import (
    AGAIN,
    CONFIG_FILE,
    MANIFEST_FILE,
    PARAMS_FOLDER,
    Manifest,
    read_description,
    read_manifest,
    stated_component,
)
from jax_interp.runtime.checkpoint.param_files import ArrayStream, read_arrays, read_params, write_params
from jax_interp.runtime.host import out_of_memory
from jax_interp.types import Params

__all__ = [
    "ArrayStream",
    "ConvertedComponent",
    "StackedParams",
    "damage_reported",
    "faulty_files",
    "find_component",
    "has_component",
    "load_params",
    "open_component",
    "save_params",
    "scan",
]

BLOCKS = "blocks/"
"""How the paths of stacked arrays begin."""

_UNCONVERTED = (".pt", ".pth", ".bin", ".jit", ".safetensors")

save_params = write_params


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


def partial_folder(target: Path) -> Path:
    """Where `target` is written before it gets its name."""
    return target.with_name(f".{target.name}.converting")


def find_component(root: Path | str, component: str, name: str | None = None) -> ConvertedComponent:
    """The converted network `component` below `root`.

    `name` is its folder relative to `root`. Without one it is the only one there, or among several the one under
    upstream's default name.

    Raises:
        CheckpointError: it is absent, incomplete, damaged, of a newer format, or not converted yet, or there are
            several to choose from; the message says what to run or which flag to pass.
    """
    root = Path(root)
    if not root.is_dir():
        raise CheckpointError(
            f"{root}: no such folder; make it with `jax-interp convert --checkpoint-dir CHECKPOINTS"
            f" --output-dir {root}`, CHECKPOINTS being the folder of the download"
        )
    if name is not None:
        if not (root / name / CONFIG_FILE).is_file():
            raise CheckpointError(_why_absent(root, component, root / name))
        return _of_kind(open_component(root / name), component)
    folders = [folder for folder in scan(root) if stated_component(folder) == component]
    if not folders:
        raise CheckpointError(_why_absent(root, component, None))
    default = root / TABLE[component].folder
    if len(folders) > 1 and default not in folders:
        names = ", ".join(str(folder.relative_to(root)) for folder in folders)
        raise CheckpointError(f"{root}: has several {component}s; choose one with {TABLE[component].flag}: {names}")
    return open_component(default if len(folders) > 1 else folders[0])


def has_component(root: Path | str, component: str) -> bool:
    """Whether `root` holds a converted `component`, whole or not."""
    return any(stated_component(folder) == component for folder in scan(Path(root)))


def scan(root: Path) -> list[Path]:
    """The folders at `root` and up to three levels below that hold a converted network, whole or not."""
    return [folder for folder in folders_in(root) if stated_component(folder) is not None]


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
    found = ConvertedComponent(path, component, config, description["dtype"], manifest)
    if not allow_incomplete and (faults := faulty_files(found)):
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise CheckpointError(f"{path}: incomplete, {shown}; {AGAIN}")
    return found


def faulty_files(found: ConvertedComponent) -> list[str]:
    """Every file of the manifest that is missing or not as long as it was written."""
    faults = []
    for name, size in found.manifest["files"].items():
        path = found.path / name
        try:
            if not path.is_file():
                faults.append(f"{name} is missing")
            elif path.stat().st_size != size:
                faults.append(f"{name} has {path.stat().st_size} bytes, expected {size}")
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror})")
    return faults


def load_params(found: ConvertedComponent, abstract: Params, dtype: Any = None) -> Params:
    """The parameters of `found` as `jax.Array`s, shaped like `abstract`.

    `abstract` is a nested dict of `jax.ShapeDtypeStruct`; where one has a sharding the array is read straight into it
    (host memory included), else it goes to the default device. `dtype` is what floating arrays become; without it each
    keeps the dtype that it is stored in. The dtypes of `abstract` are not looked at.

    Raises:
        CheckpointError: paths or shapes differ from `abstract` (all are named), or the files are damaged.
    """
    if found.within or found.adapters:
        raise ValueError(f"a part of {found.path}, or one with adapters, is read with StackedParams")
    dtypes = _checked_dtypes(found, abstract, dtype)
    default = jnp.zeros(()).sharding
    target = {
        path: jax.ShapeDtypeStruct(leaf.shape, dtypes[path], sharding=getattr(leaf, "sharding", None) or default)
        for path, leaf in flatten(abstract)
    }
    with damage_reported(found):
        params = read_params(found.path / PARAMS_FOLDER, unflatten(target))
    check_complete(params, abstract)
    _check_values(found, dict(flatten(params)))
    return params


class StackedParams:
    """The parameters of a network with a stack under `blocks`, read from disk piece by piece, as numpy arrays."""

    def __init__(self, found: ConvertedComponent, abstract: Params, dtype: Any = None):
        """Check `found` against `abstract`, as `load_params` does; nothing is read."""
        self._found = found
        dtypes = _checked_dtypes(found, abstract, dtype)
        self._outer = {path: dtype for path, dtype in dtypes.items() if not path.startswith(BLOCKS)}
        self._blocks = {path: dtype for path, dtype in dtypes.items() if path.startswith(BLOCKS)}

    def outer(self, host_only: Collection[str] = ()) -> Params:
        """Everything but the blocks and the arrays `host_only`."""
        return unflatten(
            self._read({path: dtype for path, dtype in self._outer.items() if path not in host_only}, None)
        )

    def array(self, path: str) -> np.ndarray:
        """One array that is in no block."""
        return self._read({path: self._outer[path]}, None)[path]

    def part(self, index: int, names: Collection[str]) -> Params:
        """What block `index` of the stack has under `names`."""
        wanted = {path: dtype for path, dtype in self._blocks.items() if path.split("/")[1] in names}
        adapters = self._found.adapters
        # Sums are rounded once, from float32: a weight that is to be merged is not rounded on its way here.
        merged = {path: np.dtype("float32") for path in adapted_paths(adapters) & wanted.keys()}
        arrays = self._read(wanted | merged, index)
        arrays |= {path: merge(arrays[path], path, index, adapters, wanted[path]) for path in merged}
        return unflatten({path.removeprefix(BLOCKS): array for path, array in arrays.items()})

    def _read(self, wanted: dict[str, Any], row: int | None) -> dict[str, Any]:
        within = self._found.within
        with damage_reported(self._found):
            arrays = read_arrays(
                self._found.path / PARAMS_FOLDER, {within + path: dtype for path, dtype in wanted.items()}, row
            )
        _check_values(self._found, arrays)
        return {path.removeprefix(within): array for path, array in arrays.items()}


def _check_values(found: ConvertedComponent, arrays: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` if a network in which they would go unnoticed has values that no training gives."""
    if not TABLE[found.component].hides_damage:
        return
    values = {path: np.asarray(array) for path, array in arrays.items()}
    for fault, is_faulty in (("values that are not numbers", _has_no_numbers), ("one value throughout", _is_constant)):
        if faults := [path for path, array in values.items() if is_faulty(array)]:
            raise CheckpointError(
                f"{found.path / PARAMS_FOLDER}: {', '.join(faults[:5])} hold {fault}; download the {found.component}"
                " again and convert it again"
            )


def _has_no_numbers(array: np.ndarray) -> bool:
    return not np.isfinite(array).all()


def _is_constant(array: np.ndarray) -> bool:
    """Whether it is a matrix or a kernel whose values are all the same; biases and scales may be."""
    first, last = array.flat[0], array.flat[-1]
    return array.ndim > 1 and array.size > 1 and bool(first == last) and bool((array == first).all())


def _checked_dtypes(found: ConvertedComponent, abstract: Params, dtype: Any) -> dict[str, Any]:
    """What every stored array becomes; raises `CheckpointError` if they do not fit `abstract`."""
    stored = {
        path.removeprefix(found.within): jax.ShapeDtypeStruct(tuple(entry["shape"]), jnp.dtype(entry["dtype"]))
        for path, entry in found.manifest["params"].items()
        if path.startswith(found.within)
    }
    try:
        check_complete(unflatten(stored), abstract)
    except ValueError as error:
        raise CheckpointError(
            f"{found.path / MANIFEST_FILE} (and {CONFIG_FILE}): does not fit this version's network ({error}); {AGAIN}"
        ) from error
    return {path: _cast(leaf.dtype, dtype) for path, leaf in stored.items()}


@contextmanager
def damage_reported(found: ConvertedComponent) -> Iterator[None]:
    """Turn whatever goes wrong while arrays are read, but for memory that runs out, into a `CheckpointError`."""
    try:
        yield
    except Exception as error:  # Orbax raises a bare Exception for an array that it cannot read
        if out_of_memory(error):
            raise
        raise CheckpointError(
            f"{found.path / PARAMS_FOLDER}: cannot be read; if memory and disk are in order, convert it again: the"
            f" command of the first time, with --overwrite ({error})"
        ) from error


def _cast(stored: Any, wanted: Any) -> Any:
    return jnp.dtype(wanted) if wanted is not None and jnp.issubdtype(stored, jnp.floating) else stored


def folders_in(root: Path) -> Iterator[Path]:
    """`root` and the folders up to three levels below, hidden ones left out: networks lie no deeper."""
    yield root
    for pattern in ("*", "*/*", "*/*/*"):
        yield from sorted(path for path in root.glob(pattern) if path.is_dir() and not path.name.startswith("."))


def _of_kind(found: ConvertedComponent, component: str) -> ConvertedComponent:
    if found.component != component:
        raise CheckpointError(
            f"{found.path}: is a {found.component}, expected a {component}; check {TABLE[component].flag}"
        )
    return found


def _why_absent(root: Path, component: str, folder: Path | None) -> str:
    """Why `component` is not in `root` (or not in `folder` of it), and what to do about it."""
    where = folder or root
    places = [folder] if folder is not None else list(folders_in(root))
    for place in places:
        if (place / MANIFEST_FILE).exists() or (place / PARAMS_FOLDER).is_dir():
            if not (place / CONFIG_FILE).is_file():
                return f"{place}: incomplete, it lacks {CONFIG_FILE}; {_how_to_convert(component, root, '--overwrite')}"
        elif weights := _weights_in(place):
            return (
                f"{where}: not converted, {weights} is a PyTorch file; run `jax-interp convert --checkpoint-dir"
                f" {root} --output-dir converted` and pass the folder converted"
            )
    if any(partial_folder(place).exists() for place in [*places, root / TABLE[component].folder]):
        return f"{where}: a conversion to it was interrupted; {_how_to_convert(component, root)}"
    others = ", ".join(str(path.relative_to(root)) for path in scan(root))
    return f"{where}: has no {component} (it has {others or 'nothing converted'}); {_how_to_convert(component, root)}"


def _weights_in(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.suffix in _UNCONVERTED and path.is_file()), None)


def _how_to_convert(component: str, root: Path, *flags: str) -> str:
    command = ["jax-interp convert --checkpoint-dir CHECKPOINTS --output-dir", str(root), "--components", component]
    fetched = f"CHECKPOINTS being the folder of `jax-interp download --components {component}`"
    return f"run `{' '.join([*command, *flags])}`, {fetched}"
