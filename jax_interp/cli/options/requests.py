"""The requests of the smaller commands, as frozen values that are made before JAX is imported.

Those of `generate` and `train` are `GenerateRequest` (`pipeline.requests.request`) and `TrainingRequest`
(`train.runs.request`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convert.hub.catalog import Repository
from jax_interp.config import Precision, Quantization
from jax_interp.errors import UsageError
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.safety.settings import GuardrailSettings
from jax_interp.pipeline.settings import RunSettings
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class DownloadRequest:
    """The request of `download`."""

    repositories: tuple[Repository, ...]
    checkpoint_dir: Path
    revisions: tuple[str, ...]
    """The revisions to fetch, each as REVISION or REPOSITORY=REVISION."""
    check_md5: bool
    dry_run: bool
    yes: bool
    """Whether to fetch without asking for confirmation."""


@dataclass(frozen=True, kw_only=True)
class MemoryRequest:
    """The request of `memory`."""

    checkpoint_dir: Path | None
    """The folder of converted networks; None takes `converted` if it is there, else the released networks."""
    folders: Mapping[str, str | None]
    """The networks that are counted; the value chooses among several converted networks of one kind."""
    expects_guardrails: bool
    model: str | None
    """The size of the released networks to count, in place of converted ones."""
    settings: RunSettings
    """Those of the pipeline whose run is planned for."""
    precisions: Mapping[str | None, Precision]
    """The dtypes by the options that choose them (`components.ComponentRow.precision_flag`)."""
    mesh: MeshShape
    memory: MemorySettings
    available: int | None
    """Bytes of GPU memory to choose a plan for; None if no GPU was found and no budget was given."""
    training: TrainSettings | None
    """The settings of `train`; None if the plan is for `generate`."""
    quantization: Quantization | None = None
    """The quantisation of the networks; None stands for that in which each is stored."""

    def __post_init__(self) -> None:
        if self.training is not None and self.quantization not in (None, "none"):
            raise UsageError(f"--quantization {self.quantization}: networks are trained in full; leave it out")


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """The request of `check`."""

    prompt: str | None
    video: tuple[Path, ...]
    save_blurred: Path | None
    overwrite: bool
    checkpoint_dir: Path
    folders: Mapping[str, str | None]
    guardrails: GuardrailSettings
    memory: MemorySettings
    quantization: Quantization | None = None
    """The quantisation of the networks; None stands for that in which each is stored."""

    def __post_init__(self) -> None:
        if self.prompt is None and not self.video:
            raise UsageError("nothing to check: give --prompt, --video or both")
        if self.save_blurred is not None and not self.video:
            raise UsageError("--save-blurred: there is no --video to take the frames from")


@dataclass(frozen=True, kw_only=True)
class UpsampleRequest:
    """The request of `upsample`."""

    input: tuple[Path, ...]
    settings: UpsamplerSettings
    seed: int
    output: Path | None
    overwrite: bool
    checkpoint_dir: Path
    folder: str | None
    """The folder of the converted prompt upsampler, where there are several."""
    dtype: Precision
    memory: MemorySettings
    quantization: Quantization | None = None
    """The quantisation of the network; None stands for that in which it is stored."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is {self.seed}; expected a whole number from 0 to {2**32 - 1}")
        if self.output is not None and not self.output.absolute().parent.is_dir():
            raise UsageError(
                f"--output {self.output}: there is no folder {self.output.absolute().parent}; make it first"
            )
