"""What is done with videos that are not plain progressive SDR. Imports no numpy."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from jax_interp.errors import UsageError

Hdr: TypeAlias = Literal["tonemap", "refuse"]
Interlaced: TypeAlias = Literal["deinterlace", "keep"]


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How HDR and interlaced videos are read."""

    hdr: Hdr = "tonemap"
    """Whether PQ and HLG are tone-mapped to BT.709, or refused."""
    interlaced: Interlaced = "deinterlace"
    """Whether interlaced frames are deinterlaced (libavfilter's bwdif), or kept with a warning."""

    def __post_init__(self) -> None:
        if self.hdr not in get_args(Hdr):
            raise UsageError(f"--hdr {self.hdr}: expected tonemap or refuse")
        if self.interlaced not in get_args(Interlaced):
            raise UsageError(f"--interlaced {self.interlaced}: expected deinterlace or keep")
