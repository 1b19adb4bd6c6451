"""The options of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jax_interp.cli.options.groups import Under
from jax_interp.cli.options.reports import ReportOptions
from jax_interp.config import Precision
from jax_interp.train.settings import (
    Keep,
    LoraSettings,
    NoiseSettings,
    OptimizerSettings,
    TrainSettings,
    upstream_settings,
)


@dataclass(frozen=True)
class WindowOptions:
    """The options for the training samples and their cache."""

    sequence_interval: Annotated[
        int, typer.Option(help="Frames of the video from one frame of a sample to the next.")
    ] = 1
    start_frame_interval: Annotated[int, typer.Option(help="Frames of the video from one sample to the next.")] = 1
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of encoded samples, which several runs may share.", show_default="in --output-dir"),
    ] = None
    held_out: Annotated[
        str | None, typer.Option(help="NAME of a video that is not trained on but shown in previews.")
    ] = None


@dataclass(frozen=True)
class RunOptions:
    """The options for the folder of the run."""

    output_dir: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, metrics and the result.")]
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output-dir.")] = False
    keep: Annotated[int, typer.Option(help="Checkpoints that stay.")] = 2
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500
    preview_every: Annotated[int, typer.Option(help="Steps between pictures of a held-out pair; 0: none.")] = 0
    reports: Annotated[ReportOptions, Under("Reports")] = field(default_factory=ReportOptions)


@dataclass(frozen=True)
class StepOptions:
    """The options for the optimizer and its steps."""

    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 2000
    batch_size: Annotated[int, typer.Option(help="Samples a step, over all GPUs.")] = 1
    accumulate: Annotated[int, typer.Option(help="Passes that a batch is divided into, to spare memory.")] = 1
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest rate.", show_default="5e-5, of an adapter 1e-4")
    ] = None
    warmup_steps: Annotated[
        int | None, typer.Option(help="Steps until the rate is reached.", show_default="100, or a tenth of --steps")
    ] = None
    decay: Annotated[Literal["constant", "linear", "cosine"], typer.Option(help="Course of the rate after that.")] = (
        "cosine"
    )
    text_dropout: Annotated[float, typer.Option(help="Probability that a sample's caption is left out.")] = 0.5
    ema_rate: Annotated[
        float | None,
        typer.Option(
            help="Width of the average over past weights relative to the steps so far; 0 keeps none.",
            show_default="0.1, of an adapter 0",
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0
    dtype: Annotated[Precision, typer.Option(help="What the network computes in.")] = "bfloat16"
    optimizer_on_host: Annotated[
        bool,
        typer.Option(
            "--optimizer-on-host",
            help="Keep the optimizer's state in host memory: slower steps, a third of the GPU memory.",
        ),
    ] = False
    keep_activations: Annotated[
        Keep,
        typer.Option(
            help="What of every block is kept for the way back and not computed again there. attention: also the result"
            " of self-attention, 2.3 GiB at 704×1280; products: also those of all linear layers, 27 GiB.",
        ),
    ] = "inputs"
    recipe: Annotated[
        Literal["default", "upstream"],
        typer.Option(
            help="upstream: rate, warm-up, pixel scale and missing positions of the original's experiments, which do"
            " not train a network that works."
        ),
    ] = "default"


@dataclass(frozen=True)
class AdapterOptions:
    """The options for a low-rank adapter, which is trained in place of the network."""

    lora_rank: Annotated[int | None, typer.Option(help="Train an adapter of this rank instead of the network.")] = None
    lora_scale: Annotated[float, typer.Option(help="Factor of the adapter.")] = 1.0
    lora_targets: Annotated[
        str, typer.Option(help="Layers that get one: q, k, v, out, mlp, or patterns such as self_attention/*.")
    ] = "q,v"
    stream_base: Annotated[
        bool,
        typer.Option(
            "--stream-base",
            help="Keep the network in host memory and pass its blocks through the GPU: slower, least GPU memory.",
        ),
    ] = False

    def settings(self) -> LoraSettings | None:
        """Return the settings of the adapter; None if none is wanted."""
        if self.lora_rank is None:
            return None
        targets = tuple(name.strip() for name in self.lora_targets.split(",") if name.strip())
        return LoraSettings(rank=self.lora_rank, scale=self.lora_scale, targets=targets)


def train_settings(step: StepOptions, adapter: AdapterOptions) -> TrainSettings:
    """Return the settings of training, with the defaults that depend on other options filled in."""
    lora = adapter.settings()
    given = _given(step)
    if given.get("ema_rate") == 0 or (lora is not None and "ema_rate" not in given):
        given["ema_rate"] = None
    defaults = {"learning_rate": 1e-4 if lora else 5e-5, "warmup_steps": max(0, min(100, step.steps // 10))}
    settings = TrainSettings(
        steps=step.steps,
        batch_size=step.batch_size,
        accumulate=step.accumulate,
        seed=step.seed,
        dtype=step.dtype,
        optimizer_on_host=step.optimizer_on_host,
        stream_base=adapter.stream_base,
        keep=step.keep_activations,
        noise=NoiseSettings(text_dropout=step.text_dropout),
        lora=lora,
        optimizer=OptimizerSettings(**(defaults | given)),
    )
    if step.recipe == "default":
        return settings
    upstream = upstream_settings(settings)
    given.pop("decay", None)  # the decay has a default of its own
    return replace(upstream, optimizer=replace(upstream.optimizer, **given))


def _given(step: StepOptions) -> dict[str, Any]:
    """Return the optimizer's settings that the user gave."""
    all_of_them: Mapping[str, Any] = {
        "learning_rate": step.learning_rate,
        "warmup_steps": step.warmup_steps,
        "decay": step.decay,
        "ema_rate": step.ema_rate,
    }
    return {name: value for name, value in all_of_them.items() if value is not None}
