"""What the smaller commands are asked for, as frozen values that are made before JAX is imported.

Those of `generate` and `train` are `GenerateRequest` (`pipeline.requests.request`) and `TrainingRequest`
(`train.runs.request`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convert.hub.catalog import Repository
from jax_interp.config import Precision
from jax_interp.errors import UsageError
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.safety.settings import GuardrailSettings
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class DownloadRequest:
    """What `download` fetches."""

    repositories: tuple[Repository, ...]
    checkpoint_dir: Path
    revisions: tuple[str, ...]
    """As REVISION or REPOSITORY=REVISION."""
    check_md5: bool
    dry_run: bool
    yes: bool
    """Whether nobody is asked before."""


@dataclass(frozen=True, kw_only=True)
class MemoryRequest:
    """What `memory` plans for."""

    checkpoint_dir: Path | None
    """None: `converted` if it is there, else the released networks."""
    folders: Mapping[str, str | None]
    """The networks that are counted, and which of several converted ones."""
    expects_guardrails: bool
    model: str | None
    """The released networks of this size, in place of converted ones."""
    settings: InterpolationSettings
    precisions: Mapping[str | None, Precision]
    """By the options that choose one (`components.ComponentRow.precision_flag`)."""
    mesh: MeshShape
    memory: MemorySettings
    available: int | None
    """Bytes of GPU memory to choose a plan for; None where no GPU was found and none was named."""
    training: TrainSettings | None
    """What `train` would be asked; None where it is `generate` that is planned for."""


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """What `check` asks the guardrails about."""

    prompt: str | None
    video: tuple[Path, ...]
    save_blurred: Path | None
    overwrite: bool
    checkpoint_dir: Path
    folders: Mapping[str, str | None]
    guardrails: GuardrailSettings
    memory: MemorySettings

    def __post_init__(self) -> None:
        if self.prompt is None and not self.video:
            raise UsageError("nothing to check: give --prompt, --video or both")
        if self.save_blurred is not None and not self.video:
            raise UsageError("--save-blurred: there is no --video to take the frames from")


@dataclass(frozen=True, kw_only=True)
class UpsampleRequest:
    """What `upsample` writes a prompt for."""

    input: tuple[Path, ...]
    settings: UpsamplerSettings
    seed: int
    output: Path | None
    overwrite: bool
    checkpoint_dir: Path
    folder: str | None
    """Which of several converted prompt upsamplers."""
    dtype: Precision
    memory: MemorySettings

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is {self.seed}; expected a whole number from 0 to {2**32 - 1}")
        if self.output is not None and not self.output.absolute().parent.is_dir():
            raise UsageError(
                f"--output {self.output}: there is no folder {self.output.absolute().parent}; make it first"
            )
