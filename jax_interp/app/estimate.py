"""What a job will take, before it starts: its pairs, and its minutes from speeds that were measured here."""

from dataclasses import dataclass
from pathlib import Path

from jax_interp.app.asked import Asked
from jax_interp.app.settings import AppSettings
from jax_interp.app.store import JobEntry, JobStore
from jax_interp.diffusion.branches import branches
from jax_interp.errors import UsageError
from jax_interp.media.shape import Size
from jax_interp.media.timeline.plan import ClipPlan
from jax_interp.pipeline.jobs.clip import find_clip, settled
from jax_interp.pipeline.requests.request import Job

MEGA = 1e6
MOST_PIXELS = 1920 * 1088
"""The pixels of a picture for the networks, where the server was not started with more: the memory one job may take."""


@dataclass(frozen=True)
class Foreseen:
    """What a job will be."""

    pairs: int
    at_most: bool
    """Whether cuts or duplicates, which are found on the way, can make fewer."""
    frames: int
    rate: float
    seconds: float
    """How long the result lasts."""
    given: int
    """The frames of the input."""
    left_out: int
    """The frames at the end of the input that fill no pair, because the stride is more than 1."""
    size: str
    """The size of the result, as "1280x704"."""
    work: float
    """See `work_of`."""
    job: Job
    """The job with what follows from its input; its results have no folder yet."""


def foresee(asked: Asked, inputs: tuple[Path, ...], app: AppSettings) -> Foreseen:
    """Open the input and plan the job; no frame is generated.

    Raises:
        UsageError, MediaError: the input is damaged, or does not suit what is asked, or the job would be too long.
    """
    job = settled(asked.job(Path("job"), inputs, app))
    clip = find_clip(job)
    plan, size = clip.plan, clip.shape.network
    if size.height * size.width > max(MOST_PIXELS, app.height * app.width):
        raise UsageError(f"aspect {size}: the networks take {MOST_PIXELS:,} pixels at most; choose a smaller size")
    if plan.num_frames > app.limits.output_frames:
        raise UsageError(
            f"the result would have {plan.num_frames} frames; {app.limits.output_frames} are made at most: choose a"
            " lower rate, less slow motion, or a shorter clip"
        )
    timed = plan if isinstance(plan, ClipPlan) else None
    pairs = clip.most_pieces if timed is None else clip.foreseen.num_pairs
    at_most = timed is not None and not timed.is_foreseen
    if pairs > app.limits.pairs:
        raise UsageError(
            f"the clip has {pairs} pairs of frames; {app.limits.pairs} are interpolated at most: give a shorter clip"
        )
    return Foreseen(
        pairs=pairs,
        at_most=at_most,
        frames=plan.num_frames,
        rate=float(plan.rate),
        seconds=float(plan.num_frames / plan.rate),
        given=clip.source.num_frames,
        left_out=0 if timed is None else timed.num_left_out,
        size=str(clip.shape.inner),
        work=work_of(job, pairs, size),
        job=job,
    )


def work_of(job: Job, pairs: int, size: Size) -> float:
    """Return how much there is to compute: millions of pixels of all pairs, times solver steps, times branches.

    Jobs of the same networks take about as long for a unit of it; attention, which grows faster, is the smaller part.
    """
    settings = job.settings
    pixels = size.height * size.width * settings.num_video_frames
    return pairs * pixels * settings.sampling.num_steps * len(branches(settings.sampling.guidance)) / MEGA


def seconds_of(work: float, asked: Asked, measured: list[JobEntry]) -> float | None:
    """Return how many seconds of network calls `work` takes by the latest measured job of the same kind."""
    like = next((entry for entry in measured if _is_like(entry.settings, asked)), None)
    return None if like is None or like.work_seconds is None else work * like.work_seconds


def _is_like(one: Asked, other: Asked) -> bool:
    return (one.pipeline, one.precision) == (other.pipeline, other.precision)


def waiting_seconds(ahead: list[JobEntry], measured: list[JobEntry]) -> float | None:
    """Return how long the jobs `ahead` will take; None if the speed of one is not known."""
    total = 0.0
    for entry in ahead:
        seconds = seconds_of(entry.work * (1 - entry.share), entry.settings, measured)
        if seconds is None:
            return None
        total += seconds
    return total


def loading_seconds(store: JobStore) -> float | None:
    """Return how long loading and compiling took for the job that was measured last."""
    return next((entry.start_seconds for entry in store.measured() if entry.start_seconds is not None), None)


def in_words(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
