"""A job's folder: what is in it, what is made of a finished job for its owner, and how long it is kept."""

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp.app.asked import FRAMES, RESULT
from jax_interp.app.settings import Limits
from jax_interp.app.store import JobEntry, JobStore
from jax_interp.errors import JaxInterpError
from jax_interp.evaluation.compare.page import NamedClip, PageSettings, PageTooLarge, write_page
from jax_interp.evaluation.compare.timeline import Alignment
from jax_interp.files.atomic import open_atomically
from jax_interp.files.below import size_below
from jax_interp.media.reader import open_frames

DAY = 86400.0
PREVIEW_WIDTH = 320
MOST_PREVIEWS = 24
"""The previews that are kept: the latest."""
COMPARED_WIDTH = 960
"""The width in pixels of the pictures in the comparison, at most."""


@dataclass(frozen=True)
class JobFolder:
    """The folder of one job, named after its id."""

    path: Path

    @property
    def inputs(self) -> Path:
        return self.path / "input"

    @property
    def video(self) -> Path:
        return self.path / RESULT

    @property
    def record(self) -> Path:
        return self.video.with_suffix(".json")

    @property
    def frames(self) -> Path:
        return self.path / FRAMES

    @property
    def archive(self) -> Path:
        return self.path / "frames.zip"

    @property
    def comparison(self) -> Path:
        return self.path / "compare.html"

    @property
    def previews(self) -> Path:
        return self.path / "previews"

    def input_files(self, entry: JobEntry) -> tuple[Path, ...]:
        return tuple(self.inputs / name for name in entry.input_names)

    def preview(self, number: int) -> Path:
        return self.previews / f"{number}.webp"

    def add_preview(self, number: int, frames: np.ndarray) -> None:
        """Write a small picture of the middle of a pair's `frames`, uint8 RGB [F, Y, X, 3]."""
        from PIL import Image

        picture = Image.fromarray(frames[len(frames) // 2])
        picture.thumbnail((PREVIEW_WIDTH, PREVIEW_WIDTH))
        self.previews.mkdir(exist_ok=True)
        with open_atomically(self.preview(number)) as file:
            picture.save(file, "WEBP", quality=80)
        self.preview(number - MOST_PREVIEWS).unlink(missing_ok=True)

    def remove_work(self) -> None:
        """Remove everything but the input: of a job that was cancelled, blocked or failed nothing is shown."""
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path != self.inputs:
                _remove(path)

    def remove_frames(self) -> None:
        """Remove the frames that are in the archive too; after the job counts as done, which it is not without them."""
        shutil.rmtree(self.frames, ignore_errors=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def public_record(self) -> str:
        """Return the run record without the server's paths."""
        return self.without_paths(self.record.read_text("utf-8"))

    def without_paths(self, text: str) -> str:
        """Return `text` without the path of this folder, which is nobody's business but the server's."""
        for path in (str(self.path.resolve()), str(self.path)):
            text = text.replace(f"{json.dumps(f'{path}/')[1:-1]}input/", "").replace(json.dumps(f"{path}/")[1:-1], "")
        return text


def finish(folder: JobFolder, entry: JobEntry) -> dict[str, Any]:
    """Make the archive of frames and the comparison of a finished job; return the facts of its results."""
    record = json.loads(folder.record.read_text("utf-8"))
    facts: dict[str, Any] = {key: record[key] for key in ("frames", "pairs", "total_seconds") if key in record}
    facts["rate"] = record["output"]["fps"]
    facts["size"] = f"{record['output']['width']}x{record['output']['height']}"
    if folder.frames.is_dir():
        _pack(folder.frames, folder.archive)
    facts["comparison"] = _compare(folder, entry, alignment_of(record))
    return facts


def _pack(frames: Path, archive: Path) -> None:
    """Put the PNG files of a folder into a zip archive, which does not compress them again."""
    with open_atomically(archive) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(frames.iterdir()):
            packed.write(path, path.name)


def alignment_of(record: dict[str, Any]) -> Alignment:
    """Return how source and result are compared: where the source's end was left out, ends do not belong together."""
    timeline = record.get("timeline", {})
    keeps_time = timeline.get("pace") == "source" and timeline.get("slow_motion") == "1"
    return "time" if keeps_time and record["input"]["kind"] == "video" else "auto"


def _compare(folder: JobFolder, entry: JobEntry, alignment: Alignment) -> str:
    """Write the comparison of source and result; return why there is none, or the empty string."""
    try:
        source = open_frames(folder.input_files(entry), at_least=1)
        clips = [NamedClip(entry.name, source), NamedClip("interpolated", open_frames([folder.video], at_least=1))]
        settings = PageSettings(alignment=alignment, width=COMPARED_WIDTH, quality=80)
        write_page(folder.comparison, entry.name, clips, settings)
    except PageTooLarge:
        return "The clip is too long to compare frame by frame here; `jax-interp compare` does it for a part of it."
    except JaxInterpError as error:
        return folder.without_paths(f"There is no comparison: {error}")
    return ""


def prune(store: JobStore, jobs_folder: Path, limits: Limits, now: float) -> list[str]:
    """Remove the oldest results until the rest is within `limits`; return the ids of the jobs that are gone."""
    over = store.over()
    sizes = {entry.id: size_below(jobs_folder / entry.id) for entry in over}
    kept, kept_bytes = len(over), sum(sizes.values())
    gone = []
    for entry in over:
        is_old = entry.ended is not None and now - entry.ended > limits.kept_days * DAY
        if not is_old and kept <= limits.kept and kept_bytes <= limits.kept_bytes:
            break
        JobFolder(jobs_folder / entry.id).remove()
        store.remove(entry.id)
        gone.append(entry.id)
        kept, kept_bytes = kept - 1, kept_bytes - sizes[entry.id]
    return gone


def remove_strays(store: JobStore, jobs_folder: Path) -> None:
    """Remove folders of no job, which a server leaves that is killed at the wrong moment."""
    for path in jobs_folder.iterdir():
        if store.get(path.name) is None:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
