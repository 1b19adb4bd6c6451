"""Opening files of video with PyAV, which are data of others: only known formats, and nothing but the file itself."""

from pathlib import Path
from typing import Any

from jax_interp.errors import MediaError

_CONTAINERS = (
    "mov,matroska,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,m4v,ivf,obu,yuv4mpegpipe,dv,mxf,nut"
)
"""Container formats (libavformat's names) that hold a clip in one file. Others are left out on purpose: playlists that
name other files or hosts, text rendered as pictures, single pictures, devices."""


def decoding_errors() -> tuple[type[Exception], ...]:
    """Return what reading a file may raise."""
    import av.error

    return av.error.FFmpegError, OSError


def open_input(path: Path, **options: str) -> Any:
    """Return the open container of a file; `options` are the container format's.

    Raises:
        MediaError: it cannot be read as a video.
    """
    import av

    # The file: prefix keeps a name like "http:x" or "concat:x" from being read as an address.
    address, limits = f"file:{path}", {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        # Not `options`: PyAV 14 crashes when these are handed to the streams of a container without a header.
        return av.open(address, container_options=limits | options)
    except decoding_errors() as error:
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else "not a known video format, or damaged"
        )
        raise MediaError(
            f"{path}: cannot be read as a video ({reason}); expected mp4, mkv, mov, webm, avi or gif"
        ) from error
