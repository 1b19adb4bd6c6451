"""The description in a converted folder: `config.json` is for the program, `manifest.json` records the origin."""

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, TypedDict, TypeVar

from jax_interp.config import Quantization
from jax_interp.errors import CheckpointError
from jax_interp.files.json_file import read_json
from jax_interp.files.json_schema import MAX_FAULTS, Between, JsonFault, Matching
from jax_interp.runtime.checkpoint.calibration import CalibrationSettings

FormatVersion = Literal[1, 2]
FORMAT_VERSION: FormatVersion = 2
"""The newest format that this program reads. Networks in 8 bits are of format 2, which older programs refuse; others
are written in format 1, which they read."""
CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER = "config.json", "manifest.json", "params"

AGAIN = "convert it again: the command of the first time, with --overwrite"

T = TypeVar("T")

_DTYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "complex64", "complex128"),
    *("bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"),
}
_Dtype = Annotated[str, Matching(_DTYPES.__contains__, "the name of a dtype")]
_Quantized: TypeAlias = Literal["int8", "int8-rotated", "int8-smoothed"]
_Bytes = Annotated[int, Between(0, 2**63 - 1)]


class Description(TypedDict):
    """The contents of `config.json`."""

    component: str
    format_version: FormatVersion
    dtype: _Dtype
    """The dtype of most of the stored bytes."""
    config: dict[str, Any]
    """The fields of the network's class in `jax_interp.config`."""
    quantization: NotRequired[_Quantized]
    """The quantisation of the large weights; it is there in format 2."""


class SourceFile(TypedDict):
    """A file that a network was converted from."""

    name: str
    size: _Bytes
    modified_ns: int
    sha256: str
    md5: str | None
    published_md5: Literal["matches", "differs", "unknown"] | None


class StoredArray(TypedDict):
    """An array of `params`, and how it was converted."""

    shape: list[_Bytes]
    dtype: _Dtype
    source: str
    op: str


class ConversionSettings(TypedDict, total=False):
    """The settings of the conversion, or the network from which this one was trained."""

    dtype: Literal["bfloat16", "float32"] | None
    weights: Literal["model", "ema"]
    quantization: _Quantized
    calibration: CalibrationSettings
    """The calibration that chose the factors of a smoothed network."""
    trained: dict[str, Any]
    type: Literal["WorldInterpolator", "Video2World"]
    """What a diffusion transformer was trained for, where the conversion could tell."""


class Manifest(TypedDict):
    """The contents of `manifest.json`."""

    sources: list[SourceFile]
    params: dict[str, StoredArray]
    """The arrays by their paths in the tree of parameters."""
    files: dict[str, _Bytes]
    """The bytes of every file except the two descriptions, by path relative to the folder."""
    settings: ConversionSettings
    component: str
    format_version: FormatVersion
    jax_interp: str
    """The version of the program that converted the network."""


def read_description(folder: Path) -> Description:
    """Read the `config.json` of a converted folder.

    Raises:
        CheckpointError: the file is missing, damaged or of a newer format.
    """
    version = read_described(folder, CONFIG_FILE, dict[str, Any]).get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder}: of format {version}, this program reads up to {FORMAT_VERSION}; upgrade jax-interp, or {AGAIN}"
        )
    description = read_described(folder, CONFIG_FILE, Description)
    if description["format_version"] != format_of(description.get("quantization", "none")):
        raise CheckpointError(
            f"{folder / CONFIG_FILE}: damaged, format_version is {version}, but quantization is"
            f" {description.get('quantization')!r}; {AGAIN}"
        )
    return description


def format_of(quantization: Quantization) -> FormatVersion:
    """Return the format in which a network of that quantisation is stored."""
    return 1 if quantization == "none" else 2


def read_manifest(folder: Path, description: Description) -> Manifest:
    """Read the `manifest.json` of a converted folder whose `config.json` has the contents `description`.

    Raises:
        CheckpointError: the file is missing, damaged or of another network or quantisation, or one of its lists is
            empty.
    """
    component, quantization = description["component"], description.get("quantization")
    manifest = read_described(folder, MANIFEST_FILE, Manifest)
    faults = [f"it has no {name}" for name in ("sources", "params", "files") if not manifest[name]]
    outside = [name for name in manifest["files"] if not _is_inside(name)]
    faults += [f"files has {name!r:.80}, which is not in the folder" for name in outside]
    faults += [f"params has {name!r:.80}, which is no path" for name in manifest["params"] if not name.isprintable()]
    settings = manifest["settings"]
    if "trained" not in settings and (lacking := [name for name in ("dtype", "weights") if name not in settings]):
        faults.append(f"settings lacks {', '.join(lacking)}")
    if manifest["format_version"] != description["format_version"] or settings.get("quantization") != quantization:
        faults.append(
            f"it is of format {manifest['format_version']} and quantization {settings.get('quantization')}, but"
            f" {CONFIG_FILE} of {description['format_version']} and {quantization}"
        )
    if ("calibration" in settings) != (quantization == "int8-smoothed"):
        faults.append(f"its settings have {'a' if 'calibration' in settings else 'no'} calibration")
    if manifest["component"] != component:
        faults.append(f"component is {manifest['component']!r}, but {CONFIG_FILE} says {component!r}")
    if faults:
        named = "; ".join(faults[:MAX_FAULTS])
        raise CheckpointError(f"{folder / MANIFEST_FILE}: damaged, {named}; {AGAIN}")
    return manifest


def stated_component(folder: Path) -> str | None:
    """Return the network that the folder declares; None if it declares none, or is another program's.

    Raises:
        CheckpointError: this is a converted folder, but its description cannot be read.
    """
    for name in (CONFIG_FILE, MANIFEST_FILE):
        try:
            values = read_json(folder / name, dict[str, Any])
        except FileNotFoundError:
            continue
        except JsonFault as fault:
            if _is_converted(folder):
                raise CheckpointError(f"{folder / name}: damaged, {fault}; {AGAIN}") from None
            continue
        if isinstance(component := values.get("component"), str):
            return component
    return None


def read_described(folder: Path, name: str, kind: type[T]) -> T:
    """Read a JSON file of a converted folder.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return read_json(folder / name, kind)
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: incomplete, it lacks {name}; {AGAIN}") from None
    except JsonFault as fault:
        raise CheckpointError(f"{folder / name}: damaged or not written by jax-interp, {fault}; {AGAIN}") from None


def _is_converted(folder: Path) -> bool:
    """Tell whether the folder has files that other programs' folders lack; False if it may not be listed."""
    try:
        return (folder / MANIFEST_FILE).exists() or (folder / PARAMS_FOLDER).is_dir()
    except OSError:
        return False


def _is_inside(name: str) -> bool:
    return bool(name) and not name.startswith("/") and ".." not in name.split("/") and name.isprintable()
