"""The encoding of clips to latents and text embeddings, kept in a folder that later runs use again."""

import hashlib
import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from jax_interp.config import Precision, VideoTokenizerConfig
from jax_interp.errors import CheckpointError
from jax_interp.files.atomic import write_atomically
from jax_interp.files.numpy_archive import ArchiveFault, read_archive
from jax_interp.media.output import as_media_error
from jax_interp.models.video_tokenizer.model import VideoTokenizer
from jax_interp.pipeline.prompt.text import TextEncoder
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.stage import MonolithicStage
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.train.data.clips import TrainingClip
from jax_interp.train.data.latents import Preparation, interpolation_latents, prepare_pixels
from jax_interp.train.data.windows import WindowSettings
from jax_interp.types import Params


class WindowEncoder(MonolithicStage[VideoTokenizer]):
    """The video tokenizer's stage for whole windows of video, of which generation knows the ends alone."""

    NETWORK = VideoTokenizer

    def __init__(self, converted: ConvertedComponent, precision: Precision, preparation: Preparation):
        super().__init__(converted, precision)
        self.preparation: Preparation = preparation
        self._encode = self.jit(self._encode_pixels)

    @classmethod
    def activations(cls, config: VideoTokenizerConfig, size: int, workload: Workload) -> int:
        return Codec.activations(config, size, workload)  # the same network on as many frames

    def encode(self, frames: UInt8[np.ndarray, "F Y X 3"], height: int, width: int) -> Float[np.ndarray, "T H W C"]:
        """Encode one window at `height`×`width` to clean latents on the model's scale."""
        pixels = prepare_pixels(frames, height, width, self.preparation)
        with self.numerics():
            return np.asarray(self._encode(self.params, pixels[None]))[0]

    def _encode_pixels(self, params: Params, pixels: jax.Array) -> jax.Array:
        return interpolation_latents(self.network.bind(params), pixels, self.preparation)


@dataclass(frozen=True)
class Sample:
    """A sample: a window whose latents are on disk."""

    latents: Path
    text: Path
    fps: float
    clip: str
    start: int


@dataclass(frozen=True, kw_only=True)
class EncodingCache:
    """The folder of encoded samples; the name of a file depends on everything that decides its content."""

    folder: Path
    encoder: WindowEncoder
    text_encoder: TextEncoder
    windows: WindowSettings
    height: int
    width: int

    def samples(self, clips: Sequence[TrainingClip]) -> list[Sample]:
        """List every sample of `clips`, whether it is encoded already or not."""
        return [
            Sample(path, self._text_path(clip.caption), clip.fps, clip.name, window.start)
            for clip in clips
            for window, path in zip(clip.windows, self._paths(clip), strict=True)
        ]

    def fill(self, clips: Sequence[TrainingClip], progress: Callable[[int, int], None] | None = None) -> None:
        """Encode the samples that are missing. `progress` is told (samples done, samples in all).

        Raises:
            MediaError: a video turns out damaged.
            CheckpointError: a caption's embedding is missing and there is no text encoder, or the disk is full.
        """
        with as_media_error(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._encode_texts(sorted({clip.caption for clip in clips}))
            total, done = sum(len(clip.windows) for clip in clips), 0
            for clip in clips:
                self._encode_clip(clip)
                done += len(clip.windows)
                if progress is not None:
                    progress(done, total)
        self.encoder.unload()

    def _encode_texts(self, captions: Sequence[str]) -> None:
        for caption in captions:
            path = self._text_path(caption)
            if not path.exists():
                [rows] = self.text_encoder.encode([caption])
                _save(path, text=rows)
        self.text_encoder.unload()

    def _encode_clip(self, clip: TrainingClip) -> None:
        paths = self._paths(clip)
        if all(path.exists() for path in paths):
            return
        for path, frames in zip(paths, _read_windows(clip), strict=True):
            if not path.exists():
                _save(path, latents=self.encoder.encode(frames, self.height, self.width))

    def _paths(self, clip: TrainingClip) -> list[Path]:
        status = clip.path.stat()
        key = _digest(
            [clip.path.name, status.st_size, status.st_mtime_ns],
            [self.height, self.width, self.encoder.preparation, self.encoder.precision, asdict(self.windows)],
            self.encoder.converted.source_sha256,
        )
        return [self.folder / f"{clip.name}-{key}-{window.start:06d}.npz" for window in clip.windows]

    def _text_path(self, caption: str) -> Path:
        network = self.text_encoder.network
        identity = network.converted.source_sha256 if network else self.text_encoder.given_sha256
        return self.folder / f"text-{_digest(identity, caption)}.npz"


def load_array(path: Path, name: str) -> np.ndarray:
    """Read an array from a file of the cache.

    Raises:
        CheckpointError: the file is damaged or gone.
    """
    try:
        return read_archive(path, name)[name]
    except ArchiveFault as error:
        raise CheckpointError(f"{path}: damaged or gone ({error}); remove it, and the run encodes it again") from error


def _read_windows(clip: TrainingClip) -> Iterator[UInt8[np.ndarray, "F Y X 3"]]:
    """Yield the frames of every window in one pass over the video, with no more than one window's span in memory."""
    waiting = deque(clip.windows)
    span = clip.windows[0].stop - clip.windows[0].start
    held: deque[np.ndarray] = deque(maxlen=span)
    for number, frame in enumerate(clip.source):
        held.append(frame)
        if waiting and number == waiting[0].start + span - 1:
            window = waiting.popleft()
            yield np.stack([held[index - window.start] for index in window])
        if not waiting:
            return


def _save(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
