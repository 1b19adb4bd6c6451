"""`jax-interp memory`: what a run would take, before anything is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jax_interp.cli.options.networks import (
    GUARDRAILS,
    NONE_GIVEN,
    NetworkFolders,
    which_converted,
    with_network_folders,
)
from jax_interp.components import PLACEMENT_NAMES, TABLE
from jax_interp.errors import UsageError
from jax_interp.terminal import show

if TYPE_CHECKING:
    from jax_interp.pipeline.memory.plan import Plan, PlannedNetwork, Planner
    from jax_interp.runtime.mesh_shape import MeshShape
    from jax_interp.train.settings import TrainSettings

Precision = Literal["bfloat16", "float32"]


@with_network_folders(which_converted())
def memory(
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Folder that `jax-interp convert` made.", show_default="converted")
    ] = None,
    folders: NetworkFolders = NONE_GIVEN,
    prompt_upsampler: Annotated[
        bool, typer.Option("--prompt-upsampler", help="Count it too, for runs that have their prompt written.")
    ] = False,
    disable_guardrail: Annotated[
        bool, typer.Option("--disable-guardrail", help="Do not count the guardrails.")
    ] = False,
    model: Annotated[
        Literal["7B", "14B"] | None, typer.Option(help="The released networks of this size, without any checkpoint.")
    ] = None,
    height: Annotated[int, typer.Option(help="Output height, a multiple of 16.")] = 704,
    width: Annotated[int, typer.Option(help="Output width, a multiple of 16.")] = 1280,
    num_video_frames: Annotated[int, typer.Option(help="Frames of one pair, both ends included: 8n + 2.")] = 10,
    guidance: Annotated[float, typer.Option(help="At -1 and 0 the network runs once a step, else twice.")] = -1.0,
    dtype: Annotated[Precision, typer.Option(help="What transformer and tokenizer compute in.")] = "bfloat16",
    text_encoder_dtype: Annotated[Precision, typer.Option(help="What the text encoder computes in.")] = "float32",
    pairs_per_batch: Annotated[str, typer.Option(help="Pairs that share one pass over the weights.")] = "auto",
    mesh: Annotated[
        str, typer.Option(help="Devices that share the work, as data=2,sequence=2; memory is that of one of them.")
    ] = "data=1",
    memory_budget: Annotated[
        str, typer.Option(help="GPU memory to choose a plan for, as 8GB or 6GiB; auto: what is free.")
    ] = "auto",
    placement: Annotated[
        list[str] | None,
        typer.Option(help="NETWORK=KIND, as for `generate`: that plan has it there."),
    ] = None,
    resident_blocks: Annotated[
        str, typer.Option(help="That plan streams the transformer and keeps this many of its blocks on the GPU.")
    ] = "auto",
    train: Annotated[
        bool, typer.Option("--train", help="Say what `train` would take instead, with the options below.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Samples a training step.")] = 1,
    accumulate: Annotated[int, typer.Option(help="Passes that a batch is divided into.")] = 1,
    lora_rank: Annotated[int | None, typer.Option(help="Train an adapter of this rank.")] = None,
    lora_targets: Annotated[str, typer.Option(help="Layers that get one.")] = "q,v",
    optimizer_on_host: Annotated[
        bool, typer.Option("--optimizer-on-host", help="Keep the optimizer's state in host memory.")
    ] = False,
    stream_base: Annotated[
        bool, typer.Option("--stream-base", help="Pass the network beside an adapter through the GPU.")
    ] = False,
) -> None:
    """Say what a run would take, and what `generate` would choose. Loads nothing and needs no GPU."""
    from jax_interp.cli.commands.host_only import use_no_accelerator
    from jax_interp.cli.options.memory import MemoryFlags
    from jax_interp.cli.terminal.console import show_log

    show_log()
    flags = MemoryFlags.parse(memory_budget, placement or [], resident_blocks, pairs_per_batch, offloaded={})
    available = flags.available()  # asked first: without an accelerator there is nothing free
    use_no_accelerator()

    from jax_interp.cli.options.guardrails import refuse_unused
    from jax_interp.diffusion.settings import SampleSettings
    from jax_interp.pipeline.memory.plan import Planner, gib
    from jax_interp.pipeline.settings import InterpolationSettings
    from jax_interp.pipeline.stages.geometry import latent_shape
    from jax_interp.runtime.mesh_shape import MeshShape

    settings = InterpolationSettings(
        sampling=SampleSettings(guidance),
        height=height,
        width=width,
        num_video_frames=num_video_frames,
        pairs_per_batch=flags.pairs_per_batch or 1,
    )
    refuse_unused(disable_guardrail, {f"{name}_dir": folders[name] is not None for name in GUARDRAILS})
    left_out = {*GUARDRAILS} if disable_guardrail else set()
    left_out |= set() if prompt_upsampler or folders["prompt_upsampler"] else {"prompt_upsampler"}
    wanted = {name: folder for name, folder in _in_order(folders) if name not in left_out}
    configs, origin = _networks(checkpoint_dir, model, wanted)
    if not disable_guardrail and not configs.keys() & {*GUARDRAILS}:
        show(f"{origin} has no guardrails: none are counted, and `generate` only runs with --disable-guardrail")
    latents = latent_shape(
        configs["diffusion_transformer"],
        configs["tokenizer"],
        height=height,
        width=width,
        num_video_frames=num_video_frames,
    )
    if train:
        from jax_interp.cli.commands.train import adapter_settings, train_settings

        adapter = {"rank": lora_rank, "scale": 1.0, "targets": lora_targets}
        run = {
            "batch_size": batch_size,
            "accumulate": accumulate,
            "dtype": dtype,
            "optimizer_on_host": optimizer_on_host,
            "stream_base": stream_base,
        }
        asked = train_settings(adapter_settings(adapter), {}, "default", run)
        show(f"training the transformer of {origin}, {height}×{width}; all numbers in GiB")
        show()
        _show_training(configs["diffusion_transformer"], asked, latents, MeshShape.parse(mesh))
        return
    shape = MeshShape.parse(mesh)
    networks = _planned(configs, {"--dtype": dtype, "--text-encoder-dtype": text_encoder_dtype}, shape)
    planner = Planner(networks, settings.workload(shape))
    on = "" if shape.size == 1 else f", on each of {shape.size} GPUs ({shape})"
    show(f"{origin}, {height}×{width}, {num_video_frames} frames a pair; all numbers in GiB{on}")
    show()
    _show_networks(planner)
    _show_strategies(planner, flags.pairs_per_batch)
    if available is not None:
        _show_plan(f"in {gib(available)} of GPU memory", flags.choose(planner, available))
        return
    if placed := flags.placements_in(planner):
        _show_plan("placed so", planner.plan(placed, flags.pairs_per_batch))
    show("no GPU found: --memory-budget 8GB shows the plan for one of that size")


def _in_order(folders: NetworkFolders) -> list[tuple[str, str | None]]:
    """`folders` in the order in which networks are offloaded, which is how plans list them."""
    return sorted(folders.items(), key=lambda item: PLACEMENT_NAMES.index(TABLE[item[0]].placed_as))


def _planned(
    configs: Mapping[str, Any], precisions: Mapping[str | None, Precision], shape: "MeshShape"
) -> "dict[str, PlannedNetwork]":
    """What a planner takes for `configs`; `precisions` are those of the options that choose one."""
    from jax_interp.pipeline.stage_classes import planned
    from jax_interp.runtime.sharding import check_split, split_counts

    networks: dict[str, PlannedNetwork] = {}
    for name, config in configs.items():
        row = TABLE[name]
        each = planned(name, config, precisions.get(row.precision_flag, row.precision))
        networks |= each
        if not row.is_guardrail:  # those run on one device
            for plan_name, network in each.items():
                check_split(plan_name, shape, split_counts(network.config))
    return networks


def _networks(folder: Path | None, model: str | None, names: NetworkFolders) -> tuple[dict[str, Any], str]:
    """Configurations of the networks `names`, and where they are from."""
    chosen = [name for name in names.values() if name is not None]
    if model is not None and (folder is not None or chosen):
        raise UsageError(f"--model {model} is for the released networks; leave it out to look at a converted folder")
    default = Path("converted")
    if model is None and (folder is not None or chosen or default.exists()):
        root = folder or default
        configs = _converted(root, names)
        return configs, str(root) if "text_encoder" in configs else f"{root}, without a text encoder"
    configs = {name: TABLE[name].released_as(model or "7B") for name in names}
    return configs, f"the released {model} networks" if model else f"no folder {default} here: the released 7B networks"


def _converted(root: Path, names: NetworkFolders) -> dict[str, Any]:
    """Those of a converted folder; a run can do without guardrails and, if embeddings are given, a text encoder."""
    from jax_interp.runtime.checkpoint import find_component, has_component

    return {
        name: find_component(root, name, folder).config
        for name, folder in names.items()
        if TABLE[name].used != "if there" or folder is not None or has_component(root, name)
    }


def _show_networks(planner: "Planner") -> None:
    rows = []
    for name, found in planner.footprints().items():
        blocks = f"{found.num_blocks} × {_gib(found.block)}" if found.num_blocks else "-"
        rows.append((name, planner.networks[name].precision, _gib(found.params), blocks, _gib(found.activations)))
    _show_table(("network", "dtype", "parameters", "in blocks", "activations"), rows)


def _show_strategies(planner: "Planner", pairs_per_batch: int | None) -> None:
    rows = [
        (name, _gib(plan.peak), plan.largest_stage, _gib(plan.process_peak), _gib(plan.host))
        for name, plan in planner.strategies(pairs_per_batch).items()
    ]
    _show_table(("strategy", "peak", "in the stage of", "GPU in all", "host"), rows)
    from jax_interp.pipeline.memory.plan import PROCESS
    from jax_interp.runtime.hardware import host_memory

    show(f"GPU in all: the peak and {_gib(PROCESS)} that the process itself takes (CUDA's context, kernels, handles)")
    show(f"host: parameters that wait in host memory, of which {_gib(host_memory()[0])} are free here")


def _show_plan(what: str, plan: "Plan") -> None:
    from jax_interp.pipeline.memory.plan import describe, gib
    from jax_interp.runtime.hardware import host_memory

    excess = "" if plan.host <= host_memory()[0] else ", which is more than is free here"
    show(f"{what}: {describe(plan)}")
    show(f"takes {gib(plan.process_peak)} of the GPU, and {gib(plan.host)} of host memory{excess}")


def _show_training(
    config: Any, settings: "TrainSettings", latents: tuple[int, int, int, int], shape: "MeshShape"
) -> None:
    from jax_interp.pipeline.memory.plan import PROCESS, gib
    from jax_interp.train.steps.footprint import training_footprint

    found = training_footprint(config, settings, latents, shape)
    names = ("weights", "gradients", "optimizer", "activations", "peak", "host")
    _show_table(names, [tuple(_gib(getattr(found, name)) for name in names)])
    show(f"of each GPU: {gib(found.peak + PROCESS)} with what the process itself takes; host: {gib(found.host)}")


def _show_table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from jax_interp.cli.terminal.console import show_table

    # No lines between columns: so the longest names fit into 80 columns.
    numbers = set(names) - {"network", "dtype", "strategy", "in the stage of"}
    show_table(rows, names, numbers=numbers, framed=False)
    show()


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"
