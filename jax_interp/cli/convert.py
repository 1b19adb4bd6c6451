"""`jax-interp convert`: upstream's checkpoints to converted ones."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jax_interp.runtime.component_folders import DEFAULT_FOLDERS


def _folder_of(component: str, more: str = "") -> Any:
    """The option that names another folder of a network."""
    return typer.Option(help=f"Its folder in --checkpoint-dir{more}.", show_default=f"{DEFAULT_FOLDERS[component]}")


def convert(
    checkpoint_dir: Annotated[
        Path, typer.Option(help="Folder with upstream's checkpoints, in upstream's layout.")
    ] = Path("checkpoints"),
    output_dir: Annotated[Path, typer.Option(help="Where the converted networks go.")] = Path("converted"),
    components: Annotated[
        list[str] | None,
        typer.Option(help=f"Only these: {', '.join(DEFAULT_FOLDERS)}.", show_default="all that are there"),
    ] = None,
    diffusion_transformer_dir: Annotated[str | None, _folder_of("diffusion_transformer")] = None,
    tokenizer_dir: Annotated[str | None, _folder_of("tokenizer")] = None,
    text_encoder_dir: Annotated[str | None, _folder_of("text_encoder")] = None,
    prompt_upsampler_dir: Annotated[str | None, _folder_of("prompt_upsampler")] = None,
    text_safety_dir: Annotated[
        str | None,
        _folder_of(
            "text_safety",
            "; meta-llama/LlamaGuard-7b is the other one, converted with the Aegis adapter merged into it",
        ),
    ] = None,
    video_safety_dir: Annotated[str | None, _folder_of("video_safety")] = None,
    face_blur_dir: Annotated[str | None, _folder_of("face_blur")] = None,
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
) -> None:
    """Convert upstream's PyTorch checkpoints.

    Run again after an interruption, it goes on with what is not done.
    """
    from jax_interp.cli.console import show_log
    from jax_interp.cli.host_only import use_no_accelerator

    use_no_accelerator()
    show_log()
    from convert.conversion import ConversionRequest, Md5Policy, convert_checkpoints
    from jax_interp.cli.progress import byte_progress
    from jax_interp.terminal import show

    folders = {
        "diffusion_transformer": diffusion_transformer_dir,
        "tokenizer": tokenizer_dir,
        "text_encoder": text_encoder_dir,
        "prompt_upsampler": prompt_upsampler_dir,
        "text_safety": text_safety_dir,
        "video_safety": video_safety_dir,
        "face_blur": face_blur_dir,
    }
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
    )
    for path in convert_checkpoints(request, byte_progress):
        show(path)
