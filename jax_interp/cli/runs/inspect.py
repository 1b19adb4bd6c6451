"""The run of `jax-interp inspect`, which shows every finding as a table."""

from pathlib import Path

from rich.filesize import decimal

from convert.inspection import Finding, inspect_path
from jax_interp.cli.terminal.console import Cell, show_table
from jax_interp.cli.terminal.progress import byte_progress
from jax_interp.runtime.checkpoint.calibration import CalibrationReport
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
    if finding.calibration:
        rows.append(("calibration", _described(finding.calibration)))
    show_table(rows)
    if finding.calibration:
        _show_products(finding.calibration)
    if list_keys:
        _show_keys(finding, None if every_key else KEYS_SHOWN)


def _described(report: CalibrationReport) -> list[str]:
    """Return what a calibration saw, and how to read its table."""
    worst = max(report.products, key=lambda product: product.smoothed)
    return [
        f"on {report.clip} at {report.height}×{report.width}: {report.windows} window(s) at {len(report.noise_levels)}"
        f" noise levels, text: {report.text}",
        f"largest error: {_per_cent(worst.smoothed)}, {worst.product} of block {worst.block}; in plain int8 it is"
        f" {_per_cent(worst.int8)}. Without large channels int8 has about 1 %",
    ]


def _show_products(report: CalibrationReport) -> None:
    """Print a row for every product: how large its largest channel is, what was chosen, and errors."""
    names = ("block", "product", "largest/median", "strength", "int8", "smoothed", "bfloat16")
    ordered = sorted(report.products, key=lambda product: product.block)
    rows = [
        (
            str(each.block),
            each.product,
            f"{each.largest_channel:.1f}",
            f"{each.strength:g}" if each.strength else "none",
            *(_per_cent(error) for error in (each.int8, each.smoothed, each.bfloat16)),
        )
        for each in ordered
    ]
    show_table(rows, names, numbers=[name for name in names if name != "product"])


def _per_cent(error: float) -> str:
    return f"{100 * error:.2f} %"


def _show_keys(finding: Finding, limit: int | None) -> None:
    shown = finding.tensors[:limit]
    width = max((len(tensor.name) for tensor in shown), default=0)
    for tensor in shown:
        show(f"{tensor.name:{width}}  {tensor.dtype:9}  {list(tensor.shape)}  {tensor.source}".rstrip())
    if len(shown) < len(finding.tensors):
        show(f"... and {len(finding.tensors) - len(shown)} more; --keys lists them all")
