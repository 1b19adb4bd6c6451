"""What earlier runs of a job have left: all results of a finished one, or the first pairs of an interrupted one."""

import logging
from contextlib import suppress
from typing import Any

from jax_interp.errors import JaxInterpError
from jax_interp.files.lock import lock_path
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.jobs.agreements import agreed_to_be_there, is_first
from jax_interp.pipeline.jobs.clip import Clip
from jax_interp.pipeline.jobs.outputs import held_results, is_of, own_record
from jax_interp.pipeline.jobs.pair_store import CLAIM, PairStore
from jax_interp.pipeline.jobs.record import fingerprint
from jax_interp.pipeline.requests.request import Job

logger = logging.getLogger("jax_interp")


def identity_of(interpolator: Pipeline, job: Job) -> str:
    """Return the fingerprint (`record.fingerprint`) of what `interpolator` makes of `job`."""
    return fingerprint(interpolator, job.settings, job.inputs, job.upsampler, job.exact_rate, job.own_facts)


def is_finished(interpolator: Pipeline, job: Job) -> bool:
    """Tell whether a job with the same settings, input and networks ran to its end, and its results are still there.

    Of several processes the first one looks, and tells the others.
    """
    return agreed_to_be_there(job, lambda: _has_results(interpolator, job))


def tidy(interpolator: Pipeline, job: Job) -> dict[str, Any] | None:
    """Remove the pairs of a run that was killed after its results were complete, and before its pairs were removed.

    Return the record of that run; None in processes that do not write.
    """
    if not is_first():
        return None
    PairStore(job.video, identity_of(interpolator, job)).remove()
    return own_record(job)


def tidy_finished(interpolator: Pipeline, job: Job) -> None:
    """Do what `tidy` does if a killed run has left its lock; `job` is known to be finished."""
    if is_first() and lock_path(job.video).exists():
        with suppress(JaxInterpError), held_results(job):
            tidy(interpolator, job)


def finished_pairs(interpolator: Pipeline, job: Job, clip: Clip, store: PairStore) -> int:
    """Return the number of pairs that an interrupted run has finished, which this run need not make again."""
    settings = job.settings
    done = store.finished(clip.most_pieces, (settings.num_video_frames, settings.height, settings.width, 3))
    done = _trusted_pairs(store, done) if interpolator.guardrails else done
    if done:
        logger.info("going on after pair %d of %d", done, clip.most_pieces)
    return done


def _has_results(interpolator: Pipeline, job: Job) -> bool:
    record, identity = own_record(job), identity_of(interpolator, job)
    if record is None or record["fingerprint"] != identity:
        return False
    made = job.video.exists() and is_of(record, job.video, job)
    made = made and (job.frames_folder is None or job.frames_folder.exists())
    # What a run with other settings had begun to put there before it was killed is not what the record describes.
    return made and not any((folder / CLAIM).exists() for folder in PairStore(job.video, identity).others())


def _trusted_pairs(store: PairStore, done: int) -> int:
    """Return how many of the `done` pairs in `store` the guardrails have let pass: these need no second check."""
    if not done:
        return 0
    try:
        store.check_private()
    except OSError as error:
        logger.warning("%d finished pair(s) are not taken up but made again, and checked: %s", done, error)
        return 0
    return next((index for index in range(done) if store.checked(index) is None), done)
