"""The command `jax-interp convert`, which converts upstream's checkpoints."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jax_interp.cli.commands.host_only import use_no_accelerator
from jax_interp.cli.options.calibration import CalibrationOptions
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.networks import EachFolder, NetworkFolders
from jax_interp.cli.terminal.console import show_log
from jax_interp.cli.terminal.progress import byte_progress
from jax_interp.cli.terminal.safe_points import safe_points
from jax_interp.components import TABLE, ComponentRow
from jax_interp.config import Quantization

_NOTES = {
    "diffusion_transformer": "; without it also Cosmos-Predict1-7B-Video2World and -14B-Video2World, if they are there",
    "text_safety": "; meta-llama/LlamaGuard-7b is the other one, converted with the Aegis adapter merged into it",
}


def _folder_of(row: ComponentRow) -> Any:
    """Return the option that names another folder of a network."""
    return typer.Option(help=f"Its folder in --checkpoint-dir{_NOTES.get(row.name, '')}.", show_default=row.folder)


@with_options
def convert(
    *,
    checkpoint_dir: Annotated[
        Path, typer.Option(help="Folder with upstream's checkpoints, in upstream's layout.")
    ] = Path("checkpoints"),
    output_dir: Annotated[Path, typer.Option(help="Where the converted networks go.")] = Path("converted"),
    components: Annotated[
        list[str] | None,
        typer.Option(help=f"Only these: {', '.join(TABLE)}.", show_default="all that are there"),
    ] = None,
    folders: Annotated[NetworkFolders, EachFolder(_folder_of)],
    dtype: Annotated[
        Literal["bfloat16", "float32"] | None,
        typer.Option(help="What the weights are stored in.", show_default="what they are in"),
    ] = None,
    weights: Annotated[
        Literal["model", "ema"] | None,
        typer.Option(help="Which weights of a post-trained checkpoint.", show_default="model"),
    ] = None,
    check_md5: Annotated[
        bool | None,
        typer.Option(help="Refuse files whose MD5 is not the published one; or do not compare.", show_default="warn"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace networks that are converted already.")
    ] = False,
    allow_non_finite: Annotated[
        bool,
        typer.Option("--allow-non-finite", help="Convert weights that are NaN or infinite too, instead of refusing."),
    ] = False,
    quantization: Annotated[
        Quantization,
        typer.Option(
            help="int8 or int8-rotated: store the large weights in 8 bits, from which there is no way back. With"
            " --calibrate int8 becomes int8-smoothed."
        ),
    ] = "none",
    calibration: Annotated[CalibrationOptions, Under("Calibration")],
) -> None:
    """Convert upstream's PyTorch checkpoints.

    Run again after an interruption, it goes on with what is not done.
    """
    with safe_points() as points:
        if calibration.calibrate is None:
            use_no_accelerator()
        show_log()
        from convert.conversion import ConversionRequest, Md5Policy
        from jax_interp.cli.runs.convert import calibrator, run

        policies: dict[bool | None, Md5Policy] = {None: "warn", True: "require", False: "skip"}
        request = ConversionRequest(
            checkpoint_dir=checkpoint_dir,
            output_dir=output_dir,
            components=tuple(components or ()),
            folders={name: folder for name, folder in folders.items() if folder is not None},
            dtype=dtype,
            weights=weights,
            md5=policies[check_md5],
            overwrite=overwrite,
            allow_non_finite=allow_non_finite,
            quantization=quantization,
            calibrate=calibrator(calibration),
        )
        run(request, points.within(byte_progress))
