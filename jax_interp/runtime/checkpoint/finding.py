"""Finding the converted networks in a folder, and explaining why one is absent."""

from collections.abc import Iterator
from pathlib import Path

from jax_interp.components import TABLE, TRANSFORMER_FOLDERS, TransformerType, transformer_type
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.converted import ConvertedComponent, open_component
from jax_interp.runtime.checkpoint.description import CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER, stated_component

_UNCONVERTED = (".pt", ".pth", ".bin", ".jit", ".safetensors")
_HOW_TO_USE = {
    "WorldInterpolator": "Run it with `jax-interp generate` or `jax_interp.Interpolator`",
    "Video2World": "Run it with `jax-interp video2world` or `jax_interp.Video2World`",
}


def find_component(root: Path | str, component: str, name: str | None = None) -> ConvertedComponent:
    """Find the converted network `component` below `root`.

    `name` is its folder relative to `root`. Without a name, the network must be the only one of its kind there, or,
    among several, have upstream's default name.

    Raises:
        CheckpointError: the network is absent, incomplete, damaged, of a newer format, or not converted yet, or there
        are several to choose from; the message says what to run or which flag to pass.
    """
    root = Path(root)
    if name is None:
        folders = _folders_of(root, component)
        default = root / TABLE[component].folder
        if len(folders) > 1 and default not in folders:
            raise CheckpointError(_several(root, component, folders))
        return open_component(default if len(folders) > 1 else folders[0])
    _check_there(root)
    if not (root / name / CONFIG_FILE).is_file():
        raise CheckpointError(_why_absent(root, component, root / name))
    return _of_kind(open_component(root / name), component)


def find_transformer(root: Path | str, wanted: TransformerType, name: str | None = None) -> ConvertedComponent:
    """Find the converted diffusion transformer of the type `wanted` below `root`, otherwise as `find_component`.

    One of which nothing tells the type is taken for either.

    Raises:
        CheckpointError: under the conditions of `find_component`, or what is there was trained for something else.
    """
    component, root = "diffusion_transformer", Path(root)
    folders = [] if name is not None else _folders_of(root, component)
    if len(folders) > 1:
        fitting = [folder for folder in folders if _type_at(folder) in (wanted, None)]
        default = root / TRANSFORMER_FOLDERS[wanted]
        if len(fitting) > 1 and default not in fitting:
            raise CheckpointError(_several(root, component, fitting))
        chosen = default if default in fitting else (fitting or folders)[0]
        converted = open_component(chosen)
    else:
        converted = find_component(root, component, name)
    if (found := converted.transformer_type) not in (wanted, None):
        raise CheckpointError(
            f"{converted.path}: is a {found} transformer, expected a {wanted} one: their arrays have the same shapes,"
            f" but the weights do something else. {_HOW_TO_USE[found]}, or get the other one (`jax-interp download"
            f" --model-types {wanted}`, then `jax-interp convert`) and choose it with {TABLE[component].flag}"
        )
    return converted


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


def _type_at(folder: Path) -> TransformerType | None:
    """Return the type of the transformer in `folder`; of a damaged one only the name can tell."""
    try:
        return open_component(folder, allow_incomplete=True).transformer_type
    except CheckpointError:
        return transformer_type(folder.name)


def _check_there(root: Path) -> None:
    if not root.is_dir():
        raise CheckpointError(
            f"{root}: no such folder; make it with `jax-interp convert --checkpoint-dir CHECKPOINTS"
            f" --output-dir {root}`, CHECKPOINTS being the folder of the download"
        )


def _folders_of(root: Path, component: str) -> list[Path]:
    """Return the folders below `root` that have a converted `component`; raise `CheckpointError` if there is none."""
    _check_there(root)
    folders = [folder for folder in scan(root) if stated_component(folder) == component]
    if not folders:
        raise CheckpointError(_why_absent(root, component, None))
    return folders


def _several(root: Path, component: str, folders: list[Path]) -> str:
    names = ", ".join(str(folder.relative_to(root)) for folder in folders)
    return f"{root}: has several {component}s; choose one with {TABLE[component].flag}: {names}"


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
