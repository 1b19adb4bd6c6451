"""The run of `jax-interp convert`."""

from convert.conversion import ConversionRequest, convert_checkpoints
from convert.progress import Progress
from jax_interp.cli.options.calibration import CalibrationOptions
from jax_interp.pipeline.calibration.calibrator import Calibrator
from jax_interp.runtime.compile_cache import enable_compile_cache
from jax_interp.terminal import show


def calibrator(asked: CalibrationOptions) -> Calibrator | None:
    """Return the calibration that was asked for; None if there is none."""
    return None if asked.calibrate is None else Calibrator(asked.calibrate, asked.height, asked.width)


def run(request: ConversionRequest, progress: Progress) -> None:
    """Convert what `request` says, and print the folders."""
    if request.calibrate is not None:
        enable_compile_cache()
    for path in convert_checkpoints(request, progress):
        show(path)
