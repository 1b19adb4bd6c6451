"""The options for a calibration of networks in 8 bits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class CalibrationOptions:
    """The clip that a transformer is calibrated on, and the size at which it runs for that."""

    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="A video of yours: run the transformer on it, and choose factors that make its large channels smaller"
            " before they are rounded (int8-smoothed). With --quantization int8; takes the time of ten evaluations in"
            " float32, on a GPU if there is one. The other networks have no calibration and are in int8."
        ),
    ] = None
    height: Annotated[int, typer.Option(help="Height at which --calibrate runs, a multiple of 16.")] = 704
    width: Annotated[int, typer.Option(help="Width at which --calibrate runs, a multiple of 16.")] = 1280
