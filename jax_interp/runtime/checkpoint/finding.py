"""Finding the converted networks in a folder, and explaining why one is absent."""

from collections.abc import Iterator
from pathlib import Path

from jax_interp.components import TABLE
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.converted import ConvertedComponent, open_component
from jax_interp.runtime.checkpoint.description import CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER, stated_component

_UNCONVERTED = (".pt", ".pth", ".bin", ".jit", ".safetensors")


def find_component(root: Path | str, component: str, name: str | None = None) -> ConvertedComponent:
    """Find the converted network `component` below `root`.

    `name` is its folder relative to `root`. Without a name, the network must be the only one of its kind there, or,
    among several, have upstream's default name.

    Raises:
        CheckpointError: the network is absent, incomplete, damaged, of a newer format, or not converted yet, or there
        are several to choose from; the message says what to run or which flag to pass.
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
    """Tell whether `root` has a converted `component`, complete or not."""
    return any(stated_component(folder) == component for folder in scan(Path(root)))


def scan(root: Path) -> list[Path]:
    """Return the folders at `root` and up to three levels below that have a converted network, complete or not."""
    return [folder for folder in folders_in(root) if stated_component(folder) is not None]


def folders_in(root: Path) -> Iterator[Path]:
    """Yield `root` and the folders up to three levels below except hidden ones; networks lie no deeper."""
    yield root
    for pattern in ("*", "*/*", "*/*/*"):
        yield from sorted(path for path in root.glob(pattern) if path.is_dir() and not path.name.startswith("."))


def partial_folder(target: Path) -> Path:
    """Return the folder in which `target` is written before it is renamed."""
    return target.with_name(f".{target.name}.converting")


def _of_kind(converted: ConvertedComponent, component: str) -> ConvertedComponent:
    if converted.component != component:
        raise CheckpointError(
            f"{converted.path}: is a {converted.component}, expected a {component}; check {TABLE[component].flag}"
        )
    return converted


def _why_absent(root: Path, component: str, folder: Path | None) -> str:
    """Return the reason why `component` is not in `root` (or in its folder `folder`), and what to do about it."""
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
