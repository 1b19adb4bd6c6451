"""The calibration of a network for 8 bits: who makes it, and its files in the converted folder."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from convert.formats.safetensors_file import open_safetensors
from convert.formats.safetensors_writer import Entry, write_safetensors
from convert.progress import Progress
from jax_interp.components import TransformerType
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.calibration import REPORT_FILE, STATISTICS_FILE, Calibration
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.description import AGAIN
from jax_interp.runtime.checkpoint.smoothing import KERNEL, product_name


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


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write report and statistics of a calibration into a converted folder."""
    report = json.dumps(dataclasses.asdict(calibration.report), indent=1)
    (folder / REPORT_FILE).write_text(report + "\n", "utf-8")
    entries = [
        Entry(product, values.shape, np.dtype(np.float32), lambda values=values: values.astype(np.float32))
        for product, values in calibration.largest.items()
    ]
    write_safetensors(folder / STATISTICS_FILE, entries)


def read_statistics(converted: ConvertedComponent) -> dict[str, np.ndarray]:
    """Read the largest magnitudes of the input channels of a smoothed network's products, [blocks, channels].

    Raises:
        CheckpointError: the file is damaged, or of another network.
    """
    path = converted.path / STATISTICS_FILE
    stored = {name: entry["shape"] for name, entry in converted.manifest["params"].items() if name.endswith(KERNEL)}
    expected = {product_name(name): (shape[0], shape[-1]) for name, shape in stored.items()}
    try:
        tensors = open_safetensors(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error
    found = {name: (*tensor.shape, tensor.dtype.name) for name, tensor in tensors.items()}
    if found != {product: (*shape, "float32") for product, shape in expected.items()}:
        raise CheckpointError(f"{path}: damaged, or of another network than its folder; {AGAIN}")
    values = {name: tensor.read() for name, tensor in tensors.items()}
    if faults := [name for name, array in values.items() if not (np.isfinite(array) & (array >= 0)).all()]:
        raise CheckpointError(
            f"{path}: damaged, {', '.join(faults)} hold magnitudes that are negative or not finite; {AGAIN}"
        )
    return values
