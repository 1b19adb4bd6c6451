"""The jobs of `jax-interp generate`: agreed on by all processes, run one after the other, reported on the terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import jax
import typer

from jax_interp.cli.terminal.progress import Task, progress
from jax_interp.errors import Blocked, Ended, JaxInterpError, ProcessFailure, explain
from jax_interp.files.overlap import Read
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.jobs.job import is_finished, open_clip, run_job, tidy_finished
from jax_interp.pipeline.jobs.outputs import check_outputs, network_files, refuse_held_results
from jax_interp.pipeline.jobs.record import effective_settings, networks
from jax_interp.pipeline.jobs.request import Job
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.runtime import processes
from jax_interp.terminal import show, tell


def check_results(jobs: Sequence[Job], batch: Path | None, text_embeddings: Path | None, checkpoint_dir: Path) -> None:
    """Raise before anything is loaded if what process 0 is to write cannot be written, or would harm what is read."""
    if not processes.is_first():
        return
    files = {"--batch-input-path": batch, "--text-embeddings": text_embeddings}
    read = [Read(path, flag) for flag, path in files.items() if path is not None]
    check_outputs(jobs, [*read, *network_files(checkpoint_dir)])
    if batch is None:  # the lines of a batch are held one after the other, each when its turn comes
        refuse_held_results(jobs[0])


def agree_on_machines() -> None:
    """Several processes have to be of the same software, and to have the same devices: they run the same programs."""
    devices = {"kind": jax.local_devices()[0].device_kind, "number": jax.local_device_count()}
    processes.agree("the machines", {"version": processes.software(), "devices": devices})


def agree_on_work(interpolator: Interpolator, jobs: Sequence[Job]) -> None:
    """Several processes have to have the same networks and the same clips to do."""
    clips = {
        job.video.name: effective_settings(interpolator, job.settings)
        | {"upsampler": job.upsampler and asdict(job.upsampler), "rate": str(job.exact_rate)}
        for job in jobs
    }
    stride = interpolator.guardrails.frame_stride if interpolator.guardrails else None
    processes.agree("the work", {"network": networks(interpolator), "clip": clips, "guardrail_frame_stride": stride})


def check_guardrails(guardrails: Guardrails | None, jobs: Sequence[Job]) -> None:
    """Raise `Blocked` if a guardrail that `jobs` need cannot be asked, before anything is loaded."""
    if guardrails is None:
        return
    texts = (job.upsampler or job.settings.prompt or job.settings.followed_negative_prompt for job in jobs)
    ready = guardrails.check_ready(prompts=any(texts))
    if not ready.allowed:
        raise Blocked("this run", ready)


def run_jobs(interpolator: Interpolator, jobs: Sequence[Job], benchmark: bool, *, is_batch: bool) -> None:
    """Run every job; in a batch, those that are done are left out, and one that fails does not stop the others."""
    failed: list[str] = []
    codes: set[int] = set()
    for job in jobs:
        try:
            if is_batch and is_finished(interpolator, job):
                tell(f"{job.video}: already there, made with these settings")
                tidy_finished(interpolator, job)
                continue
            clip = open_clip(interpolator, job)
        except ProcessFailure:
            raise
        except (JaxInterpError, OSError) as error:
            if not is_batch:
                raise
            failed.append(job.video.name)
            codes.add(_tell_failure(job, error))
            continue
        try:
            with progress(job.video.name) as task:

                def advance(pair: int, pairs: int, call: int, calls: int, task: Task = task) -> None:
                    task.update(pair * calls + call, pairs * calls)

                record = run_job(interpolator, job, advance, clip)
        except (KeyboardInterrupt, Ended) as stop:
            tell("interrupted; the same command goes on with the first pair that was not finished")
            raise typer.Exit(explain(stop)[1]) from None
        except (JaxInterpError, OSError) as error:
            # The other processes are in the middle of the clip, and can only be ended; what is blocked they all leave,
            # as they do a clip whose results cannot be held.
            everywhere = isinstance(error, Blocked) or getattr(error, "in_all_processes", False)
            if not is_batch or (processes.count() > 1 and not everywhere):
                raise
            failed.append(job.video.name)
            codes.add(_tell_failure(job, error))
            continue
        if record is None:
            continue
        show(f"{job.video}: {record['frames']} frames from {record['pairs']} pair(s)")
        if benchmark:
            show("  " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in record["seconds"].items()))
    if failed:
        error = JaxInterpError(f"{len(failed)} of {len(jobs)} clips failed: {', '.join(failed)}")
        error.in_all_processes = True  # what only one of them knows has ended all before
        if len(codes) == 1:  # all for the same reason
            [error.exit_code] = codes
        raise error


def _tell_failure(job: Job, error: Exception) -> int:
    """Say why a clip of a batch was not made; the exit code of a run that would end so."""
    message, code = explain(error)
    tell(f"{job.video}: {message}")
    return code
