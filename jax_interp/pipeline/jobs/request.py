"""What a run of one clip is asked for."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from jax_interp.media.output_rate import exact_rate
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.settings import InterpolationSettings


@dataclass(frozen=True, kw_only=True)
class Job:
    """A clip to interpolate and where its result goes."""

    inputs: tuple[Path, ...]
    """One video, one folder of pictures, or several pictures."""
    video: Path
    settings: InterpolationSettings
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
