"""`jax-interp download`: fetch the published checkpoints."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convert.hub.catalog import component_names
from jax_interp.errors import Ended
from jax_interp.terminal import tell

if TYPE_CHECKING:
    from convert.hub.client import Hub
    from convert.hub.download import Plan

STATES = {
    "missing": "to fetch",
    "partial": "to fetch, the rest",
    "unverified": "there, to be checked",
    "different": "to be replaced",
    "complete": "there",
}


def download(
    model_sizes: Annotated[
        list[str] | None, typer.Option(help="Sizes of the transformer: 7B, 14B.", show_default="7B")
    ] = None,
    model_types: Annotated[
        list[str] | None,
        typer.Option(help="Kinds of transformer: WorldInterpolator, Video2World.", show_default="WorldInterpolator"),
    ] = None,
    checkpoint_dir: Annotated[Path, typer.Option(help="Where the files go, in upstream's layout.")] = Path(
        "checkpoints"
    ),
    components: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only these: {', '.join(component_names())}.",
            show_default=f"all but {', '.join(component_names(on_request=True))}",
        ),
    ] = None,
    revision: Annotated[
        list[str] | None,
        typer.Option(
            help="Branch, tag or commit, as REVISION or REPOSITORY=REVISION.",
            show_default="that of the last download into the folder, else main",
        ),
    ] = None,
    check_md5: Annotated[
        bool, typer.Option(help="Compare with the MD5 of the known release, beside the hub's own checksums.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show files, sizes and terms to accept; fetch nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before fetching.")] = False,
) -> None:
    """Fetch the published checkpoints from the Hugging Face hub.

    Before anything is fetched, every file is shown with its size, beside the free disk space. The default selection
    is more than 70 GB; --components takes less, and --dry-run only shows.

    Most repositories want two things of you, once: a token of your account that may read
    (https://huggingface.co/settings/tokens), which `hf auth login` saves or the variable HF_TOKEN holds, and the terms
    accepted on the repository's page with the same account. The pages are listed beside the files.

    After an interruption or a broken connection the same command goes on where it stopped. Every file is compared with
    its checksum and gets its name only then. HF_ENDPOINT names another hub, HTTPS_PROXY a proxy; with HF_HUB_OFFLINE
    nothing is fetched.
    """
    from convert.hub.catalog import select
    from convert.hub.client import Hub
    from convert.hub.download import make_plan, parse_revisions, readable
    from jax_interp.cli.terminal.console import confirm, show_log

    show_log()
    repositories = select(model_sizes or ["7B"], model_types or ["WorldInterpolator"], components or ())
    hub = Hub()
    plan = make_plan(hub, checkpoint_dir, repositories, parse_revisions(revision or (), repositories))
    _show(plan)
    _show_terms(plan, bool(hub.token))
    if dry_run:
        return
    plan.check()
    wanted = plan.to_fetch and not yes and sys.stdin.isatty()
    if wanted and not confirm(f"Fetch {readable(plan.to_fetch)}?"):
        raise typer.Exit(1)
    _run(hub, plan, check_md5)


def _show(plan: "Plan") -> None:
    from convert.hub.download import PlannedFile, readable
    from jax_interp.cli.terminal.console import tell_table

    def state(file: PlannedFile) -> str:
        terms = "; terms must be accepted" if file.snapshot.repository.gated and file.to_fetch else ""
        return STATES[file.state] + terms

    rows = [(file.key, readable(file.remote.size), file.snapshot.commit[:12], state(file)) for file in plan.files]
    tell_table(rows, ("file", "size", "commit", "state"), numbers=("size",))
    tell(
        f"{readable(plan.total)} in all, {readable(plan.to_fetch)} to fetch; "
        f"{readable(plan.free)} free in {plan.folder}"
    )


def _show_terms(plan: "Plan", has_token: bool) -> None:
    """What an account has to have done before the hub hands the files out."""

    gated = {file.snapshot.repository.url for file in plan.files if file.snapshot.repository.gated and file.to_fetch}
    if not gated:
        return
    tell("Terms have to be accepted, once, with the account of your token, at:")
    for page in sorted(gated):
        tell(f"  {page}")
    if not has_token:
        tell("There is no token yet: run `hf auth login`, or set HF_TOKEN.")


def _run(hub: "Hub", plan: "Plan", check_md5: bool) -> None:
    from convert.hub.download import PlannedFile, download
    from jax_interp.cli.terminal.progress import progress

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
