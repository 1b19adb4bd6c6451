"""The command `jax-interp generate`, which turns its options into a request and runs it."""

from typing import Annotated

from jax_interp.cli.commands.clip_request import ClipOptions
from jax_interp.cli.options.clip import InputOptions, OutputOptions, UpstreamOptions
from jax_interp.cli.options.devices import DeviceOptions
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.guardrails import GuardrailOptions
from jax_interp.cli.options.memory import MemoryOptions
from jax_interp.cli.options.networks import NetworkOptions
from jax_interp.cli.options.sampling import SamplingOptions
from jax_interp.cli.options.text import TextOptions
from jax_interp.pipeline.settings import InterpolationSettings


@with_options
def generate(
    source: Annotated[InputOptions, Under("Input")],
    text: Annotated[TextOptions, Under("Text")],
    sampling: Annotated[SamplingOptions, Under("Sampling")],
    guardrails: Annotated[GuardrailOptions, Under("Guardrails")],
    output: Annotated[OutputOptions, Under("Output")],
    networks: Annotated[NetworkOptions, Under("Networks")],
    memory: Annotated[MemoryOptions, Under("Memory")],
    devices: Annotated[DeviceOptions, Under("Several GPUs")],
    upstream: Annotated[UpstreamOptions, Under("For upstream's command lines")],
) -> None:
    """Interpolate between the frames of a clip, or between pictures."""
    output.reports.begin()
    upstream.check()
    settings = InterpolationSettings(
        prompt=text.prompt or "",
        negative_prompt=text.negative_prompt,
        sampling=sampling.sample_settings(),
        num_frame_pairs=source.num_frame_pairs,
        frame_stride=source.frame_stride,
        frame_index_start=source.frame_index_start,
        height=sampling.height,
        width=sampling.width,
        num_video_frames=sampling.num_video_frames,
    )
    options = ClipOptions(source, text, sampling, guardrails, output, networks, memory, devices)
    request = options.request(settings)
    from jax_interp.cli.runs.generate import run

    run(request, show_seconds=upstream.benchmark)
