"""The command `jax-interp download`, which fetches the published checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from convert.hub.catalog import component_names, select
from jax_interp.cli.options.requests import DownloadRequest
from jax_interp.cli.terminal.console import show_log


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
    is about 80 GB; --components takes less, and --dry-run only shows.

    Most repositories want two things of you, once: a token of your account that may read
    (https://huggingface.co/settings/tokens), which `hf auth login` saves or the variable HF_TOKEN holds, and the terms
    accepted on the repository's page with the same account. The pages are listed beside the files.

    After an interruption or a broken connection the same command goes on where it stopped. Every file is compared with
    its checksum and gets its name only then. HF_ENDPOINT names another hub, HTTPS_PROXY a proxy; with HF_HUB_OFFLINE
    nothing is fetched.
    """
    show_log()
    request = DownloadRequest(
        repositories=tuple(select(model_sizes or ["7B"], model_types or ["WorldInterpolator"], components or ())),
        checkpoint_dir=checkpoint_dir,
        revisions=tuple(revision or ()),
        check_md5=check_md5,
        dry_run=dry_run,
        yes=yes,
    )
    from jax_interp.cli.runs.download import run

    run(request)
