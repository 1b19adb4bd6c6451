"""The run of `jax-interp parity`: it compares, shows a table of what was found, and writes the report."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jax_interp.cli.terminal.console import Cell, Coloured, show_table
from jax_interp.cli.terminal.progress import progress
from jax_interp.errors import ParityError
from jax_interp.files.atomic import write_atomically
from jax_interp.files.overlap import Input
from jax_interp.media.destination import check_destination, locked_result
from jax_interp.media.output import as_media_error
from jax_interp.parity.comparison.compare import compare
from jax_interp.parity.findings import NetworkFinding, OutputError, ParityReport
from jax_interp.parity.request import ParityRequest
from jax_interp.pipeline.jobs.outputs import network_files
from jax_interp.runtime.compile_cache import enable_compile_cache
from jax_interp.terminal import show

_SHOWN_FAULTS = 20


def run(request: ParityRequest, report: Path | None, *, overwrite: bool) -> None:
    """Compare, print the table and write `report`.

    Raises:
        ParityError: something does not hold; the message names networks and blocks.
        UsageError, CheckpointError: as `parity.comparison.compare.compare` raises them.
    """
    if report is not None:
        folders = (request.converted, request.checkpoint_dir, request.golden)
        read = [each for folder in folders if folder is not None for each in _read_in(folder)]
        check_destination(report, "--report", read, overwrite=overwrite)
    enable_compile_cache()
    found = compare(request, _steps)
    _show(found)
    if report is not None:
        with locked_result(report), as_media_error(report):
            content = json.dumps(found.as_json() | _asked(request), indent=2, allow_nan=False)
            write_atomically(report, f"{content}\n".encode())
        show(f"{report}: everything that was found", report=str(report), held=found.held)
    if faults := found.faults():
        more = f"\n  and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        lines = "".join(f"\n  {fault}" for fault in faults[:_SHOWN_FAULTS])
        raise ParityError(
            f"parity does not hold; convert again with --overwrite, and if that does not help, report it:{lines}{more}"
        )


def _read_in(folder: Path) -> list[Input]:
    """Return what is read in one of the folders: whole networks, and every other file."""
    files = (path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else ()
    return [*network_files(folder), *(Input(path, "a file that is compared") for path in files)]


@contextmanager
def _steps(label: str, total: int) -> Iterator[Callable[[int], Any]]:
    with progress(label, total) as task:
        yield task.advance


def _asked(request: ParityRequest) -> dict[str, Any]:
    return {
        "checkpoint_dir": None if request.checkpoint_dir is None else str(request.checkpoint_dir),
        "converted": str(request.converted),
        "golden_dir": None if request.golden is None else str(request.golden),
        "dtype": request.dtype,
        "device": request.device,
        "seed": request.seed,
    }


def _show(report: ParityReport) -> None:
    numbers = ["float32 error", "bfloat16 ratio"]
    names = ["network", "weights", "worst block", *numbers, "tolerance", ""]
    if report.networks:
        show_table([_row(network) for network in report.networks], names, numbers=numbers)
    for name, reason in report.absent.items():
        show(f"{name}: not compared, {reason}")
    if report.golden:
        rows = [
            (each.file, each.output, each.dtype, each.measure, f"{each.value:.4g}", _limit(each), _held(each.held))
            for each in report.golden
        ]
        show_table(rows, ["recording", "output", "dtype", "measure", "found", "tolerance", ""], numbers=["found"])
    for name, reason in report.left_out.items():
        show(f"{name}: not replayed, {reason}")


def _row(network: NetworkFinding) -> list[Cell]:
    weights = "equal" if network.weights.held else f"{len(network.weights.differences)} differ"
    worst = max(network.blocks, key=lambda block: block.error, default=None)
    outputs = [finding for finding in (network.float32, network.bfloat16) if finding is not None]
    return [
        network.title,
        weights,
        "-" if worst is None else f"{worst.block}: {worst.error:.1e}",
        "-" if network.float32 is None else f"{network.float32.error:.1e}",
        _ratio(network.bfloat16),
        network.skipped or ", ".join(f"{finding.tolerance_name} {finding.tolerance:g}" for finding in outputs),
        _held(network.held),
    ]


def _ratio(finding: OutputError | None) -> str:
    return "-" if finding is None or finding.ratio is None else f"{finding.ratio:.2f}"


def _limit(finding: Any) -> str:
    side = "≥" if finding.at_least else "≤"
    return f"{finding.tolerance_name} {side} {finding.tolerance:g}"


def _held(held: bool) -> Coloured:
    return Coloured("held", "green") if held else Coloured("NOT HELD", "red")
