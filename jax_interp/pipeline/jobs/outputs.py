"""The files that a job writes: locked against other runs, none of them an input, and nobody else's files replaced."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jax_interp.files.json_file import read_json
from jax_interp.files.json_schema import JsonFault
from jax_interp.files.lock import lock_path
from jax_interp.files.names import check_folder, check_lengths
from jax_interp.files.overlap import Input, Output, find_overlaps
from jax_interp.files.partial import PartialOutput, remove_leftovers
from jax_interp.media.destination import clip_files, locked_result, refuse, refuse_locked, why_no_file
from jax_interp.media.video.codecs import MUXERS
from jax_interp.media.video.writer import missing_encoder
from jax_interp.pipeline.jobs.pair_store import PairStore, is_being_placed
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.runtime.checkpoint.description import MANIFEST_FILE
from jax_interp.runtime.checkpoint.finding import folders_in

_RECORD_BYTES = 1 << 24
"""The largest file that is read as a record; none is nearly as large."""


def check_results(request: GenerateRequest) -> None:
    """Raise before anything is loaded if what is to be written cannot be written, or would harm what is read."""
    codecs = sorted({job.encoding.codec_for(job.video) for job in request.jobs})
    refuse([fault for codec in codecs for fault in missing_encoder(codec)])
    files: dict[str, Path | None] = {
        "--batch-input-path": request.batch,
        "--text-embeddings": request.networks.text_embeddings,
    }
    read = [Input(path, flag) for flag, path in files.items() if path is not None]
    cuts = [job.timeline.scene_cuts for job in request.jobs]
    read += [Input(path, "--scene-cuts") for path in cuts if isinstance(path, Path)]
    check_outputs(request.jobs, [*read, *network_files(request.networks.checkpoint_dir)])
    if not request.is_batch:  # the clips of a batch are held one after the other, each when its turn comes
        refuse_held_results(request.jobs[0])


def check_outputs(jobs: Sequence[Job], read: Iterable[Input] = ()) -> None:
    """Check what `jobs` will write against all inputs of all of them, and against what else is `read`.

    Raises:
        UsageError: a result would replace something that is read, a file that this program did not write, or another
            result; or its name is too long. All are named, up to ten.
    """
    for job in jobs:
        _check_names(job)
    written = [item for job in jobs for item in _written(job)]
    inputs = [clip_files(job.inputs, "an input") for job in jobs]
    refuse(find_overlaps(written, [*read, *(item for items in inputs for item in items)]))
    refuse([fault for job in jobs for fault in _strangers(job)])


def network_files(checkpoint_dir: Path) -> list[Input]:
    """Return the folders of converted networks, in which nothing else may be written."""
    folders = folders_in(checkpoint_dir) if checkpoint_dir.is_dir() else ()
    return [Input(folder, "a network", closed=True) for folder in folders if (folder / MANIFEST_FILE).is_file()]


def refuse_held_results(job: Job) -> None:
    """Raise `MediaError` if another run is writing a result of `job` at this moment; holds nothing."""
    for path in (*_held_paths(job), *_namesakes(job)):
        refuse_locked(path)


@contextmanager
def held_results(job: Job) -> Iterator[bool]:
    """Hold the locks (`locked_result`) on all that `job` writes; yield whether the video's was left by a killed run.

    The lock of the video stands for the files beside it and is released last, so a lock that a killed run has left
    says that files of that run may be left too.
    """
    with ExitStack() as stack:
        was_left = [stack.enter_context(locked_result(path)) for path in _held_paths(job)]
        for path in _namesakes(job):
            refuse_locked(path)
        for path in job.files:
            remove_leftovers(path)
        yield was_left[0]


class _RecordOfNamesake(JsonFault):
    """A record under a job's name is that of a video in another container, which the message names."""


def own_record(job: Job) -> dict[str, Any] | None:
    """Return the record beside the video; None unless this program wrote it, about a video of this name."""
    try:
        return _read_record(job)
    except (OSError, JsonFault):
        return None


def _read_record(job: Job) -> dict[str, Any]:
    """Return what `own_record` does; raise `FileNotFoundError`, or `JsonFault` saying what is wrong with the file."""
    record = read_json(job.record, dict[str, Any], _RECORD_BYTES)
    try:
        texts = record["fingerprint"], record["settings"]["prompt"], record["output"]["video"]
        whole = all(isinstance(text, str) for text in texts) and {"frames", "pairs", "seconds"} <= record.keys()
    except (LookupError, TypeError):
        whole = False
    if not whole:
        raise JsonFault("it is not the record of a run")
    if (name := Path(record["output"]["video"]).name) != job.video.name:
        is_namesake = name in {path.name for path in _namesakes(job)}
        raise _RecordOfNamesake(name) if is_namesake else JsonFault(f"it is the record of {name!r:.80}")
    return record


def _written(job: Job) -> Iterator[Output]:
    for path in job.files:
        yield Output(path, "the result")
    if job.frames_folder is not None:
        yield Output(job.frames_folder, "--save-frames", replaces_folder=True)


def _held_paths(job: Job) -> list[Path]:
    return [job.video] if job.frames_folder is None else [job.video, job.frames_folder.resolve()]


def _namesakes(job: Job) -> list[Path]:
    """The videos in other containers that would have the same record."""
    return [path for suffix in MUXERS if (path := job.video.with_suffix(suffix)) != job.video]


def _check_names(job: Job) -> None:
    unfinished = [PartialOutput(path).path for path in job.files]
    hidden = [lock_path(job.video), PairStore(job.video, "0" * 12).folder, *unfinished]
    check_folder("--video-save-folder", job.video.parent)
    check_lengths("--video-save-name", job.video, hidden)
    if job.frames_folder is not None:
        folder = job.frames_folder
        check_folder("--save-frames", folder.parent)
        check_lengths("--save-frames", folder, [lock_path(folder), PartialOutput(folder).path])


def _strangers(job: Job) -> Iterator[str]:
    """Yield a fault for each file under a result's name that this program did not write, or cannot replace."""
    there = [path for path in job.files if os.path.lexists(path)]
    yield from filter(None, map(why_no_file, there))
    if job.overwrite or not there or is_being_placed(job.video):
        return
    record, why = None, ""
    try:
        record = _read_record(job)
    except FileNotFoundError:
        pass
    except _RecordOfNamesake as other:
        yield (
            f"{job.record}: is the record of {other}, and {job.video.name} would share it; give another"
            " --video-save-name, or pass --overwrite to replace it"
        )
        return
    except JsonFault as fault:
        why = f" ({job.record} does not tell: {fault})"
    for path in there:
        if record is None or not is_of(record, path, job):
            yield (
                f"{path}: is there already, and not what this program wrote for {job.video.name}{why}; choose another"
                " name, or pass --overwrite to replace it"
            )


def is_of(record: dict[str, Any], path: Path, job: Job) -> bool:
    """Tell whether the file `path` is still what the run of `record` wrote."""
    size = path.stat().st_size
    if path == job.video:
        return record["output"].get("bytes") in (None, size)
    if path == job.prompt_file:
        prompt = f"{record['settings']['prompt']}\n".encode(errors="replace")
        return size == len(prompt) and path.read_bytes() == prompt
    return True
