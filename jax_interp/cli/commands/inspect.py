"""`jax-interp inspect`: what a folder or a file holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jax_interp.terminal import show

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
    from jax_interp.cli.commands.host_only import use_no_accelerator

    use_no_accelerator()
    from convert.inspection import inspect_path
    from jax_interp.cli.terminal.progress import byte_progress

    for finding in inspect_path(path, byte_progress if checksums else None):
        _show(finding, list_keys=keys or path.is_file(), every_key=keys)


KEYS_SHOWN = 20


def _show(finding: "Finding", *, list_keys: bool, every_key: bool) -> None:
    from rich.filesize import decimal

    from jax_interp.cli.terminal.console import Cell, show_table

    show(finding.path)
    rows: list[tuple[Cell, Cell]] = [
        ("is", finding.kind),
        ("state", "complete" if not finding.faults else "NOT USABLE"),
        *(("", fault) for fault in finding.faults),
    ]
    if finding.tensors:
        rows.append(("parameters", f"{finding.parameters:,} in {len(finding.tensors)} arrays"))
        rows.append(("dtypes", ", ".join(f"{name} ({count:,})" for name, count in finding.dtypes.items())))
    rows.append(("size", f"{decimal(finding.nbytes)} ({finding.nbytes:,} bytes)"))
    if finding.config:
        rows.append(("architecture", [f"{name} = {value}" for name, value in finding.config.items()]))
    if finding.origin:
        rows.append(("files", finding.origin))
    show_table(rows)
    if list_keys:
        _show_keys(finding, None if every_key else KEYS_SHOWN)


def _show_keys(finding: "Finding", limit: int | None) -> None:
    shown = finding.tensors[:limit]
    width = max((len(tensor.name) for tensor in shown), default=0)
    for tensor in shown:
        show(f"{tensor.name:{width}}  {tensor.dtype:9}  {list(tensor.shape)}  {tensor.source}".rstrip())
    if len(shown) < len(finding.tensors):
        show(f"... and {len(finding.tensors) - len(shown)} more; --keys lists them all")
