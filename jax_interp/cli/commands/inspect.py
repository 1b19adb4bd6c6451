"""The command `jax-interp inspect`, which shows the contents of a folder or a file."""

from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.commands.host_only import use_no_accelerator


def inspect(
    path: Annotated[Path, typer.Argument(help="A folder of checkpoints, converted or not, or one checkpoint file.")],
    keys: Annotated[bool, typer.Option("--keys", help="List every array.")] = False,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Read unconverted files for their SHA-256 and MD5.")
    ] = False,
) -> None:
    """Show what a folder or file holds, and what is missing.

    Networks, sizes, dtypes, origin. Reads no weights.
    """
    use_no_accelerator()
    from jax_interp.cli.runs.inspect import run

    run(path, keys=keys, checksums=checksums)
