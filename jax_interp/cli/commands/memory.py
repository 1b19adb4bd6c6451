"""The command `jax-interp memory`, which predicts the memory of a run before anything is loaded."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from jax_interp.cli.commands.host_only import use_no_accelerator
from jax_interp.cli.options.devices import DeviceOptions
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.guardrails import refuse_unused
from jax_interp.cli.options.memory import MemoryOptions
from jax_interp.cli.options.networks import CONVERTED, GUARDRAILS, EachFolder, NetworkFolders
from jax_interp.cli.options.requests import MemoryRequest
from jax_interp.cli.options.sampling import SamplingOptions
from jax_interp.cli.options.training import AdapterOptions, StepOptions, train_settings
from jax_interp.cli.terminal.console import show_log
from jax_interp.config import Quantization
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.pipeline.memory.available import available
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings, Video2WorldSettings
from jax_interp.runtime.mesh_shape import MeshShape


@dataclass(frozen=True)
class CountedOptions:
    """The options that choose the networks to count."""

    checkpoint_dir: Annotated[Path | None, typer.Option(help=CONVERTED, show_default="converted")] = None
    folders: Annotated[NetworkFolders, EachFolder()] = field(default_factory=dict)
    prompt_upsampler: Annotated[
        bool, typer.Option("--prompt-upsampler", help="Count it too, for runs that have their prompt written.")
    ] = False
    disable_guardrail: Annotated[bool, typer.Option("--disable-guardrail", help="Do not count the guardrails.")] = False
    video2world: Annotated[
        bool, typer.Option("--video2world", help="Say what `video2world` would take, in place of `generate`.")
    ] = False
    model: Annotated[
        Literal["7B", "14B"] | None, typer.Option(help="The released networks of this size, without any checkpoint.")
    ] = None
    quantization: Annotated[
        Quantization | None,
        typer.Option(
            help="int8, int8-rotated or int8-smoothed: with networks in 8 bits.",
            show_default="what each network is stored in",
        ),
    ] = None

    def left_out(self) -> Iterator[str]:
        """Yield the names of the networks that are not counted."""
        if self.disable_guardrail:
            yield from GUARDRAILS
        if not (self.prompt_upsampler or self.folders["prompt_upsampler"]):
            yield "prompt_upsampler"


@dataclass(frozen=True)
class PlanOptions:
    """The options of `generate` that decide how much memory it takes."""

    sampling: SamplingOptions
    memory: MemoryOptions
    devices: DeviceOptions


@dataclass(frozen=True)
class TrainingOptions:
    """The options of `train` that decide how much memory it takes."""

    step: StepOptions
    adapter: AdapterOptions


_PLAN = Under(
    only=(
        *("height", "width", "num_video_frames", "guidance", "dtype", "text_encoder_dtype", "pairs_per_batch"),
        *("mesh", "memory_budget", "placement", "resident_blocks"),
    ),
    help={
        "num_video_frames": "Frames of a pair, 8n + 2, by default 10; with --video2world of the clip, 121.",
        "guidance": "At -1 and 0 the network runs once a step, else twice.",
        "pairs_per_batch": "Pairs that share one pass over the weights.",
        "mesh": "Devices that share the work, as data=2,sequence=2; memory is that of one of them.",
        "memory_budget": "GPU memory to choose a plan for, as 8GB or 6GiB; auto: what is free.",
        "placement": "NETWORK=KIND, as for `generate`: that plan has it there.",
        "resident_blocks": "That plan streams the transformer and keeps this many of its blocks on the GPU.",
    },
    defaults={"mesh": "data=1", "num_video_frames": None},
)
_TRAINING = Under(
    only=(
        "batch_size",
        "accumulate",
        "lora_rank",
        "lora_targets",
        "optimizer_on_host",
        "keep_activations",
        "stream_base",
    ),
    help={
        "batch_size": "Samples a training step.",
        "accumulate": "Passes that a batch is divided into.",
        "lora_rank": "Train an adapter of this rank.",
        "lora_targets": "Layers that get one.",
        "optimizer_on_host": "Keep the optimizer's state in host memory.",
        "keep_activations": "What of every block training keeps for the way back.",
        "stream_base": "Pass the network beside an adapter through the GPU.",
    },
)


def _settings(video2world: bool, sampling: SamplingOptions, pairs: int) -> RunSettings:
    """Return the settings of the run that is planned for."""
    kind = Video2WorldSettings if video2world else InterpolationSettings
    settings = kind(sampling=SampleSettings(sampling.guidance), height=sampling.height, width=sampling.width)
    if sampling.num_video_frames is not None:
        settings = replace(settings, num_video_frames=sampling.num_video_frames)
    return settings.together(pairs)


@with_options
def memory(
    *,
    counted: CountedOptions,
    plan: Annotated[PlanOptions, _PLAN],
    train: Annotated[
        bool, typer.Option("--train", help="Say what `train` would take instead, with the options below.")
    ] = False,
    training: Annotated[TrainingOptions, _TRAINING],
) -> None:
    """Say what a run would take, and what `generate` would choose. Loads nothing and needs no GPU."""
    show_log()
    memory, sampling = plan.memory.settings(), plan.sampling
    budget = available(memory)  # comes first: without an accelerator there is no free memory to query
    use_no_accelerator()
    settings = _settings(counted.video2world, sampling, memory.pairs_per_batch or 1)
    refuse_unused(counted.disable_guardrail, counted.folders)
    left_out = set(counted.left_out())
    step = replace(training.step, dtype=sampling.dtype)
    request = MemoryRequest(
        checkpoint_dir=counted.checkpoint_dir,
        folders={name: folder for name, folder in counted.folders.items() if name not in left_out},
        expects_guardrails=not counted.disable_guardrail,
        model=counted.model,
        settings=settings,
        precisions={"--dtype": sampling.dtype, "--text-encoder-dtype": sampling.text_encoder_dtype},
        mesh=MeshShape.parse(plan.devices.mesh),
        memory=memory,
        available=budget,
        quantization=counted.quantization,
        training=train_settings(step, training.adapter) if train else None,
    )
    from jax_interp.cli.runs.memory import run

    run(request)
