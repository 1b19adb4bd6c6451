"""Opening a converted network on disk: its configuration, the place of its parameters, and a check of its files.

A converted folder has one folder for each network, under upstream's name:
`converted/Cosmos-Predict1-7B-WorldInterpolator/{config.json, manifest.json, params/}`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jax_interp.components import TABLE, TransformerType, transformer_type
from jax_interp.config import DIT_7B, DiTConfig, Quantization, from_json, published_rotary_ratio
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.runtime.checkpoint.adapters import Adapter
from jax_interp.runtime.checkpoint.calibration import (
    REPORT_FILE,
    CalibrationReport,
    CalibrationSettings,
    Factors,
)
from jax_interp.runtime.checkpoint.description import (
    AGAIN,
    CONFIG_FILE,
    MANIFEST_FILE,
    Manifest,
    read_described,
    read_description,
    read_manifest,
)

_KERNEL = "/int8_kernel"


@dataclass(frozen=True)
class ConvertedComponent:
    """A converted network: its kind, its configuration and the folder of its parameters, none of which is read yet."""

    path: Path
    component: str
    config: Any
    """The network's configuration, of the class that `components.TABLE` has for it."""
    dtype: str
    """The dtype of most of the stored bytes."""
    manifest: Manifest
    """The origin of the network ("sources"), its arrays ("params") and the sizes of its files ("files")."""
    within: str = ""
    """The prefix of the arrays' paths, where this is a `part` of what the folder stores."""
    adapters: tuple[Adapter, ...] = ()
    """The adapters that are merged into the parameters as they are read, in this order."""
    stored: Quantization = "none"
    """The quantisation of the stored weights."""
    quantization: Quantization = "none"
    """The quantisation with which the network runs: that of `stored`, or one that is made as the weights are read."""
    factors: Factors | None = None
    """The factors that are folded into weights as these are quantised; None where there are none, or stored ones."""

    def part(self, name: str, config: Any) -> "ConvertedComponent":
        """Return one of several networks that are stored together; its arrays are under `name`."""
        return replace(self, config=config, within=f"{self.within}{name}/")

    def quantized(self, wanted: Quantization | None) -> "ConvertedComponent":
        """Return the network to run with the quantisation `wanted`; None stands for the one in which it is stored.

        Networks without large products stay as they are; language models, of which the weights alone are in 8 bits,
        take "int8-rotated" as "int8", and all but the transformer "int8-smoothed".

        Raises:
            UsageError: weights that are stored in 8 bits are wanted in full or in other 8 bits, or what needs a
                calibration is wanted of a network that has none.
        """
        if wanted is None:
            return replace(self, quantization=self.stored)
        runs_in = TABLE[self.component].runs_in(wanted)
        if runs_in != self.stored != "none":
            raise UsageError(
                f"{self.path}: stored in {self.stored}, from which the weights cannot be restored; leave out"
                f" --quantization {wanted}, or name a folder that was converted without --quantization"
            )
        if runs_in == "int8-smoothed" != self.stored:
            raise UsageError(
                f"{self.path}: converted without a calibration, which --quantization int8-smoothed needs; make another"
                " folder with `jax-interp convert --quantization int8 --calibrate CLIP --output-dir FOLDER`, CLIP being"
                " a video of yours, and name that"
            )
        return replace(self, quantization=runs_in)

    def require_full(self, what: str) -> None:
        """Raise `UsageError` if the weights are stored in 8 bits; `what` is said of the network, as "be trained"."""
        if self.stored != "none":
            raise UsageError(
                f"{self.path}: stored in {self.stored}, from which it cannot {what}; name a folder that was converted"
                " without --quantization"
            )

    @property
    def source_sha256(self) -> dict[str, str]:
        """The SHA-256 of every file that the network was converted from, by the file's name."""
        return {source["name"]: source["sha256"] for source in self.manifest["sources"]}

    @property
    def calibration(self) -> CalibrationSettings | None:
        """What identifies the calibration of a smoothed network; None for other networks."""
        return self.manifest["settings"].get("calibration")

    @property
    def transformer_type(self) -> TransformerType | None:
        """What a diffusion transformer was trained for: as the conversion noted, or as its folder's name tells."""
        return self.manifest["settings"].get("type") or transformer_type(self.path.name)


def open_component(path: Path, *, allow_incomplete: bool = False) -> ConvertedComponent:
    """Read the description of a converted folder, and check that all its files are there.

    Raises:
        CheckpointError: config or manifest is missing, damaged or of a newer format, or files are missing or cut short
            (the message names all of them), or an earlier version took a 14B transformer for a 7B.
    """
    description = read_description(path)
    component = description["component"]
    if component not in TABLE:
        raise CheckpointError(
            f"{path / CONFIG_FILE}: damaged or not written by jax-interp, component is {component!r:.60}, expected"
            f" {' or '.join(TABLE)}; {AGAIN}"
        )
    manifest = read_manifest(path, description)
    stored: Quantization = description.get("quantization", "none")
    if stored != TABLE[component].runs_in(stored):
        raise CheckpointError(
            f"{path / CONFIG_FILE}: damaged or not written by jax-interp, quantization is {stored!r}, in which no"
            f" {component} is stored; {AGAIN}"
        )
    config = from_json(TABLE[component].config, description["config"], str(path / CONFIG_FILE))
    if isinstance(config, DiTConfig):
        _check_rotary_ratio(config, path)
    converted = ConvertedComponent(
        path, component, config, description["dtype"], manifest, stored=stored, quantization=stored
    )
    if not allow_incomplete and (faults := faulty_files(converted)):
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise CheckpointError(f"{path}: incomplete, {shown}; {AGAIN}")
    if stored == "int8-smoothed" and not allow_incomplete:
        open_calibration(converted)
    return converted


def _check_rotary_ratio(config: DiTConfig, path: Path) -> None:
    """Raise `CheckpointError` for a 14B transformer that was converted when every one got the 7B's rotary ratios."""
    expected = published_rotary_ratio(config, path.name)
    if config.rotary_ratio == DIT_7B.rotary_ratio != expected:
        raise CheckpointError(
            f"{path / CONFIG_FILE}: rotary_ratio is {list(config.rotary_ratio)}, which an earlier version wrote for"
            f" every transformer; the 14B's is {list(expected)}, and frames made with another one are wrong. {AGAIN}"
        )


def open_calibration(converted: ConvertedComponent) -> CalibrationReport:
    """Read the report of the calibration in the folder of a smoothed network.

    Raises:
        CheckpointError: it is missing, damaged, or that of another network.
    """
    report = read_described(converted.path, REPORT_FILE, CalibrationReport)
    kernels = [path for path in converted.manifest["params"] if path.endswith(_KERNEL)]
    expected = sorted(
        (block, path.removeprefix("blocks/").removesuffix(_KERNEL))
        for path in kernels
        for block in range(converted.config.num_blocks)
    )
    found = sorted((product.block, product.product) for product in report.products)
    if (found, report.sources, report.settings) != (expected, converted.source_sha256, converted.calibration):
        raise CheckpointError(
            f"{converted.path / REPORT_FILE}: damaged, or of another network than {converted.path / MANIFEST_FILE}"
            f" describes; {AGAIN}"
        )
    return report


def faulty_files(converted: ConvertedComponent) -> list[str]:
    """Return every file of the manifest that is missing or does not have the size with which it was written."""
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
