"""The files of a calibration in a converted folder: a report, and the magnitudes that it saw."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from convert.formats.safetensors_file import open_safetensors
from convert.formats.safetensors_writer import Entry, write_safetensors
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.calibration import REPORT_FILE, STATISTICS_FILE, Calibration
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.description import AGAIN
from jax_interp.runtime.checkpoint.smoothing import KERNEL, product_name


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write report and statistics of a calibration into a converted folder."""
    report = json.dumps(dataclasses.asdict(calibration.report), indent=1, allow_nan=False)
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
