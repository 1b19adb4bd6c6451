"""The parts of a request that are the same for all of its clips: networks, devices and processes. Imports no JAX."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from jax_interp.components import TABLE
from jax_interp.config import Precision
from jax_interp.errors import UsageError
from jax_interp.runtime.member import Member
from jax_interp.runtime.mesh_shape import MeshShape, shapes

MIN_TIMEOUT = 4
"""Seconds: a busy process is silent for a second now and then."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Which converted networks a run opens, and what they compute in."""

    checkpoint_dir: Path = Path("converted")
    """Folder that `jax-interp convert` made."""
    folders: Mapping[str, str | None] = field(default_factory=dict)
    """Which of several converted networks of one kind, by the names in `components.TABLE`."""
    dtype: Precision = "bfloat16"
    """What transformer, tokenizer and prompt upsampler compute in."""
    rotary_precision: Precision | None = None
    """Accuracy of the rotary tables; None: as `dtype`."""
    text_encoder_dtype: Precision = "float32"
    adapters: tuple[tuple[Path, float], ...] = ()
    """Files of low-rank adapters of the transformer, and how strong each is."""
    text_embeddings: Path | None = None
    """File of embeddings that replace the text encoder."""
    embedding_cache: bool = True
    """Whether encoded prompts are kept in the user's cache folder."""

    def __post_init__(self) -> None:
        chosen = {
            "dtype": self.dtype,
            "rotary_precision": self.rotary_precision or self.dtype,
            "text_encoder_dtype": self.text_encoder_dtype,
        }
        faults = [
            f"{name} is {value!r}; expected 'bfloat16' or 'float32'"
            for name, value in chosen.items()
            if value not in get_args(Precision)
        ]
        faults += [f"folders: there is no network {name}" for name in self.folders if name not in TABLE]
        if faults:
            raise UsageError("; ".join(faults))

    def folder(self, name: str) -> str | None:
        """Which converted network `name` is wanted; None takes the only one."""
        return self.folders.get(name)


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Over how many devices a run is spread; None leaves it to the program."""

    mesh: MeshShape | None = None
    """None: the fastest for the pairs there are."""
    num_gpus: int | None = None
    """None: all that are visible."""

    def __post_init__(self) -> None:
        if self.num_gpus is not None and self.num_gpus < 1:
            raise UsageError(f"--num-gpus {self.num_gpus}: expected auto or a number from 1 on")
        if self.mesh is not None and self.num_gpus not in (None, self.mesh.size):
            raise UsageError(
                f"--mesh {self.mesh} has {self.mesh.size} devices and --num-gpus says {self.num_gpus};"
                f" {which_would_work(self.num_gpus)}"
            )


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """Which of several processes this is."""

    several: bool = False
    """Whether there are several at all."""
    member: Member | None = None
    """None: whatever started the processes says."""
    timeout: float = 60.0
    """Seconds without a sign of life after which another process counts as dead."""

    def __post_init__(self) -> None:
        if not self.timeout >= MIN_TIMEOUT:
            raise UsageError(f"--process-timeout {self.timeout:g}: expected {MIN_TIMEOUT} seconds or more")


def which_would_work(num_devices: int | None, rows: int | None = None) -> str:
    """The meshes of so many devices that leave none of them idle with `rows` evaluations side by side."""
    fit = [str(shape) for shape in shapes(num_devices or 1) if rows is None or shape.data <= rows]
    return f"these would work: {'; '.join(fit)}"
