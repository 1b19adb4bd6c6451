"""What earlier runs of a job have left: all of it, then it is finished; or pairs, which the next run goes on after."""

import logging
from contextlib import suppress
from typing import Any

from jax_interp.errors import JaxInterpError
from jax_interp.files.lock import lock_path
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.jobs.agreements import agreed_to_be_there, is_first
from jax_interp.pipeline.jobs.clip import Clip
from jax_interp.pipeline.jobs.outputs import held_results, is_of, own_record
from jax_interp.pipeline.jobs.pair_store import CLAIM, PairStore
from jax_interp.pipeline.jobs.record import fingerprint
from jax_interp.pipeline.requests.request import Job

logger = logging.getLogger("jax_interp")


def identity_of(interpolator: Interpolator, job: Job) -> str:
    """`fingerprint` of what `interpolator` makes of `job`."""
    return fingerprint(interpolator, job.settings, job.inputs, job.upsampler, job.exact_rate, job.own_facts)


def is_finished(interpolator: Interpolator, job: Job) -> bool:
    """Whether this very job has run to its end before: same settings, input and networks, and its results are there.

    The first process looks, for all.
    """
    return agreed_to_be_there(job, lambda: _has_results(interpolator, job))


def tidy(interpolator: Interpolator, job: Job) -> dict[str, Any] | None:
    """Remove what a run left that was killed when it had finished and removed what it needed no more.

    Returns the record of that run; None in processes that do not write.
    """
    if not is_first():
        return None
    PairStore(job.video, identity_of(interpolator, job)).remove()
    return own_record(job)


def tidy_finished(interpolator: Interpolator, job: Job) -> None:
    """The same for a job that is known to be finished, and of which a killed run may have left something."""
    if is_first() and lock_path(job.video).exists():
        with suppress(JaxInterpError), held_results(job):
            tidy(interpolator, job)


def finished_pairs(interpolator: Interpolator, job: Job, clip: Clip, store: PairStore) -> int:
    """How many pairs of an interrupted run this one goes on after."""
    settings = job.settings
    done = store.finished(clip.most_pieces, (settings.num_video_frames, settings.height, settings.width, 3))
    done = _trusted_pairs(store, done) if interpolator.guardrails else done
    if done:
        logger.info("going on after pair %d of %d", done, clip.most_pieces)
    return done


def _has_results(interpolator: Interpolator, job: Job) -> bool:
    record, identity = own_record(job), identity_of(interpolator, job)
    if record is None or record["fingerprint"] != identity:
        return False
    made = job.video.exists() and is_of(record, job.video, job)
    made = made and (job.frames_folder is None or job.frames_folder.exists())
    # What a run with other settings had begun to put there before it was killed is not what the record describes.
    return made and not any((folder / CLAIM).exists() for folder in PairStore(job.video, identity).others())


def _trusted_pairs(store: PairStore, done: int) -> int:
    """How many of the `done` pairs in `store` guardrails have let pass, so that they need not be checked again."""
    if not done:
        return 0
    try:
        store.check_private()
    except OSError as error:
        logger.warning("%d finished pair(s) are not taken up but made again, and checked: %s", done, error)
        return 0
    return next((index for index in range(done) if store.checked(index) is None), done)
