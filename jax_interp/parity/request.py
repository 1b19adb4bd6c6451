"""What a comparison with PyTorch is asked for; it imports neither JAX nor torch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jax_interp.config import Precision
from jax_interp.errors import UsageError

ParityDtype = Literal["float32", "bfloat16", "both"]
Device = Literal["cpu", "cuda"]

Steps = Callable[[str, int], AbstractContextManager[Callable[[int], Any]]]
"""A function that begins a job of a name and a number of steps; the job ends with the context, which is told how many
steps were done since it was last told."""


@dataclass(frozen=True, kw_only=True)
class ParityRequest:
    """A request to compare converted networks with the PyTorch networks of the checkpoints that they came from."""

    converted: Path
    """The folder that `jax-interp convert` made."""
    checkpoint_dir: Path | None = None
    """The folder of the checkpoints, in upstream's layout; None to replay `golden` alone."""
    components: tuple[str, ...] = ()
    """Names in `jax_interp.components.TABLE`; an empty tuple means every network that is there."""
    dtype: ParityDtype = "both"
    device: Device = "cpu"
    golden: Path | None = None
    """A folder of recorded outputs of upstream's classes (docs/parity.md has the format), which is replayed too."""
    seed: int = 0
    """The seed of the networks' inputs."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is {self.seed}; expected a whole number from 0 to {2**32 - 1}")
        if self.checkpoint_dir is None and self.golden is None:
            raise UsageError("nothing to compare with: give --checkpoint-dir, --golden or both")

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The dtypes in which networks are compared."""
        return ("float32", "bfloat16") if self.dtype == "both" else (self.dtype,)


def require_full(network: Path, stored: str) -> None:
    """Raise `UsageError` if the network in the folder `network` is stored in 8 bits, as `stored` says."""
    if stored != "none":
        raise UsageError(
            f"{network}: stored in {stored}, so its weights are not the checkpoint's; compare a folder that was"
            " converted without --quantization, or leave it out by naming the others with --components (--golden runs"
            " it all the same)"
        )
