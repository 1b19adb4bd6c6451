"""The windows of a video that become samples, as in upstream's data set."""

from dataclasses import dataclass

from jax_interp.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """The settings of the frames that a sample has; the names are upstream's."""

    num_frames: int = 10
    """The number of frames of a sample."""
    sequence_interval: int = 1
    """The number of video frames from one frame of a sample to the next."""
    start_frame_interval: int = 1
    """The number of video frames from the start of one sample to that of the next."""

    def __post_init__(self) -> None:
        faults = [
            f"--{name.replace('_', '-')} is {value}; expected 1 or more"
            for name, value in vars(self).items()
            if value < 1
        ]
        if faults:
            raise UsageError("; ".join(faults))

    @property
    def span(self) -> int:
        """The number of video frames from a sample's first to its last, both counted."""
        return (self.num_frames - 1) * self.sequence_interval + 1


def list_windows(video_frames: int, settings: WindowSettings) -> list[range]:
    """Return the frame numbers of every sample that fits into a video of `video_frames` frames, in order."""
    starts = range(0, video_frames - settings.span + 1, settings.start_frame_interval)
    return [range(start, start + settings.span, settings.sequence_interval) for start in starts]
