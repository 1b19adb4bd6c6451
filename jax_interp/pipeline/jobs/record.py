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
from jax_interp.media.output_rate import exact_rate
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.requests.inputs import input_states
from jax_interp.pipeline.settings import RunSettings
from jax_interp.runtime.checkpoint.converted import ConvertedComponent


def effective_settings(interpolator: Pipeline, settings: RunSettings) -> dict[str, Any]:
    """Return every setting that can change a frame, with defaults filled in."""
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
    interpolator: Pipeline,
    settings: RunSettings,
    inputs: tuple[Path, ...],
    upsampler: UpsamplerSettings | None = None,
    rate: Fraction | None = None,
    own_facts: Mapping[str, Any] | None = None,
) -> str:
    """Return a SHA-256 of all that decides a result: settings, input files, networks, and how its prompt is written.

    `rate` is the video's rate in frames a second; None stands for that of `settings`. `own_facts` are the job's
    (`Job.own_facts`).
    """
    effective = effective_settings(interpolator, settings)
    # How many pairs share a pass follows from free memory, and changes a result no more than its last bits.
    effective.pop("pairs_per_batch", None)
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
    interpolator: Pipeline,
    settings: RunSettings,
    upsampler: UpsamplerSettings | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Return the record of a finished run; `facts` are the job's own, such as input, output, frames and seconds."""
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


def _named(settings: RunSettings) -> Any:
    noise = settings.sampling.condition_noise
    return (
        dataclasses.replace(settings.sampling, condition_noise="given by the caller")
        if callable(noise)
        else settings.sampling
    )


def networks(interpolator: Pipeline, *, upsamples: bool = False) -> dict[str, Any]:
    """Return the folder and the checksums of every network that takes part in a result."""
    upsampler = interpolator.prompt_upsampler if upsamples else None
    stages = (interpolator.denoiser, interpolator.codec, _text_network(interpolator), upsampler)
    converted_components = [stage.converted for stage in stages if stage is not None]
    converted_components += interpolator.guardrails.converted_components if interpolator.guardrails else []
    return {converted.component: _facts(converted) for converted in converted_components}


def _facts(converted: ConvertedComponent) -> dict[str, Any]:
    facts: dict[str, Any] = {"folder": converted.path.name, "sha256": converted.source_sha256}
    if converted.quantization != "none":
        facts["quantization"] = converted.quantization
    if converted.calibration is not None:
        facts["calibration"] = dict(converted.calibration)
    return facts | ({"lora": [adapter.facts for adapter in converted.adapters]} if converted.adapters else {})


def _text_network(interpolator: Pipeline) -> PromptNetwork | None:
    return interpolator.text_encoder.network if interpolator.text_encoder else None
