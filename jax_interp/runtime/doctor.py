"""Checks of what this machine can do. Each says what to install or do, and none can make the others fail."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from jax_interp.byte_sizes import UNITS, format_bytes
from jax_interp.files.private_folder import user_cache_folder
from jax_interp.runtime.compile_cache import compiled_folder, prepare_folder
from jax_interp.runtime.hardware import cuda_of_driver, host_memory, nvidia_gpus

Status = Literal["ok", "warning", "missing"]

CUDA13_DRIVER, CUDA12_DRIVER = 580, 525
"""The first NVIDIA driver series that runs programs built for CUDA 13, and for CUDA 12."""
GB = UNITS["GB"]
DOWNLOAD_BYTES, CONVERTED_BYTES = 80 * GB, 52 * GB
"""Bytes of the default download, and of the networks converted from it."""
CONVERSION_BYTES = 8 * GB
"""Bytes of host memory that converting the 7B transformer takes."""
WAITING_BYTES = ((54 * GB, 0), (37 * GB, 2 * GB), (20 * GB, 17 * GB), (0, 32 * GB))
"""Free GPU memory, and the host memory in which a run with that much or more keeps what does not fit: rows of what the
planner finds (`pipeline.memory.plan`) for the released 7B networks with their guardrails."""
TRANSFORMER_BYTES, QUANTIZED_BYTES = 15 * GB, 8 * GB
"""Bytes of the 7B transformer in bfloat16 and in 8 bits."""

_COMMANDS = {
    "WorldInterpolator": "for `generate`",
    "Video2World": "for `video2world`",
    None: "for `generate` or `video2world`: nothing tells which",
}


@dataclass(frozen=True)
class Check:
    """The result of one check. Status `missing`: something required is absent. `warning`: it works, but not well or
    not everywhere."""

    name: str
    status: Status
    value: str
    advice: str = ""


def examine() -> list[Check]:
    """Run every check in the order of `CHECKS`; a check that raises becomes a finding."""
    return [_guarded(name, check) for name, check in CHECKS.items()]


def _guarded(name: str, check: Callable[[str], Check]) -> Check:
    try:
        return check(name)
    except Exception as error:  # reporting broken installations is the purpose: report it and go on
        return Check(name, "warning", f"the check itself failed: {type(error).__name__}: {_first_line(error)}")


def check_python(name: str) -> Check:
    # An older Python cannot have installed this package.
    return Check(name, "ok", f"{platform.python_version()}, {sys.executable}")


def check_packages(name: str) -> Check:
    needed = ("jax", "jaxlib", "flax", "orbax-checkpoint", "transformers", "huggingface_hub", "av")
    versions = {package: _version(package) for package in needed}
    absent = [package for package, version in versions.items() if version is None]
    value = ", ".join(f"{package} {version or 'absent'}" for package, version in versions.items())
    if absent:
        return Check(name, "missing", value, f"pip install {' '.join(absent)}")
    return Check(name, "ok", value)


def check_guardrail_packages(name: str) -> Check:
    needed = ("better_profanity", "confusable_homoglyphs", "nltk", "jinja2")
    missing = [package for package in needed if find_spec(package) is None]
    if not missing:
        return Check(name, "ok", "there")
    advice = 'prompts cannot be checked, so runs with one are blocked; pip install -e ".[guardrails]" in the clone'
    return Check(name, "warning", f"{', '.join(missing)} missing", advice)


def check_driver(name: str) -> Check:
    gpus = nvidia_gpus()
    if not gpus:
        return Check(name, "ok", "no NVIDIA GPU found; JAX uses what is listed under devices")
    major = int(gpus[0].driver.split(".")[0])
    cuda = cuda_of_driver()
    value = f"{gpus[0].driver}{f', for CUDA up to {cuda}' if cuda else ''}"
    if major < CUDA12_DRIVER:
        return Check(name, "warning", value, f"install NVIDIA driver {CUDA12_DRIVER} or newer to use the GPU")
    return Check(name, "ok", value)


def check_devices(name: str) -> Check:
    import jax

    devices = jax.devices()
    value = f"{len(devices)} × {devices[0].device_kind} ({devices[0].platform})"
    if devices[0].platform == "cpu" and nvidia_gpus():
        return Check(name, "warning", value, _why_not_gpu(int(nvidia_gpus()[0].driver.split(".")[0])))
    return Check(name, "ok", value)


def _why_not_gpu(driver: int) -> str:
    """Return why JAX does not use a GPU that the driver, of series `driver`, reports."""
    selected = os.environ.get("JAX_PLATFORMS", "")
    if selected and not {"cuda", "gpu"} & set(selected.split(",")):
        return f"JAX_PLATFORMS={selected} keeps JAX off the GPU; unset it"
    installed = _cuda_plugins()
    extra = "cuda13" if driver >= CUDA13_DRIVER else "cuda12"
    if not installed:
        return f'pip install -e ".[{extra}]" in the clone'
    plugin, version = next(iter(installed.items()))
    if version != _version("jaxlib"):
        return (
            f"{plugin} {version} does not fit jaxlib {_version('jaxlib')};"
            f' pip install --upgrade -e ".[{extra}]" in the clone'
        )
    if plugin == "jax-cuda13-plugin" and driver < CUDA13_DRIVER:
        return (
            f"the driver is too old for {plugin}; install driver {CUDA13_DRIVER},"
            ' or pip install -e ".[cuda12]" in the clone'
        )
    return f"{plugin} {version} is installed but does not start; run python -c 'import jax; jax.devices(\"cuda\")'"


def check_attention(name: str) -> Check:
    import jax
    import jax.numpy as jnp

    if jax.default_backend() != "gpu":
        return Check(name, "ok", "XLA (cuDNN's kernel needs an NVIDIA GPU)")
    x = jnp.ones((1, 64, 2, 64), jnp.bfloat16)
    try:
        y = jax.block_until_ready(jax.nn.dot_product_attention(x, x, x, implementation="cudnn"))
    except Exception as error:  # whatever the library raises, generation falls back to XLA
        advice = "generation falls back to XLA's attention, which is slower; update the driver and the CUDA extra"
        return Check(name, "warning", f"cuDNN does not run: {_first_line(error)}", advice)
    if not bool(jnp.allclose(y.astype(jnp.float32), 1.0, atol=1e-2)):
        return Check(name, "warning", "cuDNN gives wrong numbers", "update the driver and the CUDA extra")
    return Check(name, "ok", "cuDNN")


def check_gpu_memory(name: str) -> Check:
    gpus = nvidia_gpus()
    if not gpus:
        advice = "the released networks need a GPU; the CPU is enough for small ones, like the demo's"
        return Check(name, "warning", "no NVIDIA GPU", advice)
    value = "; ".join(f"{gpu.name}: {_gb(gpu.free)} free of {_gb(gpu.memory)}" for gpu in gpus)
    if max(gpu.free for gpu in gpus) < TRANSFORMER_BYTES:
        advice = (
            f"the 7B transformer takes {_gb(TRANSFORMER_BYTES)} in bfloat16 and {_gb(QUANTIZED_BYTES)} with"
            " --quantization int8; end other programs or use a larger GPU"
        )
        return Check(name, "warning", value, advice)
    return Check(name, "ok", value)


def check_host_memory(name: str) -> Check:
    free, total = host_memory()
    value = f"{_gb(free)} free of {_gb(total)}"
    advice = [f"converting the 7B transformer takes {_gb(CONVERSION_BYTES)}"] if free < CONVERSION_BYTES else []
    if gpus := nvidia_gpus():
        gpu = max(gpu.free for gpu in gpus)
        waiting = next(host for least, host in WAITING_BYTES if gpu >= least)
        if free < waiting:
            advice.append(
                f"with {_gb(gpu)} of GPU memory, {_gb(waiting)} of the 7B networks and their guardrails wait in host"
                " memory: `jax-interp memory` shows what takes less"
            )
    return Check(name, "warning" if advice else "ok", value, "; ".join(advice))


def check_shared_memory(name: str) -> Check:
    """Check the shared memory through which NCCL exchanges data between the GPUs of one host."""
    place = Path("/dev/shm")
    if len(nvidia_gpus()) < 2 or not place.exists():
        return Check(name, "ok", "not needed (fewer than two GPUs)")
    size = shutil.disk_usage(place).total
    if size < GB:
        return Check(name, "warning", _gb(size), "start the container with --shm-size=1g or --ipc=host")
    return Check(name, "ok", _gb(size))


def check_disk(name: str) -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    value = f"{_gb(free)} free in {Path.cwd()}"
    needed = DOWNLOAD_BYTES + CONVERTED_BYTES
    if free < needed:
        advice = (
            f"the 7B download takes {_gb(DOWNLOAD_BYTES)}, converted {_gb(CONVERTED_BYTES)} more; use a larger disk"
        )
        return Check(name, "warning", value, advice)
    return Check(name, "ok", value)


def check_transformers(name: str) -> Check:
    """Check the transformers in the folder that commands look into by default."""
    from jax_interp.errors import CheckpointError
    from jax_interp.runtime.checkpoint.converted import open_component
    from jax_interp.runtime.checkpoint.description import stated_component
    from jax_interp.runtime.checkpoint.finding import scan

    root = Path("converted")
    if not root.is_dir():
        return Check(name, "ok", f"no folder {root} here")
    found, faults = [], []
    for folder in scan(root):
        if stated_component(folder) != "diffusion_transformer":
            continue
        try:
            kind = open_component(folder).transformer_type
        except CheckpointError as error:
            faults.append(str(error))
        else:
            found.append(f"{folder.relative_to(root)} ({_COMMANDS[kind]})")
    value = ", ".join(found) or "none that can be used"
    return Check(name, "warning" if faults else "ok", value, "; ".join(faults))


def check_cache_folder(name: str) -> Check:
    variable = "XDG_CACHE_HOME"
    try:
        return _writable(name, user_cache_folder(), variable)
    except FileNotFoundError as error:
        return Check(name, "warning", str(error.strerror), f"set {variable} to a folder of your own")


def check_compilation_cache(name: str) -> Check:
    import jax

    if not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return Check(name, "ok", "switched off by JAX_ENABLE_COMPILATION_CACHE")
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if chosen and "://" in chosen:
        return Check(name, "ok", chosen)
    folder = Path(chosen) if chosen else compiled_folder()
    try:
        prepare_folder(folder)
    except OSError as error:
        advice = "every start compiles anew; set JAX_COMPILATION_CACHE_DIR to a folder of your own"
        return Check(name, "warning", f"{folder} cannot be used ({error.strerror}: {error.filename})", advice)
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Check(name, "ok", f"{folder}, {format_bytes(used, 'MB')} used")


def check_hub_token(name: str) -> Check:
    from huggingface_hub import get_token

    if get_token():
        return Check(name, "ok", "present")
    return Check(name, "warning", "absent", "NVIDIA's checkpoints need one: run `hf auth login` or set HF_TOKEN")


def check_video_codecs(name: str) -> Check:
    import av
    from av.codec import Codec

    absent = []
    for codec, mode in (("libx264", "w"), ("png", "w"), ("h264", "r"), ("hevc", "r"), ("av1", "r"), ("vp9", "r")):
        try:
            Codec(codec, mode)  # type: ignore[arg-type]
        except ValueError:
            absent.append((codec, mode))
    value = f"PyAV {av.__version__}" + (
        f" without {', '.join(codec for codec, _ in absent)}" if absent else ", all there"
    )
    if any(mode == "w" for _, mode in absent):
        return Check(name, "missing", value, "pip install --force-reinstall av (its wheels bring the codecs)")
    return Check(name, "warning" if absent else "ok", value, "such videos cannot be read" if absent else "")


CHECKS: dict[str, Callable[[str], Check]] = {
    "Python": check_python,
    "packages": check_packages,
    "guardrail packages": check_guardrail_packages,
    # The GPU's memory is checked before JAX starts and reserves its part of it.
    "GPU memory": check_gpu_memory,
    "NVIDIA driver": check_driver,
    "devices": check_devices,
    "attention": check_attention,
    "host memory": check_host_memory,
    "shared memory": check_shared_memory,
    "disk": check_disk,
    "converted transformers": check_transformers,
    "cache folder": check_cache_folder,
    "compilation cache": check_compilation_cache,
    "hub token": check_hub_token,
    "video codecs": check_video_codecs,
}


def _writable(name: str, folder: Path, variable: str) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(
            name, "warning", f"{folder} cannot be written ({error.strerror})", f"set {variable} to another folder"
        )
    return Check(name, "ok", f"{folder}, {_gb(shutil.disk_usage(folder).free)} free")


def _cuda_plugins() -> dict[str, str]:
    names = ("jax-cuda13-plugin", "jax-cuda12-plugin")
    return {name: version for name in names if (version := _version(name))}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gb(size: int) -> str:
    return format_bytes(size, "GB", digits=0)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
