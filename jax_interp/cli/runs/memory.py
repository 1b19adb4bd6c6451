"""The run of `jax-interp memory`: it makes plans from configurations alone, and shows them as tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jax_interp.byte_sizes import format_bytes, gib
from jax_interp.cli.options.networks import GUARDRAILS, NetworkFolders
from jax_interp.cli.options.requests import MemoryRequest
from jax_interp.cli.terminal.console import show_table
from jax_interp.components import PLACEMENT_NAMES, TABLE, TransformerType
from jax_interp.config import Precision, Quantization
from jax_interp.errors import UsageError
from jax_interp.pipeline.memory.placing import choose, placements_in
from jax_interp.pipeline.memory.plan import PROCESS_OVERHEAD, MemoryPlan, PlannedNetwork, Planner, describe
from jax_interp.pipeline.settings import RunSettings, Video2WorldSettings
from jax_interp.pipeline.stage_classes import planned
from jax_interp.pipeline.stages.geometry import latent_shape, world_latent_shape
from jax_interp.runtime import hardware
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.finding import find_component, find_transformer, has_component
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.sharding import check_split, split_counts
from jax_interp.terminal import show
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.footprint import training_footprint
from jax_interp.train.steps.lora import target_layers


def run(request: MemoryRequest) -> None:
    """Print the memory that `request` would take; nothing is loaded."""
    settings, is_world = request.settings, isinstance(request.settings, Video2WorldSettings)
    kind: TransformerType = "Video2World" if is_world else "WorldInterpolator"
    found, origin = _networks(request, dict(_in_order(request.folders)), kind)
    configs = {name: network.config for name, network in found.items()}
    if request.expects_guardrails and not configs.keys() & {*GUARDRAILS}:
        show(f"{origin} has no guardrails: none are counted, and `generate` only runs with --disable-guardrail")
    latents = _latents(configs, settings)
    if request.training is not None:
        show(f"training the transformer of {origin}, {settings.height}×{settings.width}; all numbers in GiB")
        show()
        _show_training(configs["diffusion_transformer"], request.training, latents, request.mesh)
        return
    planner = Planner(_planned(found, request.precisions, request.mesh), settings.workload(request.mesh))
    on = "" if request.mesh.size == 1 else f", on each of {request.mesh.size} GPUs ({request.mesh})"
    size = f"{settings.height}×{settings.width}, {settings.num_video_frames} frames a {'clip' if is_world else 'pair'}"
    show(f"{origin}, {size}; all numbers in GiB{on}")
    show()
    _show_networks(planner)
    _show_strategies(planner, 1 if is_world else request.memory.pairs_per_batch)
    if request.available is not None:
        plan = choose(request.memory, planner, request.available)
        _show_plan(f"in {gib(request.available)} of GPU memory", plan)
        return
    if placed := placements_in(request.memory, planner):
        _show_plan("placed so", planner.plan(placed, request.memory.pairs_per_batch))
    show("no GPU found: --memory-budget 8GB shows the plan for one of that size")


def _latents(configs: Mapping[str, Any], settings: RunSettings) -> tuple[int, int, int, int]:
    """Return the shape of the latents of a pair or clip; raises `UsageError` for sizes that cannot be."""
    networks = configs["diffusion_transformer"], configs["tokenizer"]
    size = {"height": settings.height, "width": settings.width, "num_video_frames": settings.num_video_frames}
    if isinstance(settings, Video2WorldSettings):
        return world_latent_shape(*networks, **size, num_input_frames=settings.num_input_frames)
    return latent_shape(*networks, **size)


def _in_order(folders: NetworkFolders) -> list[tuple[str, str | None]]:
    """Return `folders` in the order in which networks are offloaded, which is the order in which plans list them."""
    return sorted(folders.items(), key=lambda item: PLACEMENT_NAMES.index(TABLE[item[0]].placed_as))


def _planned(
    found: Mapping[str, "_Counted"], precisions: Mapping[str | None, Precision], shape: MeshShape
) -> dict[str, PlannedNetwork]:
    """Return the networks `found` as a planner takes them; `precisions` are by the options that choose them."""
    networks: dict[str, PlannedNetwork] = {}
    for name, network in found.items():
        row = TABLE[name]
        precision = precisions.get(row.precision_flag, row.precision)
        each = planned(name, network.config, precision, network.quantization)
        networks |= each
        if not row.is_guardrail:  # guardrails run on one device
            for plan_name, part in each.items():
                check_split(plan_name, shape, split_counts(part.config))
    return networks


class _Counted(NamedTuple):
    """A network that is counted."""

    config: Any
    quantization: Quantization


def _networks(request: MemoryRequest, names: NetworkFolders, kind: TransformerType) -> tuple[dict[str, _Counted], str]:
    """Return the networks `names`, and a text that says where they come from."""
    folder, model, quantization = request.checkpoint_dir, request.model, request.quantization
    chosen = [name for name in names.values() if name is not None]
    if model is not None and (folder is not None or chosen):
        raise UsageError(f"--model {model} is for the released networks; leave it out to look at a converted folder")
    default = Path("converted")
    if model is None and (folder is not None or chosen or default.exists()):
        root = folder or default
        found = _converted(root, names, quantization, kind)
        return found, str(root) if "text_encoder" in found else f"{root}, without a text encoder"
    found = {name: _Counted(TABLE[name].released_as(model or "7B"), quantization or "none") for name in names}
    return found, f"the released {model} networks" if model else f"no folder {default} here: the released 7B networks"


def _converted(
    root: Path, names: NetworkFolders, quantization: Quantization | None, kind: TransformerType
) -> dict[str, _Counted]:
    """Return the networks in a converted folder.

    Guardrails may be absent and so may, because embeddings can be given instead, the text encoder.
    """
    found = {
        name: _found(root, name, folder, kind).quantized(quantization)
        for name, folder in names.items()
        if TABLE[name].used != "if there" or folder is not None or has_component(root, name)
    }
    return {name: _Counted(network.config, network.quantization) for name, network in found.items()}


def _found(root: Path, name: str, folder: str | None, kind: TransformerType) -> ConvertedComponent:
    if name == "diffusion_transformer":
        return find_transformer(root, kind, folder)
    return find_component(root, name, folder)


def _show_networks(planner: Planner) -> None:
    rows = []
    for name, found in planner.footprints().items():
        blocks = f"{found.num_blocks} × {_gib(found.block)}" if found.num_blocks else "-"
        network = planner.networks[name]
        kept = network.precision if network.quantization == "none" else network.quantization
        rows.append((name, kept, _gib(found.params), blocks, _gib(found.activations)))
    _show_table(("network", "dtype", "parameters", "in blocks", "activations"), rows)


def _show_strategies(planner: Planner, pairs_per_batch: int | None) -> None:
    rows = [
        (name, _gib(plan.peak), plan.largest_stage, _gib(plan.process_peak), _gib(plan.host))
        for name, plan in planner.strategies(pairs_per_batch).items()
    ]
    _show_table(("strategy", "peak", "in the stage of", "GPU in all", "host"), rows)
    show(
        f"GPU in all: the peak and {_gib(PROCESS_OVERHEAD)} that the process itself takes"
        " (CUDA's context, kernels, handles)"
    )
    show(f"host: parameters that wait in host memory, of which {_gib(hardware.host_memory()[0])} are free here")


def _show_plan(what: str, plan: MemoryPlan) -> None:
    excess = "" if plan.host <= hardware.host_memory()[0] else ", which is more than is free here"
    show(f"{what}: {describe(plan)}")
    show(f"takes {gib(plan.process_peak)} of the GPU, and {gib(plan.host)} of host memory{excess}")


def _show_training(config: Any, settings: TrainSettings, latents: tuple[int, int, int, int], shape: MeshShape) -> None:
    if settings.lora is not None:
        target_layers(settings.lora.targets)
    found = training_footprint(config, settings, latents, shape)
    names = ("weights", "gradients", "optimizer", "activations", "peak", "host")
    _show_table(names, [tuple(_gib(getattr(found, name)) for name in names)])
    show(
        f"of each GPU: {gib(found.peak + PROCESS_OVERHEAD)} with what the process itself takes; host: {gib(found.host)}"
    )


def _show_table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    # Without lines between columns the longest names fit into 80 columns.
    numbers = set(names) - {"network", "dtype", "strategy", "in the stage of"}
    show_table(rows, names, numbers=numbers, framed=False)
    show()


def _gib(size: int) -> str:
    """Format bytes as the tables do, without the unit, which is in their heading."""
    return format_bytes(size, "GiB", digits=2).removesuffix(" GiB")
