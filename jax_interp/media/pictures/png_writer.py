"""A writer for a folder of PNGs, one for each frame: the folder appears complete or not at all."""

import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from jax_interp.errors import MediaError, UsageError
from jax_interp.files.partial import PartialOutput
from jax_interp.media.output import as_media_error, check_frame_array, discarded_on_error
from jax_interp.media.source import RgbFrames

_OWN_FILE = re.compile(r"[0-9]{5,}\.png(\.partial)?")

_COMPRESSION = 3
"""The level of zlib. It takes a third of the time of the default 6, for files 6 to 12 % larger."""


class PngWriter:
    """A writer of 00000.png, 00001.png, … (8-bit RGB, lossless), as `media.writer.FrameWriter` describes.

    While open, the folder has a hidden name of its own (`files.partial`); it gets its name at the end, and is removed
    if the block is left by an exception.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False):
        """Check the folder; nothing is created before the block is entered.

        Args:
            folder: must not exist or be empty.
            overwrite: replace a folder that holds nothing but earlier frames of this writer.

        Raises:
            UsageError: the folder is not empty, or a file has its name.
        """
        self._folder = Path(folder).resolve()
        self._overwrite = overwrite
        if fault := self._find_fault():
            raise UsageError(fault)
        self._partial = PartialOutput(self._folder)
        self.num_frames = 0

    def __enter__(self) -> Self:
        with discarded_on_error(self._folder, self._discard):
            self._partial.create_folder()
        return self

    @property
    def partial(self) -> Path:
        """The temporary folder, while the writer is open."""
        return self._partial.path

    def write(self, frames: RgbFrames) -> None:
        """Append frames, uint8 [F, Y, X, 3].

        Raises:
            ValueError: the dtype or shape is another one.
            MediaError: the disk is full or does not answer.
        """
        import imageio.v3 as iio

        height, width = frames.shape[1:3] if frames.ndim == 4 else (0, 0)
        for frame in check_frame_array(frames, height, width):
            path = self.partial / f"{self.num_frames:05d}.png"
            with as_media_error(self._folder / path.name):
                unnamed = path.with_name(path.name + ".partial")
                unnamed.write_bytes(
                    iio.imwrite("<bytes>", frame, plugin="pillow", extension=".png", compress_level=_COMPRESSION)
                )
                unnamed.replace(path)
            self.num_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        with discarded_on_error(self._folder, self._discard):
            if not self.num_frames:
                raise MediaError(f"{self._folder}: no frame was written, so there is no folder of frames")
            if fault := self._find_fault():
                raise MediaError(f"while this ran something came in the way: {fault}")
            self._replace()

    def _replace(self) -> None:
        """Put the new folder in the place of the old one, which is removed with all that it holds."""
        if not self._folder.exists():
            self._partial.publish()
            return
        old = PartialOutput(self._folder).path
        self._folder.rename(old)
        try:
            self._partial.publish()
        except BaseException:
            old.rename(self._folder)
            raise
        shutil.rmtree(old)

    def _find_fault(self) -> str | None:
        """Return why the folder cannot be written or replaced."""
        if not self._folder.exists():
            return None
        if not self._folder.is_dir():
            return f"{self._folder}: is a file; name a folder for the frames"
        if not any(self._folder.iterdir()):
            return None
        if not self._overwrite:
            return f"{self._folder}: is not empty; name a new folder, or allow to replace its frames (--overwrite)"
        if not _holds_only_frames(self._folder):
            return f"{self._folder}: holds more than frames (00000.png, …), so it is not replaced; name a new folder"
        return None

    def _discard(self) -> None:
        self._partial.discard()


def _holds_only_frames(folder: Path) -> bool:
    return folder.is_dir() and all(_OWN_FILE.fullmatch(path.name) and path.is_file() for path in folder.iterdir())
