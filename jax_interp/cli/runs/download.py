"""The run of `jax-interp download`: it shows files and terms, and fetches what is missing."""

import shlex
import sys

import typer

from convert.hub.client import Hub
from convert.hub.download import DownloadPlan, PlannedFile, download, parse_revisions, plan_download
from jax_interp.byte_sizes import format_bytes
from jax_interp.cli.options.requests import DownloadRequest
from jax_interp.cli.terminal.console import confirm, show_table_on_stderr
from jax_interp.cli.terminal.progress import progress
from jax_interp.errors import Ended
from jax_interp.terminal import tell

STATES = {
    "missing": "to fetch",
    "partial": "to fetch, the rest",
    "unverified": "there, to be checked",
    "different": "to be replaced",
    "complete": "there",
}


def run(request: DownloadRequest) -> None:
    """Show what there is to fetch and, unless the request is a dry run, fetch it."""
    hub = Hub()
    revisions = parse_revisions(request.revisions, request.repositories)
    plan = plan_download(hub, request.checkpoint_dir, request.repositories, revisions)
    _show(plan)
    _show_terms(plan, bool(hub.token))
    if request.dry_run:
        return
    plan.check()
    wanted = plan.to_fetch and not request.yes and sys.stdin.isatty()
    if wanted and not confirm(f"Fetch {format_bytes(plan.to_fetch)}?"):
        raise typer.Exit(1)
    _run(hub, plan, request.check_md5)


def _show(plan: DownloadPlan) -> None:
    def state(file: PlannedFile) -> str:
        terms = "; terms must be accepted" if file.snapshot.repository.gated and file.to_fetch else ""
        return STATES[file.state] + terms

    rows = [(file.key, format_bytes(file.remote.size), file.snapshot.commit[:12], state(file)) for file in plan.files]
    show_table_on_stderr(rows, ("file", "size", "commit", "state"), numbers=("size",))
    tell(
        f"{format_bytes(plan.total)} in all, {format_bytes(plan.to_fetch)} to fetch; "
        f"{format_bytes(plan.free)} free in {plan.folder}"
    )


def _show_terms(plan: DownloadPlan, has_token: bool) -> None:
    """Show the terms that an account must have accepted before the hub hands the files out."""
    gated = {file.snapshot.repository.url for file in plan.files if file.snapshot.repository.gated and file.to_fetch}
    if not gated:
        return
    tell("Terms have to be accepted, once, with the account of your token, at:")
    for page in sorted(gated):
        tell(f"  {page}")
    if not has_token:
        tell("There is no token yet: run `hf auth login`, or set HF_TOKEN.")


def _run(hub: Hub, plan: DownloadPlan, check_md5: bool) -> None:
    try:
        with progress("", plan.to_fetch, in_bytes=True) as task:

            def arrived(file: PlannedFile, count: int) -> None:
                doing = "" if count else "checking "
                task.advance(count, doing + file.key)

            download(hub, plan, arrived, check_md5)
    except (KeyboardInterrupt, Ended) as stop:
        tell("Interrupted. What has arrived is kept; the same command goes on from there.")
        raise typer.Exit(getattr(stop, "exit_code", 130)) from None
    tell(f"{plan.folder} is complete. Next: jax-interp convert --checkpoint-dir {shlex.quote(str(plan.folder))}")
