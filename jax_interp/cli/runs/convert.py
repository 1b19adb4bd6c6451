"""The run of `jax-interp convert`, which gives a conversion the calibration that was asked for."""

from dataclasses import replace

from convert.conversion import ConversionRequest, convert_checkpoints
from convert.progress import Progress
from jax_interp.cli.options.calibration import CalibrationOptions
from jax_interp.pipeline.calibration.calibrator import Calibrator
from jax_interp.terminal import show


def run(request: ConversionRequest, asked: CalibrationOptions, progress: Progress) -> None:
    """Convert what `request` says, calibrated as `asked`, and print the folders."""
    if asked.calibrate is not None:
        request = replace(request, calibrate=Calibrator(asked.calibrate, asked.height, asked.width))
    for path in convert_checkpoints(request, progress):
        show(path)
