"""What a conversion is asked for, and a network that was opened for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from convert.mapping.matching import Leaf
from convert.networks.component import Component
from convert.progress import Progress
from convert.source.checkpoint_files import OpenedCheckpoint, Weights
from convert.source.provenance import Md5Policy
from jax_interp.components import TABLE, TransformerType
from jax_interp.config import Precision, Quantization
from jax_interp.errors import UsageError
from jax_interp.runtime.checkpoint.calibration import Calibration
from jax_interp.runtime.checkpoint.converted import ConvertedComponent


class Calibrate(Protocol):
    """A calibration that is to be made: `jax_interp.Calibrator("clip.mp4")` is one."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What two calibrations must agree in to give the same result."""
        ...

    def check(self, transformer: Any, tokenizer: Any, kind: TransformerType) -> None:
        """Raise an error unless networks of these configurations can be calibrated."""
        ...

    def __call__(
        self,
        transformer: ConvertedComponent,
        tokenizer: ConvertedComponent,
        text_encoder: ConvertedComponent | None,
        progress: Progress,
    ) -> Calibration:
        """Return the calibration of an unquantised `transformer`, which runs beside the other networks."""
        ...


@dataclass(frozen=True, kw_only=True)
class ConversionRequest:
    """A request to convert networks of a checkpoint folder: which ones, and how."""

    checkpoint_dir: Path
    output_dir: Path
    components: tuple[str, ...] = ()
    """Names in `convert.networks.components.COMPONENTS`; an empty tuple means all that `checkpoint_dir` holds."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """The folder of each component that is not in upstream's folder, relative to `checkpoint_dir`."""
    dtype: Precision | None = None
    """The dtype that floating tensors are cast to; None leaves each as it is."""
    weights: Weights | None = None
    """Which of the two sets of weights in a post-trained file is converted; None means "model"."""
    md5: Md5Policy = "warn"
    overwrite: bool = False
    """Replace converted networks that are there already."""
    allow_non_finite: bool = False
    """Convert weights that are NaN or infinite as well, with a warning."""
    quantization: Quantization = "none"
    """The quantisation in which networks that have one are stored."""
    calibrate: Calibrate | None = None
    """The calibration of the transformers, which are then stored in int8-smoothed; the others are in int8."""

    def __post_init__(self) -> None:
        if self.calibrate is not None and self.quantization not in ("int8", "int8-smoothed"):
            raise UsageError(
                f"--calibrate: is for --quantization int8, not {self.quantization}; pass that, or leave it out"
            )
        if self.calibrate is None and self.quantization == "int8-smoothed":
            raise UsageError(
                "--quantization int8-smoothed: needs a calibration; pass --quantization int8 --calibrate CLIP, CLIP"
                " being a video of yours"
            )
        if self.quantization != "none" and self.allow_non_finite:
            raise UsageError(
                f"--allow-non-finite and --quantization {self.quantization}: weights that are not finite cannot be"
                " quantised; leave out one of them"
            )

    def settings(self, component: Component) -> dict[str, Any]:
        """Return the settings in which two conversions of the same files must agree to give the same result."""
        wanted = self.quantization if self.calibrate is None else "int8-smoothed"
        quantization = TABLE[component.name].runs_in(wanted)
        quantized: dict[str, Any] = {} if quantization == "none" else {"quantization": quantization}
        if self.calibrate is not None and quantization == "int8-smoothed":
            quantized["calibration"] = dict(self.calibrate.facts)
        return {"dtype": self.dtype, "weights": self.weights or "model"} | quantized


@dataclass(frozen=True)
class Job:
    """One network: opened, understood and found to be complete; nothing of it read yet."""

    component: Component
    name: str
    """Its folder, relative to the checkpoint folder and to the output folder."""
    target: Path
    opened: OpenedCheckpoint
    config: Any
    leaves: tuple[Leaf, ...]
    existing: Mapping[str, Any]
    """Manifest of what is converted already, empty if there is nothing."""
    copied: Mapping[str, Path]
    """Files of other folders that are copied as they are, by name in the converted folder."""
