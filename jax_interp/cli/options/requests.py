"""The requests of the smaller commands, as frozen values that are made before JAX is imported.

Those of `generate` and `train` are `GenerateRequest` (`pipeline.requests.request`) and `TrainingRequest`
(`train.runs.request`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convert.hub.catalog import Repository
from jax_interp.config import Precision, Quantization
from jax_interp.errors import UsageError
from jax_interp.media.timeline.settings import SceneCuts
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.requests.request import GenerateRequest
from jax_interp.pipeline.safety.settings import GuardrailSettings
from jax_interp.pipeline.settings import RunSettings
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.settings import TrainSettings

OURS = "jax-interp"
"""What `evaluate` calls what this program generated."""

METHODS = (OURS, "nearest", "blend", "truth")
"""The names that a report has in any case."""


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


def clip_name(clip: Path) -> str:
    """Return what the files of an evaluated clip are called: the name of the file or folder, without its suffix."""
    resolved = clip.resolve()
    return resolved.name if resolved.is_dir() else resolved.stem


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """The request of `evaluate`."""

    clips: tuple[Path, ...]
    generate: GenerateRequest | None
    """How the networks make the frames of each clip; None if they make none."""
    stride: int
    """Frames from one keyframe to the next."""
    num_frame_pairs: int | None
    scene_cuts: SceneCuts | None
    """How cuts are found; None looks for them if it can."""
    height: int
    width: int
    against: tuple[Path, ...]
    """What other tools made of the only clip."""
    save_keyframes: Path | None
    output_dir: Path
    overwrite: bool

    def __post_init__(self) -> None:
        if len(self.clips) > 1 and (self.against or self.save_keyframes):
            raise UsageError("--against and --save-keyframes go with one clip, not with a folder of several")
        if len(self.clips) > 1 and isinstance(self.scene_cuts, Path):
            raise UsageError(f"--scene-cuts {self.scene_cuts}: a file goes with one clip, not with a folder of several")
        names = [clip_name(clip) for clip in self.clips]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"{', '.join(twice)}: several clips differ in their suffix alone; rename one of each")
        methods = [clip_name(path) for path in self.against]
        if bad := sorted({name for name in methods if methods.count(name) > 1 or name in METHODS}):
            raise UsageError(
                f"--against: the name {', '.join(bad)} would be there twice in the report; rename the file"
            )
        if self.height < 1 or self.width < 1:
            raise UsageError(f"--height {self.height} --width {self.width}: must be positive")


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """The request of `compare`."""

    clips: tuple[Path, ...]
    names: tuple[str, ...]
    """What the page calls the clips; empty for the names of their files."""
    output: Path
    overwrite: bool
    first: int
    end: int | None
    """The first frame that is compared and the one after the last; None for all."""
    width: int | None
    quality: int
    alignment: Literal["auto", "time", "ends"]

    def __post_init__(self) -> None:
        if not 2 <= len(self.clips) <= 3:
            raise UsageError(f"{len(self.clips)} clip(s): give two or three to compare")
        if self.names and len(self.names) != len(self.clips):
            raise UsageError(f"--name: {len(self.names)} name(s) for {len(self.clips)} clips; give one for each")
        if self.output.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--output {self.output}: a page ends in .html")

    def shown_names(self) -> tuple[str, ...]:
        """Return what the page calls the clips; files of one name are told apart by their whole paths."""
        names = [path.resolve().name for path in self.clips]
        return self.names or tuple(names if len(set(names)) == len(names) else map(str, self.clips))


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
