"""The request of a run of `generate` or `video2world`, one frozen value, checked before anything is loaded.

Imports no JAX."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from jax_interp.errors import UsageError
from jax_interp.media.output_rate import exact_rate
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.shape import Aspect
from jax_interp.media.timeline.settings import Timeline
from jax_interp.media.video.codecs import EncodingSettings
from jax_interp.media.video.streams.sound_settings import Audio
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.requests.settings import DeviceSettings, NetworkSettings, ProcessSettings
from jax_interp.pipeline.safety.settings import GuardrailSettings
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings, Video2WorldSettings


@dataclass(frozen=True, kw_only=True)
class Job:
    """A clip to interpolate or to continue, and where its result goes."""

    inputs: tuple[Path, ...]
    """One video, one folder of pictures, or several pictures."""
    video: Path
    """An mp4, mkv, mov, gif or webp, by its suffix."""
    settings: RunSettings = field(default_factory=InterpolationSettings)
    """Those of `Interpolator` or of `Video2World`: they decide which of the two makes the clip."""
    upsampler: UpsamplerSettings | None = None
    """How the prompt is written from the clip's last frame; None takes the prompt in `settings`."""
    frames_folder: Path | None = None
    """A folder in which the video's frames are also written, as PNG."""
    overwrite: bool = False
    """Whether frames of another run in `frames_folder`, and files that this program did not write, are replaced."""
    rate: Fraction | None = None
    """Frames per second of the video, exact. None stands for those of `settings`, as read by
    `media.output_rate.exact_rate`. It counts at upstream's pace; otherwise `timeline` has the rate."""
    timeline: Timeline = field(default_factory=Timeline)
    """The output's time; the default is upstream's pace."""
    aspect: Aspect | None = None
    """How pictures are made to suit the network's size; None stretches them at upstream's pace, and otherwise keeps
    their shape."""
    reading: ReadSettings = field(default_factory=ReadSettings)
    """How HDR and interlaced videos are read."""
    audio: Audio | None = None
    """What becomes of the input's sound. With it subtitles, chapters and metadata are carried over. None is "off" at
    upstream's pace and otherwise "auto"."""
    encoding: EncodingSettings = field(default_factory=EncodingSettings)
    """How the video is encoded."""

    @property
    def is_timed(self) -> bool:
        """Whether something is asked of the output's time, sound or shape."""
        timeline = replace(self.timeline, slow_motion=self.timeline.slowed)  # it may be written in several ways
        return (timeline, self.aspect, self.audio) != (Timeline(), None, None)

    @property
    def carried_audio(self) -> Audio:
        return self.audio or ("auto" if self.timeline.follows_source else "off")

    @property
    def carries_rest(self) -> bool:
        """Whether subtitles, chapters and metadata are carried over."""
        return self.timeline.follows_source or self.audio not in (None, "off")

    @property
    def own_facts(self) -> dict[str, Any]:
        """What beside `settings`, input and networks decides the result, as JSON values."""
        timeline = self.timeline
        facts: dict[str, Any] = {"encoding": self.encoding.facts(self.video)}
        if timeline.follows_source:
            facts |= {"rate": str(timeline.rate), "slow_motion": str(timeline.slowed)}
        if timeline.scene_cuts not in (None, "off"):
            cuts = timeline.scene_cuts
            facts["scene_cuts"] = list(cuts) if isinstance(cuts, tuple) else str(cuts)
        if timeline.duplicates != "keep":
            facts["duplicates"] = timeline.duplicates
        facts |= {"aspect": asdict(self.aspect)} if self.aspect and self.aspect.keep else {}
        facts |= {} if self.reading == ReadSettings() else asdict(self.reading)
        return facts | ({} if self.audio is None else {"audio": self.audio})

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
        """The files that the job writes, beside the frames."""
        return self.video, self.prompt_file, self.record


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """The complete request of `generate`; the defaults are those of the command line. All jobs are of one pipeline."""

    jobs: tuple[Job, ...]
    """The clips in their order."""
    batch: Path | None = None
    """The file whose lines became the jobs (`batch.read_batch`); None if there was none."""
    networks: NetworkSettings = field(default_factory=NetworkSettings)
    guardrails: GuardrailSettings | None = field(default_factory=GuardrailSettings)
    """None disables the guardrails: neither prompts nor frames are checked, and the model's licence then asks for a
    guardrail of your own."""
    memory: MemorySettings = field(default_factory=MemorySettings)
    devices: DeviceSettings = field(default_factory=DeviceSettings)
    processes: ProcessSettings = field(default_factory=ProcessSettings)
    keeps_finished: bool = False
    """Whether a single clip that is done already is skipped, as those of a batch are."""
    upsampler_asked_for: bool = False
    """Whether the user asked for the prompt upsampler itself, and not only for missing prompts to be written."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for what can never work, all of it in one message."""
        if faults := list(self._faults()):
            raise UsageError("; ".join(faults))

    @property
    def is_batch(self) -> bool:
        """Whether a clip that fails leaves the others running, and a clip that is done already is skipped."""
        return self.batch is not None or len(self.jobs) > 1

    def _faults(self) -> Iterator[str]:
        if not self.jobs:
            yield "there is no clip to interpolate: jobs is empty"
        writers = Counter(job.video for job in self.jobs)
        for video in sorted(video for video, count in writers.items() if count > 1):
            yield f"{video} is the output of several clips"
        if len({type(job.settings) for job in self.jobs}) > 1:
            yield "jobs are of several pipelines: make a request for each"
        records = Counter(video.with_suffix(".json") for video in writers)
        for record in sorted(record for record, count in records.items() if count > 1):
            yield f"{record} is the record of several clips, whose names differ in their suffix alone; rename one"
        for job in self.jobs:
            if faults := job.encoding.faults(job.video):
                yield f"{job.video}: " + "; ".join(faults)
            if isinstance(job.settings, Video2WorldSettings) and job.is_timed:
                yield f"{job.video}: is continued, which takes no timeline, aspect or audio; leave them out"
            if job.upsampler is not None and job.settings.prompt:
                yield f"{job.video}: has both a prompt and an upsampler that would write one; give one of them"
