"""What the tab on the machine says: the checks of `doctor`, and the memory that the networks take, in words."""

from jax_interp.app.asked import Asked
from jax_interp.app.settings import AppSettings
from jax_interp.byte_sizes import gib
from jax_interp.components import TransformerType
from jax_interp.errors import JaxInterpError
from jax_interp.pipeline.jobs.kinds import kind_of
from jax_interp.pipeline.memory.available import fullest_gpu
from jax_interp.pipeline.memory.plan import describe
from jax_interp.runtime.checkpoint.finding import find_transformer
from jax_interp.runtime.doctor import examine
from jax_interp.runtime.hardware import host_memory

_STATUS = {"ok": "works", "warning": "works, but not well or not everywhere", "missing": "is missing"}


def checks() -> list[tuple[str, str, str, str]]:
    """Return the rows of what `doctor` finds: name, status, what was found, what to do."""
    return [(check.name, _STATUS[check.status], check.value, check.advice) for check in examine()]


def has_transformer(app: AppSettings, kind: TransformerType) -> bool:
    """Tell whether the transformer of a pipeline is there, complete."""
    try:
        find_transformer(app.networks.checkpoint_dir, kind, app.networks.folder("diffusion_transformer"))
    except JaxInterpError:
        return False
    return True


def memory_in_words(app: AppSettings) -> list[str]:
    """Return sentences on what the interpolator takes at the default size; nothing is loaded."""
    from pathlib import Path

    settings = Asked(steps=app.num_steps).job(Path("job"), (), app).settings
    networks, size = app.networks, f"{app.height}×{app.width}"
    try:
        pipeline = kind_of(settings).pipeline.from_pretrained(
            networks.checkpoint_dir,
            dtype=networks.dtype,
            diffusion_transformer_dir=networks.folder("diffusion_transformer"),
            tokenizer_dir=networks.folder("tokenizer"),
            text_encoder_dir=networks.folder("text_encoder"),
            quantization=networks.quantization,
        )
    except JaxInterpError as error:
        return [str(error)]
    planner = pipeline.planner(settings)
    resident, smallest = planner.plan({}), planner.smallest()
    free, _ = host_memory()
    lines = [
        f"At {size} the interpolator takes {gib(resident.process_peak)} of GPU memory if every network stays on the GPU"
        " (without the guardrails).",
        f"The least that it can do with is {gib(smallest.process_peak)}: {describe(smallest)}; then"
        f" {gib(smallest.host)} of parameters wait in host memory, of which {gib(free)} are free.",
    ]
    gpu = fullest_gpu()
    if gpu is None:
        return [*lines, "No GPU was found: the networks run on the processor."]
    return [*lines, f"The GPU is {gpu.name}, of whose memory {gib(gpu.free)} are free for other programs now."]
