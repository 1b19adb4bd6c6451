"""What a run is asked for, as one frozen value that is checked before anything is loaded. Imports no JAX."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from jax_interp.errors import UsageError
from jax_interp.media.output_rate import exact_rate
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.requests.settings import DeviceSettings, NetworkSettings, ProcessSettings
from jax_interp.pipeline.safety.settings import GuardrailSettings
from jax_interp.pipeline.settings import InterpolationSettings


@dataclass(frozen=True, kw_only=True)
class Job:
    """A clip to interpolate and where its result goes."""

    inputs: tuple[Path, ...]
    """One video, one folder of pictures, or several pictures."""
    video: Path
    settings: InterpolationSettings = field(default_factory=InterpolationSettings)
    upsampler: UpsamplerSettings | None = None
    """How the prompt is written from the clip's last frame; without, it is the one in `settings`."""
    frames_folder: Path | None = None
    """Where the video's frames also go, as PNG."""
    overwrite: bool = False
    """Whether frames of another run in `frames_folder`, and files that this program did not write, are replaced."""
    rate: Fraction | None = None
    """Frames a second of the video, exact; None: those of `settings`, as `media.output_rate.exact_rate` reads them."""

    @property
    def exact_rate(self) -> Fraction:
        return self.rate or exact_rate(self.settings.sampling.fps)

    @property
    def record(self) -> Path:
        return self.video.with_suffix(".json")

    @property
    def prompt_file(self) -> Path:
        return self.video.with_suffix(".txt")

    @property
    def files(self) -> tuple[Path, ...]:
        """What it writes beside the frames."""
        return self.video, self.prompt_file, self.record


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """Everything that `generate` is asked for; the defaults are those of the command line."""

    jobs: tuple[Job, ...]
    """The clips, one after the other."""
    batch: Path | None = None
    """The file whose lines the jobs are (`batch.read_batch`)."""
    networks: NetworkSettings = field(default_factory=NetworkSettings)
    guardrails: GuardrailSettings | None = field(default_factory=GuardrailSettings)
    """None: neither prompts nor frames are checked, and the model's licence asks for a guardrail of your own."""
    memory: MemorySettings = field(default_factory=MemorySettings)
    devices: DeviceSettings = field(default_factory=DeviceSettings)
    processes: ProcessSettings = field(default_factory=ProcessSettings)
    upsampler_asked_for: bool = False
    """Whether the user wants the prompt upsampler, and not only something to write the prompts that are missing."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for what can never work, all of it in one message."""
        if faults := list(self._faults()):
            raise UsageError("; ".join(faults))

    @property
    def is_batch(self) -> bool:
        """Whether a clip that fails does not stop the others, and one that is done already is left out."""
        return self.batch is not None or len(self.jobs) > 1

    def _faults(self) -> Iterator[str]:
        if not self.jobs:
            yield "there is no clip to interpolate: jobs is empty"
        writers = Counter(job.video for job in self.jobs)
        for video in sorted(video for video, count in writers.items() if count > 1):
            yield f"{video} is the output of several clips"
        for job in self.jobs:
            if job.upsampler is not None and job.settings.prompt:
                yield f"{job.video}: has both a prompt and an upsampler that would write one; give one of them"
