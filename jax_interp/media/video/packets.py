"""A pass over the packets of a video stream, without decoding: how many frames they hold, and when these are shown."""

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NEVER = -(1 << 63)
"""A time stamp before all others."""

_FAR = 1 << 62
"""A time that only a damaged file states, in ticks."""


@dataclass(frozen=True)
class Packets:
    """The result of a pass over all packets of the video stream."""

    shown: int
    """The number of packets that are not discarded (an edit list may discard some)."""
    complete: bool
    """Whether every packet can be decoded by itself or after those before it, so that decoding gives `shown` frames."""
    times: NDArray[np.int64]
    """Presentation times of the frames in units of the stream's time base, ascending; fewer where some have none."""
    end: int | None
    """When the last frame ends, in the same units; None if the format does not state it."""
    broken: int | None
    """Index of the first packet of which a part is missing."""


def scan_packets(container: Any, stream: Any) -> Packets:
    """Read every packet of the video stream once."""
    shown, complete = 0, True
    times = array("q")
    first_key = broken = None
    last, last_read = (_NEVER, 0), _NEVER
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard:
            continue
        if not shown:
            first_key, complete = packet.pts, packet.is_keyframe
        if packet.is_corrupt and broken is None:
            broken = shown
        shown += 1
        if packet.pts is not None:
            times.append(packet.pts)
            last, last_read = max(last, (packet.pts, packet.duration or 0)), packet.pts
    ascending = np.sort(np.frombuffer(times, np.int64)) if times else np.zeros(0, np.int64)
    # Frames shown before the first key frame lean on data that was cut away; a decoder may drop them.
    complete = complete and (first_key is None or first_key == ascending[0])
    # What mp4 and mov state is the time to the next packet: that of its frame if this is the last in both orders.
    # Formats that are not named here state no durations, and those of their packets are guessed from a rate.
    formats = ("matroska", "gif", "mov") if last_read == last[0] else ("matroska",)
    end = sum(last) if container.format.name.startswith(formats) else None
    return Packets(shown, complete, ascending, end if end is not None and -_FAR < end < _FAR else None, broken)
