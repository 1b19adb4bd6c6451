"""`jax-interp inspect`: what a folder or a file holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from convert.inspection import Finding


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
    from jax_interp.cli.host_only import use_no_accelerator

    use_no_accelerator()
    from convert.inspection import inspect_path
    from jax_interp.cli.byte_progress import byte_progress

    for finding in inspect_path(path, byte_progress if checksums else None):
        _show(finding, list_keys=keys or path.is_file(), every_key=keys)


KEYS_SHOWN = 20


def _show(finding: "Finding", *, list_keys: bool, every_key: bool) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    console = Console()
    print(finding.path)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("is", finding.kind)
    table.add_row("state", "complete" if not finding.faults else "NOT USABLE")
    for fault in finding.faults:
        table.add_row("", fault)
    if finding.tensors:
        table.add_row("parameters", f"{finding.parameters:,} in {len(finding.tensors)} arrays")
        table.add_row("dtypes", ", ".join(f"{name} ({count:,})" for name, count in finding.dtypes.items()))
    table.add_row("size", f"{decimal(finding.nbytes)} ({finding.nbytes:,} bytes)")
    if finding.config:
        table.add_row("architecture", "\n".join(f"{name} = {value}" for name, value in finding.config.items()))
    if finding.origin:
        table.add_row("files", "\n".join(finding.origin))
    console.print(table)
    if list_keys:
        _show_keys(finding, None if every_key else KEYS_SHOWN)


def _show_keys(finding: "Finding", limit: int | None) -> None:
    shown = finding.tensors[:limit]
    width = max((len(tensor.name) for tensor in shown), default=0)
    for tensor in shown:
        print(f"{tensor.name:{width}}  {tensor.dtype:9}  {list(tensor.shape)}  {tensor.source}".rstrip())
    if len(shown) < len(finding.tensors):
        print(f"... and {len(finding.tensors) - len(shown)} more; --keys lists them all")
