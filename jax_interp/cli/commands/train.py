"""`jax-interp train`: flags to settings to a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from jax_interp.train.settings import LoraSettings, TrainSettings

_DATA, _TRAINING, _ADAPTER, _OUTPUT, _NETWORKS, _DEVICES = (
    "Data", "Training", "Adapter", "Output", "Networks", "Several GPUs",
)  # fmt: skip


def train(
    data: Annotated[
        Path, typer.Option(help="Folder with videos/NAME.mp4 and metas/NAME.txt, the captions.", rich_help_panel=_DATA)
    ],
    output_dir: Annotated[
        Path, typer.Option(help="Folder of the run: checkpoints, metrics and the result.", rich_help_panel=_OUTPUT)
    ],
    height: Annotated[int, typer.Option(help="Height that is trained at.", rich_help_panel=_DATA)] = 704,
    width: Annotated[int, typer.Option(help="Width that is trained at.", rich_help_panel=_DATA)] = 1280,
    num_video_frames: Annotated[
        int, typer.Option(help="Frames of a sample, both ends included: 8n + 2.", rich_help_panel=_DATA)
    ] = 10,
    sequence_interval: Annotated[
        int, typer.Option(help="Frames of the video from one frame of a sample to the next.", rich_help_panel=_DATA)
    ] = 1,
    start_frame_interval: Annotated[
        int, typer.Option(help="Frames of the video from one sample to the next.", rich_help_panel=_DATA)
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of encoded samples, which several runs may share.",
            rich_help_panel=_DATA,
            show_default="in --output-dir",
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(help="NAME of a video that is not trained on but shown in previews.", rich_help_panel=_DATA),
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimizer steps.", rich_help_panel=_TRAINING)] = 2000,
    batch_size: Annotated[int, typer.Option(help="Samples a step, over all GPUs.", rich_help_panel=_TRAINING)] = 1,
    accumulate: Annotated[
        int, typer.Option(help="Passes that a batch is divided into, to spare memory.", rich_help_panel=_TRAINING)
    ] = 1,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Highest rate.", rich_help_panel=_TRAINING, show_default="5e-5, of an adapter 1e-4"),
    ] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            help="Steps until the rate is reached.",
            rich_help_panel=_TRAINING,
            show_default="100, or a tenth of --steps",
        ),
    ] = None,
    decay: Annotated[
        Literal["constant", "linear", "cosine"],
        typer.Option(help="Course of the rate after that.", rich_help_panel=_TRAINING),
    ] = "cosine",
    text_dropout: Annotated[
        float, typer.Option(help="Probability that a sample's caption is left out.", rich_help_panel=_TRAINING)
    ] = 0.5,
    ema_rate: Annotated[
        float | None,
        typer.Option(
            help="Width of the average over past weights relative to the steps so far; 0 keeps none.",
            rich_help_panel=_TRAINING,
            show_default="0.1, of an adapter 0",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all draws.", rich_help_panel=_TRAINING)] = 0,
    dtype: Annotated[
        Literal["bfloat16", "float32"], typer.Option(help="What the network computes in.", rich_help_panel=_TRAINING)
    ] = "bfloat16",
    optimizer_on_host: Annotated[
        bool,
        typer.Option(
            "--optimizer-on-host",
            help="Keep the optimizer's state in host memory: slower steps, a third of the GPU memory.",
            rich_help_panel=_TRAINING,
        ),
    ] = False,
    recipe: Annotated[
        Literal["default", "upstream"],
        typer.Option(
            help="upstream: rate, warm-up, pixel scale and missing positions of the original's experiments, which do"
            " not train a network that works.",
            rich_help_panel=_TRAINING,
        ),
    ] = "default",
    lora_rank: Annotated[
        int | None, typer.Option(help="Train an adapter of this rank instead of the network.", rich_help_panel=_ADAPTER)
    ] = None,
    lora_scale: Annotated[float, typer.Option(help="Factor of the adapter.", rich_help_panel=_ADAPTER)] = 1.0,
    lora_targets: Annotated[
        str,
        typer.Option(
            help="Layers that get one: q, k, v, out, mlp, or patterns such as self_attention/*.",
            rich_help_panel=_ADAPTER,
        ),
    ] = "q,v",
    stream_base: Annotated[
        bool,
        typer.Option(
            "--stream-base",
            help="Keep the network in host memory and pass its blocks through the GPU: slower, least GPU memory.",
            rich_help_panel=_ADAPTER,
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output-dir.", rich_help_panel=_OUTPUT)
    ] = False,
    keep: Annotated[int, typer.Option(help="Checkpoints that stay.", rich_help_panel=_OUTPUT)] = 2,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", rich_help_panel=_OUTPUT)] = 500,
    preview_every: Annotated[
        int, typer.Option(help="Steps between pictures of a held-out pair; 0: none.", rich_help_panel=_OUTPUT)
    ] = 0,
    checkpoint_dir: Annotated[
        Path, typer.Option(help="Folder that `jax-interp convert` made.", rich_help_panel=_NETWORKS)
    ] = Path("converted"),
    diffusion_transformer_dir: Annotated[
        str | None, typer.Option(help="Which transformer, if several are converted.", rich_help_panel=_NETWORKS)
    ] = None,
    tokenizer_dir: Annotated[
        str | None, typer.Option(help="Which tokenizer, if several are converted.", rich_help_panel=_NETWORKS)
    ] = None,
    text_encoder_dir: Annotated[
        str | None, typer.Option(help="Which text encoder, if several are converted.", rich_help_panel=_NETWORKS)
    ] = None,
    text_embeddings: Annotated[
        Path | None,
        typer.Option(help="File of precomputed embeddings; replaces the text encoder.", rich_help_panel=_NETWORKS),
    ] = None,
    mesh: Annotated[
        str,
        typer.Option(
            help="GPUs, as data=2: samples are divided among them, and so are weights and the optimizer's state.",
            rich_help_panel=_DEVICES,
        ),
    ] = "data=1",
) -> None:
    """Train the transformer, or a low-rank adapter of it, on a folder of videos."""
    from jax_interp.cli.terminal.console import show_log

    show_log()
    from jax_interp.cli.runs.train import TrainingRequest, run_training
    from jax_interp.train.data.windows import WindowSettings
    from jax_interp.train.runs.run import RunFolder
    from jax_interp.train.settings import NoiseSettings

    settings = train_settings(
        adapter_settings({"rank": lora_rank, "scale": lora_scale, "targets": lora_targets}),
        {"learning_rate": learning_rate, "warmup_steps": warmup_steps, "decay": decay, "ema_rate": ema_rate},
        recipe,
        {"steps": steps, "batch_size": batch_size, "accumulate": accumulate, "seed": seed, "dtype": dtype}
        | {
            "optimizer_on_host": optimizer_on_host,
            "stream_base": stream_base,
            "noise": NoiseSettings(text_dropout=text_dropout),
        },
    )
    run_training(
        TrainingRequest(
            data=data,
            folder=RunFolder(path=output_dir, keep=keep, save_every=save_every, preview_every=preview_every),
            settings=settings,
            windows=WindowSettings(
                num_frames=num_video_frames,
                sequence_interval=sequence_interval,
                start_frame_interval=start_frame_interval,
            ),
            height=height,
            width=width,
            cache=cache,
            held_out=held_out,
            resume=resume,
            checkpoint_dir=checkpoint_dir,
            folders={
                "diffusion_transformer": diffusion_transformer_dir,
                "tokenizer": tokenizer_dir,
                "text_encoder": text_encoder_dir,
            },
            text_embeddings=text_embeddings,
            mesh=mesh,
        )
    )


def adapter_settings(given: Mapping[str, Any]) -> "LoraSettings | None":
    """What the options of an adapter say; None if none is wanted."""
    from jax_interp.train.settings import LoraSettings
    from jax_interp.train.steps.lora import target_layers

    if given["rank"] is None:
        return None
    targets = tuple(name.strip() for name in given["targets"].split(",") if name.strip())
    target_layers(targets)
    return LoraSettings(rank=given["rank"], scale=given["scale"], targets=targets)


def train_settings(
    adapter: "LoraSettings | None", optimizer: Mapping[str, Any], recipe: str, run: Mapping[str, Any]
) -> "TrainSettings":
    """Defaults that depend on other options are filled in here; None is what was not given.

    `optimizer` and `run` are fields of the optimizer's and the run's settings.
    """
    from jax_interp.train.settings import OptimizerSettings, TrainSettings, upstream_settings

    given = {name: value for name, value in optimizer.items() if value is not None}
    if given.get("ema_rate") == 0 or (adapter is not None and "ema_rate" not in given):
        given["ema_rate"] = None
    steps = run.get("steps", TrainSettings().steps)
    defaults = {"learning_rate": 1e-4 if adapter else 5e-5, "warmup_steps": max(0, min(100, steps // 10))}
    settings = TrainSettings(**run, lora=adapter, optimizer=OptimizerSettings(**(defaults | given)))
    if recipe == "default":
        return settings
    upstream = upstream_settings(settings)
    given.pop("decay", None)  # has a default of its own
    return replace(upstream, optimizer=replace(upstream.optimizer, **given))
