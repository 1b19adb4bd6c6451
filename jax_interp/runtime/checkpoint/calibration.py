"""What a calibration found and chose, as it is stored in the folder of a smoothed network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, TypedDict

import numpy as np
from jaxtyping import Float

from jax_interp.files.json_schema import Between, Entries

REPORT_FILE, STATISTICS_FILE = "calibration.json", "calibration.safetensors"
"""The report for people, and the largest magnitude of every input channel of every product."""

Factors: TypeAlias = Mapping[str, Float[np.ndarray, "blocks I"]]
"""The factors of every product in 8 bits by its name within a block, as "mlp/up"; powers of two."""

_Error = Annotated[float, Between(0, 1e15)]
_Count = Annotated[int, Between(1, 2**24)]


class CalibrationSettings(TypedDict):
    """What identifies a calibration in manifests, run records and fingerprints."""

    clip: str
    """The name of the clip's file."""
    clip_sha256: str
    height: _Count
    width: _Count
    factors_sha256: str
    """The SHA-256 of all factors."""


@dataclass(frozen=True, kw_only=True)
class ProductReport:
    """What was found and chosen for one product of one block. Errors are relative L2 ones of what the product gives."""

    block: Annotated[int, Between(0, 255)]
    product: str
    """Its name within the block, as "mlp/up"."""
    largest_channel: _Error
    """The largest magnitude of an input channel over the median of all channels that are not zero."""
    strength: Annotated[float, Between(0, 1)]
    """How much of the difference between channels was moved into the weight; 0 for nothing, which is plain int8."""
    int8: _Error
    """The error with both operands in 8 bits as they are."""
    smoothed: _Error
    """The error with the factors that were chosen."""
    bfloat16: _Error
    """The error of the same product in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """What a calibration saw, and what it chose."""

    clip: str
    clip_sha256: str
    height: _Count
    width: _Count
    text: Literal["zeros", "negative prompt"]
    """What the network was told: the all-zero embedding, or the default negative prompt."""
    windows: _Count
    """How many windows of the clip the network saw, each at all noise levels."""
    noise_levels: Annotated[list[float], Entries(1, 64)]
    """Values of sigma."""
    factors_sha256: str
    sources: dict[str, str]
    """The SHA-256 of the files of the network, by name."""
    products: Annotated[list[ProductReport], Entries(1, 1 << 14)]

    @property
    def settings(self) -> CalibrationSettings:
        """What identifies the calibration."""
        return {
            "clip": self.clip,
            "clip_sha256": self.clip_sha256,
            "height": self.height,
            "width": self.width,
            "factors_sha256": self.factors_sha256,
        }


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration, in memory."""

    report: CalibrationReport
    factors: Factors
    largest: Mapping[str, Float[np.ndarray, "blocks I"]]
    """The largest magnitude that the input channels of every product had, by its name within a block."""
