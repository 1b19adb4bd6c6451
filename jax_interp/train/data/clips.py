"""Training videos in a folder of upstream's layout, all opened and checked before anything is trained.

`videos/NAME.mp4` is a clip and `metas/NAME.txt` is its caption.
"""

from dataclasses import dataclass
from pathlib import Path

from jax_interp.errors import JaxInterpError, MediaError
from jax_interp.media.source import FrameSource
from jax_interp.media.video.reader import open_video
from jax_interp.media.video.suffixes import VIDEO_SUFFIXES
from jax_interp.train.data.windows import WindowSettings, list_windows

MAX_CAPTION_BYTES = 1 << 16
DEFAULT_FPS = 24.0


@dataclass(frozen=True)
class TrainingClip:
    """A training video with its caption and its samples."""

    path: Path
    caption: str
    source: FrameSource
    windows: tuple[range, ...]
    """The frame numbers of every sample."""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def fps(self) -> float:
        """The frame rate that the network is told; 24 if the file states none."""
        return float(self.source.fps) if self.source.fps else DEFAULT_FPS


def find_clips(data: Path, chosen: WindowSettings, *, height: int, width: int) -> list[TrainingClip]:
    """Open the clips below `data`, sorted by name.

    Raises:
        MediaError: the folder is not there or has no videos, or anything is wrong with any of them: unreadable, too
            short for one sample, without caption, or smaller than `height`×`width`. All faults are in one message.
    """
    videos = data / "videos"
    if not videos.is_dir():
        raise MediaError(f"{videos}: no such folder; put the videos there, and their captions into {data}/metas")
    paths = sorted(path for path in videos.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise MediaError(f"{videos}: has no video ({', '.join(VIDEO_SUFFIXES)}); put the training videos there")
    clips, faults = [], _ambiguous(paths)
    for path in paths:
        clip, wrong = _open(path, data / "metas" / f"{path.stem}.txt", chosen, height, width)
        faults += wrong
        if clip is not None:
            clips.append(clip)
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise MediaError(f"{data}: {len(faults)} fault(s) in {len(paths)} video(s); mend or remove them:{listed}")
    return clips


def _ambiguous(paths: list[Path]) -> list[str]:
    stems = [path.stem for path in paths]
    return [
        f"{path.name}: another video has the same name but for its ending"
        for path in paths
        if stems.count(path.stem) > 1
    ]


def _open(
    path: Path, meta: Path, chosen: WindowSettings, height: int, width: int
) -> tuple[TrainingClip | None, list[str]]:
    """Return the clip, and everything that is wrong with it."""
    faults = []
    caption = _read_caption(meta)
    if caption is None:
        faults.append(f"{path.name}: no caption, expected a text in {meta.parent.name}/{meta.name}")
    try:
        source = open_video(path, at_least=1)
    except JaxInterpError as error:
        return None, [*faults, f"{path.name}: {str(error).removeprefix(f'{path}: ')}"]
    if source.num_frames < chosen.span:
        faults.append(f"{path.name}: too short, {source.num_frames} frame(s), a sample needs {chosen.span}")
    if source.height < height or source.width < width:
        faults.append(
            f"{path.name}: {source.height}×{source.width} is smaller than {height}×{width}, which is trained at"
            " (--height, --width)"
        )
    found = tuple(list_windows(source.num_frames, chosen))
    return TrainingClip(path, caption or "", source, found), faults


def _read_caption(meta: Path) -> str | None:
    """Return the text in `meta`; None if there is none."""
    try:
        with meta.open("rb") as file:
            content = file.read(MAX_CAPTION_BYTES + 1)
        text = content.decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if text and len(content) <= MAX_CAPTION_BYTES else None
