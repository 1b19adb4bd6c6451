"""The settings that all clips of a request share: networks, devices and processes. Imports no JAX."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from jax_interp.components import TABLE
from jax_interp.config import Precision, Quantization
from jax_interp.errors import UsageError
from jax_interp.runtime.member import Member
from jax_interp.runtime.mesh_shape import MeshShape, shapes

MIN_TIMEOUT = 4
"""The shortest timeout in seconds; a busy process sends no sign of life for a second now and then."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The converted networks that a run opens, and their dtypes."""

    checkpoint_dir: Path = Path("converted")
    """A folder that `jax-interp convert` made."""
    folders: Mapping[str, str | None] = field(default_factory=dict)
    """The folder of each network of which there are several conversions, by the names in `components.TABLE`."""
    dtype: Precision = "bfloat16"
    """The dtype in which transformer, tokenizer and prompt upsampler compute."""
    rotary_precision: Precision | None = None
    """The dtype of the rotary tables; None stands for `dtype`."""
    text_encoder_dtype: Precision = "float32"
    quantization: Quantization | None = None
    """The quantisation of the networks that have one; None stands for that in which each is stored."""
    adapters: tuple[tuple[Path, float], ...] = ()
    """Files of low-rank adapters of the transformer, each with its strength."""
    text_embeddings: Path | None = None
    """A file of embeddings that replace the text encoder (`pipeline.prompt.embeddings.save_embeddings`)."""
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
        if self.quantization not in (None, *get_args(Quantization)):
            faults.append(
                f"quantization is {self.quantization!r}; expected 'none', 'int8', 'int8-rotated' or 'int8-smoothed'"
            )
        faults += [f"folders: there is no network {name}" for name in self.folders if name not in TABLE]
        if faults:
            raise UsageError("; ".join(faults))

    def folder(self, name: str) -> str | None:
        """Return the folder that was chosen for the network `name`; None takes the only one."""
        return self.folders.get(name)


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """The devices over which a run is spread; None leaves a choice to the program."""

    mesh: MeshShape | None = None
    """None chooses the fastest mesh for the number of pairs."""
    num_gpus: int | None = None
    """None takes all visible GPUs."""

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
    """The identity of this process among several, and how long they wait for each other."""

    several: bool = False
    """Whether several processes work together."""
    member: Member | None = None
    """None leaves it to the launcher that started the processes, such as Slurm."""
    timeout: float = 60.0
    """Seconds without a sign of life after which another process counts as dead."""

    def __post_init__(self) -> None:
        if not self.timeout >= MIN_TIMEOUT:
            raise UsageError(f"--process-timeout {self.timeout:g}: expected {MIN_TIMEOUT} seconds or more")


def which_would_work(num_devices: int | None, rows: int | None = None) -> str:
    """Name the meshes of `num_devices` devices that leave none of them idle with `rows` evaluations side by side."""
    fit = [str(shape) for shape in shapes(num_devices or 1) if rows is None or shape.data <= rows]
    return f"these would work: {'; '.join(fit)}"
