"""The run record: everything that decided a result, and what making it took, as JSON beside the video."""

import dataclasses
import hashlib
import json
import platform
import resource
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jax_interp._version import __version__
from jax_interp.media.destination import pictures_in
from jax_interp.media.output_rate import exact_rate
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.checkpoint.converted import ConvertedComponent

FileState = tuple[str, int, int]
"""A file's path, its bytes, and when it was changed, in nanoseconds."""


def effective_settings(interpolator: Interpolator, settings: InterpolationSettings) -> dict[str, Any]:
    """Every setting that can change a frame, defaults filled in."""
    values = dataclasses.asdict(dataclasses.replace(settings, sampling=_named(settings)))
    values |= values.pop("sampling")
    if settings.negative_prompt is None:
        values["negative_prompt"] = DEFAULT_NEGATIVE_PROMPT
    values["dtype"] = interpolator.denoiser.precision
    values["rotary_precision"] = interpolator.denoiser.rotary_precision
    network = _text_network(interpolator)
    values["text_encoder_dtype"] = network.precision if network else None
    values["text_embeddings_sha256"] = interpolator.text_encoder.given_sha256 if interpolator.text_encoder else None
    return values


def fingerprint(
    interpolator: Interpolator,
    settings: InterpolationSettings,
    inputs: tuple[Path, ...],
    upsampler: UpsamplerSettings | None = None,
    rate: Fraction | None = None,
    own_facts: Mapping[str, Any] | None = None,
) -> str:
    """Identifies a result before it is made: settings, input files and networks; and how its prompt will be written.

    `rate` is the video's in frames a second; None for that of `settings`. `own_facts` are the job's
    (`Job.own_facts`).
    """
    effective = effective_settings(interpolator, settings)
    # How many pairs share a pass follows from free memory, and changes a result no more than its last bits.
    del effective["pairs_per_batch"]
    effective["rate"] = str(rate or exact_rate(settings.sampling.fps))
    effective["job"] = own_facts
    if upsampler is not None:
        effective["prompt"] = dataclasses.asdict(upsampler)
    network_facts = networks(interpolator, upsamples=upsampler is not None)
    # What was made without guardrails, or with others, must not pass for checked.
    stride = interpolator.guardrails.frame_stride if interpolator.guardrails else None
    identity = [__version__, effective, input_states(inputs), network_facts, {"guardrail_frame_stride": stride}]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def run_record(
    interpolator: Interpolator,
    settings: InterpolationSettings,
    upsampler: UpsamplerSettings | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """The record of a finished run; `facts` are the job's own (input, output, frames, seconds)."""
    device = jax.devices()[0]
    memory = device.memory_stats() or {}
    return {
        "jax_interp": __version__,
        "settings": effective_settings(interpolator, settings),
        "guardrail": interpolator.guardrails.facts() if interpolator.guardrails else "off",
        "prompt_upsampler": dataclasses.asdict(upsampler) if upsampler else "not used",
        **facts,
        "networks": networks(interpolator, upsamples=upsampler is not None),
        "placements": {name: dataclasses.asdict(placed) for name, placed in interpolator.placements.items()},
        "seconds": {stage: round(seconds, 3) for stage, seconds in interpolator.timings.items()},
        "peak_memory_bytes": {
            "device": memory.get("peak_bytes_in_use"),
            "host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy", "av")},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": interpolator.devices.shape.size},
        "mesh": dataclasses.asdict(interpolator.devices.shape),
    }


def _named(settings: InterpolationSettings) -> Any:
    noise = settings.sampling.condition_noise
    return (
        dataclasses.replace(settings.sampling, condition_noise="given by the caller")
        if callable(noise)
        else settings.sampling
    )


def networks(interpolator: Interpolator, *, upsamples: bool = False) -> dict[str, Any]:
    """Folder and checksums of every network that has a part in a result."""
    upsampler = interpolator.prompt_upsampler if upsamples else None
    stages = (interpolator.denoiser, interpolator.codec, _text_network(interpolator), upsampler)
    converted_components = [stage.converted for stage in stages if stage is not None]
    converted_components += interpolator.guardrails.converted_components if interpolator.guardrails else []
    return {converted.component: _facts(converted) for converted in converted_components}


def _facts(converted: ConvertedComponent) -> dict[str, Any]:
    facts: dict[str, Any] = {"folder": converted.path.name, "sha256": converted.source_sha256}
    return facts | ({"lora": [adapter.facts for adapter in converted.adapters]} if converted.adapters else {})


def input_states(inputs: tuple[Path, ...]) -> tuple[FileState, ...]:
    """What tells whether the inputs, and every picture of those that are folders, are what they were.

    Raises:
        OSError: one of them cannot be looked at.
    """
    resolved = [path.resolve() for path in inputs]
    files = [file for path in resolved for file in (sorted(pictures_in(path)) if path.is_dir() else [path])]
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _text_network(interpolator: Interpolator) -> PromptNetwork | None:
    return interpolator.text_encoder.network if interpolator.text_encoder else None
