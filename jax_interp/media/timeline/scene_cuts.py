"""Scene cuts: found while frames go by, by PySceneDetect's detector; or read from a file and given back."""

import importlib.util
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from jax_interp.errors import UsageError
from jax_interp.media.source import Picture

FrameT = TypeVar("FrameT")

INSTALL = 'pip install -e ".[video]" in the clone'

_LOOKED_AT = 256
"""The width in pixels to which frames are made smaller for the detector, as PySceneDetect's own program does."""

_MAX_BYTES = 1 << 24


class CutDetector(Protocol):
    """What tells cuts from the frames that go by."""

    delay: int
    """How many frames later a cut may be told."""

    def feed(self, number: int, frame: Picture) -> list[int]:
        """Look at frame `number`, uint8 RGB, and return the numbers of frames that begin a scene."""
        ...


def is_installed() -> bool:
    """Whether PySceneDetect is there."""
    return importlib.util.find_spec("scenedetect") is not None


class AdaptiveCuts:
    """PySceneDetect's AdaptiveDetector, which compares a change with those around it, so that motion is no cut.

    Two cuts may follow each other at once: a pair across the second one would be as wrong.
    """

    def __init__(self) -> None:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._detector = AdaptiveDetector(min_scene_len=1)
        self._time: Callable[[int], Any] = lambda number: FrameTimecode(number, fps=24.0)
        self.delay = self._detector.event_buffer_length

    def feed(self, number: int, frame: Picture) -> list[int]:
        """Look at frame `number`, uint8 RGB, and return the numbers of frames that begin a scene."""
        step = max(1, frame.shape[1] // _LOOKED_AT)
        small = np.ascontiguousarray(frame[::step, ::step, ::-1])  # it expects BGR
        return [cut.frame_num for cut in self._detector.process_frame(self._time(number), small)]


def with_cuts(frames: Iterable[Picture], detector: CutDetector) -> Iterator[tuple[Picture, bool]]:
    """Yield each of `frames` with whether it begins a scene; holds as many as the detector's delay.

    The first and the last frame are shown to the detector as often as it looks back and ahead, so that it finds a cut
    also near both ends.
    """
    waiting: deque[Picture] = deque()
    cuts: set[int] = set()
    delay, number, yielded = detector.delay, 0, 0
    for number, frame in enumerate(_padded(frames, delay)):
        cuts.update(detector.feed(number, frame))
        if delay <= number:
            waiting.append(frame)
        if len(waiting) > delay:
            yield waiting.popleft(), yielded + delay in cuts
            yielded += 1


def find_cuts(frames: Iterable[Picture]) -> tuple[int, ...]:
    """Return the numbers of the frames that begin a scene, by `AdaptiveCuts`; the first one is not among them."""
    numbered = enumerate(with_cuts(frames, AdaptiveCuts()))
    return tuple(number for number, (_, cut) in numbered if cut and number > 0)


def _padded(frames: Iterable[Picture], times: int) -> Iterator[Picture]:
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        return
    last = first
    yield from repeat(first, times)
    for last in chain([first], iterator):
        yield last
    yield from repeat(last, times)


def every(frames: Iterable[tuple[FrameT, bool]], stride: int) -> Iterator[tuple[FrameT, bool]]:
    """Yield every `stride`-th frame, the first one included, with whether a cut lies between it and the one before."""
    cut = False
    for index, (frame, begins) in enumerate(frames):
        cut = cut or (begins and index > 0)
        if index % stride == 0:
            yield frame, cut
            cut = False


def read_cuts(path: Path) -> tuple[int, ...]:
    """Return the numbers of the frames that begin a scene, which a file lists: one a line, or a run record.

    In a text, what follows a # is no part of it. A run record is what `generate` left beside a video.

    Raises:
        UsageError: the file cannot be read, or a line is no number.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise _fault(path, f"cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise _fault(path, "is no text in UTF-8") from error
    if len(text) > _MAX_BYTES:
        raise _fault(path, "is larger than any list of cuts")
    numbers = _in_record(path, text) if text.lstrip().startswith("{") else _in_lines(path, text)
    return tuple(sorted(set(numbers)))


def _in_lines(path: Path, text: str) -> Iterator[int]:
    for number, line in enumerate(text.splitlines(), 1):
        word = line.split("#")[0].strip()
        if not word:
            continue
        if not (word.isascii() and word.isdigit() and len(word) < 10):
            raise _fault(path, f"line {number}: {word[:40]!r} is no frame number")
        yield int(word)


def _in_record(path: Path, text: str) -> Iterator[int]:
    try:
        cuts = json.loads(text)["timeline"]["scene_cuts"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _fault(path, "is JSON, but no run record with scene cuts") from None
    for cut in cuts if isinstance(cuts, list) else [cuts]:
        if not isinstance(cut, int) or isinstance(cut, bool) or cut < 0:
            raise _fault(path, f"{str(cut)[:40]!r} is no frame number")
        yield cut


def check_cuts(cuts: Iterable[int], num_frames: int) -> None:
    """Raise `UsageError` if one of `cuts` is no frame of the input, or its first."""
    if outside := [cut for cut in cuts if not 0 < cut < num_frames]:
        raise UsageError(
            f"--scene-cuts: frame {outside[0]} begins no scene of an input of {num_frames} frames; expected 1 to"
            f" {num_frames - 1}, counted from 0"
        )


def _fault(path: Path, what: str) -> UsageError:
    return UsageError(
        f"--scene-cuts {path}: {what}; expected the number of a frame that begins a scene on every line, counted from"
        " 0, or a run record"
    )
