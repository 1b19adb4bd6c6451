"""The command `jax-interp export`, which writes converted networks under upstream's key names."""

from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.commands.host_only import use_no_accelerator
from jax_interp.cli.options.networks import CONVERTED
from jax_interp.cli.terminal.console import show_log
from jax_interp.cli.terminal.safe_points import safe_points
from jax_interp.components import TABLE


def export(
    converted_dir: Annotated[Path, typer.Option(help=CONVERTED)] = Path("converted"),
    output_dir: Annotated[Path, typer.Option(help="Where the safetensors go, in upstream's layout.")] = Path(
        "exported"
    ),
    components: Annotated[
        list[str] | None,
        typer.Option(help=f"Only these: {', '.join(TABLE)}.", show_default="all that are there"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier export wrote.")] = False,
) -> None:
    """Write converted networks as safetensors in upstream's layout.

    Converting those gives the same networks again.
    """
    with safe_points() as points:
        use_no_accelerator()
        show_log()
        from convert.exporting import export_checkpoints
        from jax_interp.cli.terminal.progress import byte_progress
        from jax_interp.terminal import show

        paths = export_checkpoints(
            converted_dir,
            output_dir,
            tuple(components or ()),
            overwrite=overwrite,
            progress=points.within(byte_progress),
        )
        for path in paths:
            show(path)
