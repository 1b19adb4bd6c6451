"""`jax-interp memory`: what a run would take, before anything is loaded."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jax_interp.errors import UsageError
from jax_interp.terminal import show

if TYPE_CHECKING:
    from jax_interp.pipeline.memory.plan import Plan, Planner

Precision = Literal["bfloat16", "float32"]


def memory(
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Folder that `jax-interp convert` made.", show_default="converted")
    ] = None,
    diffusion_transformer_dir: Annotated[
        str | None, typer.Option(help="Which transformer, if several are converted.")
    ] = None,
    tokenizer_dir: Annotated[str | None, typer.Option(help="Which tokenizer, if several are converted.")] = None,
    text_encoder_dir: Annotated[str | None, typer.Option(help="Which text encoder, if several are converted.")] = None,
    prompt_upsampler_dir: Annotated[
        str | None, typer.Option(help="Which prompt upsampler, if several are converted.")
    ] = None,
    text_safety_dir: Annotated[
        str | None, typer.Option(help="Which classifier of prompts, if several are converted.")
    ] = None,
    video_safety_dir: Annotated[
        str | None, typer.Option(help="Which classifier of frames, if several are converted.")
    ] = None,
    face_blur_dir: Annotated[str | None, typer.Option(help="Which face detector, if several are converted.")] = None,
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
) -> None:
    """Say what a run would take, and what `generate` would choose. Loads nothing and needs no GPU."""
    from jax_interp.cli.console import show_log
    from jax_interp.cli.host_only import use_no_accelerator
    from jax_interp.cli.memory_flags import MemoryFlags

    show_log()
    flags = MemoryFlags.parse(memory_budget, placement or [], resident_blocks, pairs_per_batch, offloaded={})
    available = flags.available()  # asked first: without an accelerator there is nothing free
    use_no_accelerator()

    from jax_interp.cli.guardrail_flags import refuse_unused
    from jax_interp.pipeline.memory.footprint import Workload
    from jax_interp.pipeline.memory.plan import Planner, gib
    from jax_interp.pipeline.safety.guardrails import GUARDRAIL_PRECISIONS
    from jax_interp.pipeline.settings import InterpolationSettings
    from jax_interp.pipeline.stages.denoiser import SampleSettings
    from jax_interp.pipeline.stages.geometry import latent_shape
    from jax_interp.runtime.mesh import MeshShape
    from jax_interp.runtime.sharding import check_split, split_counts

    settings = InterpolationSettings(
        sampling=SampleSettings(guidance),
        height=height,
        width=width,
        num_video_frames=num_video_frames,
        pairs_per_batch=flags.pairs_per_batch or 1,
    )
    guards = {"text_safety": text_safety_dir, "video_safety": video_safety_dir, "face_blur": face_blur_dir}
    refuse_unused(disable_guardrail, {f"{name}_dir": folder is not None for name, folder in guards.items()})
    folders = {
        **({"prompt_upsampler": prompt_upsampler_dir} if prompt_upsampler or prompt_upsampler_dir else {}),
        **({} if disable_guardrail else guards),
        "text_encoder": text_encoder_dir,
        "tokenizer": tokenizer_dir,
        "diffusion_transformer": diffusion_transformer_dir,
    }
    configs, origin = _networks(checkpoint_dir, model, folders)
    if not disable_guardrail and not any(name.startswith("guardrail_models") for name in configs):
        show(f"{origin} has no guardrails: none are counted, and `generate` only runs with --disable-guardrail")
    latent_shape(
        configs["diffusion_transformer"],
        configs["tokenizer"],
        height=height,
        width=width,
        num_video_frames=num_video_frames,
    )
    own: dict[str, Precision] = {"text_encoder": text_encoder_dtype, **GUARDRAIL_PRECISIONS}
    precisions: dict[str, Precision] = {name: own.get(name, dtype) for name in configs}
    shape = MeshShape.parse(mesh)
    for name, config in configs.items():
        if not name.startswith("guardrail_models"):  # they run on one device
            check_split(name, shape, split_counts(config))
    planner = Planner(configs, precisions, Workload.of(settings, shape))
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


def _networks(folder: Path | None, model: str | None, names: dict[str, str | None]) -> tuple[dict[str, Any], str]:
    """Configurations of the networks `names`, by the names that plans have for them, and where they are from."""
    chosen = [name for name in names.values() if name is not None]
    if model is not None and (folder is not None or chosen):
        raise UsageError(f"--model {model} is for the released networks; leave it out to look at a converted folder")
    default = Path("converted")
    if model is None and (folder is not None or chosen or default.exists()):
        root = folder or default
        configs = _converted(root, names)
        return configs, str(root) if "text_encoder" in configs else f"{root}, without a text encoder"
    configs = {name: config for of in names for name, config in _by_plan(of, _released(model or "7B")[of]).items()}
    return configs, f"the released {model} networks" if model else f"no folder {default} here: the released 7B networks"


def _converted(root: Path, names: dict[str, str | None]) -> dict[str, Any]:
    """Those of a converted folder; a run can do without guardrails and, if embeddings are given, a text encoder."""
    from jax_interp.runtime.checkpoint import find_component, has_component

    needed = ("prompt_upsampler", "tokenizer", "diffusion_transformer")
    configs = {}
    for name, folder in names.items():
        if name in needed or folder is not None or has_component(root, name):
            configs |= _by_plan(name, find_component(root, name, folder).config)
    return configs


def _released(model: str) -> dict[str, Any]:
    from jax_interp import config

    return {
        "prompt_upsampler": config.PIXTRAL_12B,
        "text_safety": config.LLAMA_3_1_8B,
        "video_safety": config.VIDEO_SAFETY,
        "face_blur": config.RETINAFACE_RESNET50,
        "text_encoder": config.T5_11B,
        "tokenizer": config.CV8X8X8_720P,
        "diffusion_transformer": {"7B": config.DIT_7B, "14B": config.DIT_14B}[model],
    }


def _by_plan(component: str, config: Any) -> dict[str, Any]:
    """One or more networks of a component by the names that plans have for them."""
    if component == "prompt_upsampler":
        return {f"{component}/pictures": config.vision, f"{component}/language": config.text}
    from jax_interp.pipeline.safety.guardrails import GUARDRAIL_PRECISIONS

    guard = f"guardrail_models/{component}"
    return {guard if guard in GUARDRAIL_PRECISIONS else component: config}


def _show_networks(planner: "Planner") -> None:
    rows = []
    for name, found in planner.footprints().items():
        blocks = f"{found.num_blocks} × {_gib(found.block)}" if found.num_blocks else "-"
        rows.append((name, planner.precisions[name], _gib(found.params), blocks, _gib(found.activations)))
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


def _show_table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from jax_interp.cli.console import show_table

    # No lines between columns: so the longest names fit into 80 columns.
    numbers = set(names) - {"network", "dtype", "strategy", "in the stage of"}
    show_table(rows, names, numbers=numbers, framed=False)
    show()


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"
