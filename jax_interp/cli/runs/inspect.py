"""The run of `jax-interp inspect`, which shows every finding as a table."""

from pathlib import Path

from rich.filesize import decimal

from convert.inspection import Finding, inspect_path
from jax_interp.cli.terminal.console import Cell, show_table
from jax_interp.cli.terminal.progress import byte_progress
from jax_interp.terminal import show

KEYS_SHOWN = 20
"""The number of arrays that are listed for a file unless all are asked for."""


def run(path: Path, *, keys: bool, checksums: bool) -> None:
    """Print what is in `path`: with `keys` every array, with `checksums` those of files that are not converted."""
    for finding in inspect_path(path, byte_progress if checksums else None):
        _show(finding, list_keys=keys or path.is_file(), every_key=keys)


def _show(finding: Finding, *, list_keys: bool, every_key: bool) -> None:
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


def _show_keys(finding: Finding, limit: int | None) -> None:
    shown = finding.tensors[:limit]
    width = max((len(tensor.name) for tensor in shown), default=0)
    for tensor in shown:
        show(f"{tensor.name:{width}}  {tensor.dtype:9}  {list(tensor.shape)}  {tensor.source}".rstrip())
    if len(shown) < len(finding.tensors):
        show(f"... and {len(finding.tensors) - len(shown)} more; --keys lists them all")
