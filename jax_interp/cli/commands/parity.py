"""The command `jax-interp parity`, which compares converted networks with PyTorch's on the same checkpoints."""

import os
from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.commands.host_only import use_no_accelerator
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.networks import CONVERTED
from jax_interp.cli.options.reports import ReportOptions
from jax_interp.components import TABLE
from jax_interp.parity.request import Device, ParityDtype, ParityRequest


@with_options
def parity(
    *,
    checkpoint_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the checkpoints that were converted, in upstream's layout.",
            show_default="checkpoints; none with --golden",
        ),
    ] = None,
    converted: Annotated[Path, typer.Option(help=CONVERTED)] = Path("converted"),
    components: Annotated[
        list[str] | None,
        typer.Option(help=f"Only these: {', '.join(TABLE)}.", show_default="all that are there"),
    ] = None,
    dtype: Annotated[
        ParityDtype, typer.Option(help="The dtype that networks are compared in; weights are always compared.")
    ] = "both",
    device: Annotated[Device, typer.Option(help="Where both sides compute.")] = "cpu",
    golden: Annotated[
        Path | None,
        typer.Option(help="Replay a folder of recorded outputs of upstream's, as docs/parity.md describes it."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the inputs that both sides get.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Write everything that was found to this JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --report replace a file.")] = False,
    reports: Annotated[ReportOptions, Under("Reports")],
) -> None:
    """Compare converted networks with PyTorch's own on your checkpoints. Exit code 9 if anything differs.

    Stored weights are compared to the bit, outputs on random inputs within named tolerances, block by block: neither
    network is in memory as a whole. Needs the extra `parity`, which brings PyTorch.
    """
    reports.begin()
    request = ParityRequest(
        converted=converted,
        checkpoint_dir=checkpoint_dir or (None if golden else Path("checkpoints")),
        components=tuple(components or ()),
        dtype=dtype,
        device=device,
        golden=golden,
        seed=seed,
    )
    if device == "cpu":
        use_no_accelerator()
    else:
        # PyTorch needs memory on the same GPU.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jax_interp.cli.runs.parity import run

    run(request, report, overwrite=overwrite)
