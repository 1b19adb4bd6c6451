"""`jax-interp convert`: upstream's checkpoints to converted ones."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    checkpoint_dir: Annotated[
        Path, typer.Option(help="Folder with upstream's checkpoints, in upstream's layout.")
    ] = Path("checkpoints"),
    output_dir: Annotated[Path, typer.Option(help="Where the converted networks go.")] = Path("converted"),
    components: Annotated[
        list[str] | None,
        typer.Option(help="Only these: diffusion_transformer, tokenizer, text_encoder.  [default: all that are there]"),
    ] = None,
    diffusion_transformer_dir: Annotated[
        str | None,
        typer.Option(help="Its folder in --checkpoint-dir.  [default: Cosmos-Predict1-7B-WorldInterpolator]"),
    ] = None,
    tokenizer_dir: Annotated[
        str | None, typer.Option(help="Its folder in --checkpoint-dir.  [default: Cosmos-Tokenize1-CV8x8x8-720p]")
    ] = None,
    text_encoder_dir: Annotated[
        str | None, typer.Option(help="Its folder in --checkpoint-dir.  [default: google-t5/t5-11b]")
    ] = None,
    text_safety_dir: Annotated[
        str | None,
        typer.Option(
            help="Its folder in --checkpoint-dir; meta-llama/LlamaGuard-7b is the other one, with the Aegis adapter"
            " merged.  [default: meta-llama/Llama-Guard-3-8B]"
        ),
    ] = None,
    video_safety_dir: Annotated[
        str | None,
        typer.Option(
            help="Its folder in --checkpoint-dir.  [default: nvidia/Cosmos-Guardrail1/video_content_safety_filter]"
        ),
    ] = None,
    face_blur_dir: Annotated[
        str | None,
        typer.Option(help="Its folder in --checkpoint-dir.  [default: nvidia/Cosmos-Guardrail1/face_blur_filter]"),
    ] = None,
    dtype: Annotated[
        Literal["bfloat16", "float32"] | None,
        typer.Option(help="What the weights are stored in.  [default: what they are in]"),
    ] = None,
    weights: Annotated[
        Literal["model", "ema"] | None,
        typer.Option(help="Which weights of a post-trained checkpoint.  [default: model]"),
    ] = None,
    check_md5: Annotated[
        bool | None,
        typer.Option(help="Refuse files whose MD5 is not the published one; or do not compare.  [default: warn]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace networks that are converted already.")
    ] = False,
) -> None:
    """Convert upstream's PyTorch checkpoints; run again after an interruption, it goes on with what is not done."""
    from jax_interp.cli.console import show_log
    from jax_interp.cli.host_only import use_no_accelerator

    use_no_accelerator()
    show_log()
    from convert.conversion import ConversionRequest, Md5Policy, convert_checkpoints
    from jax_interp.cli.byte_progress import byte_progress

    folders = {
        "diffusion_transformer": diffusion_transformer_dir,
        "tokenizer": tokenizer_dir,
        "text_encoder": text_encoder_dir,
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
        print(path)
