"""The command `jax-interp generate`, which turns its options into a request and runs it."""

from typing import Annotated

from convert.lora.strength import parse_strength
from jax_interp.cli.options.clip import InputOptions, OutputOptions, UpstreamOptions
from jax_interp.cli.options.devices import DeviceOptions
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.guardrails import GuardrailOptions
from jax_interp.cli.options.memory import MemoryOptions
from jax_interp.cli.options.networks import NetworkOptions
from jax_interp.cli.options.rate import Rate
from jax_interp.cli.options.sampling import SamplingOptions
from jax_interp.cli.options.text import TextOptions
from jax_interp.pipeline.requests.batch import plain_name, read_batch, result_suffix
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.requests.settings import NetworkSettings
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
    memory_settings = memory.settings()
    source.check()
    upstream.check()
    request = GenerateRequest(
        devices=devices.devices(),
        processes=devices.processes(),
        networks=network_settings(networks, sampling, text),
        jobs=(_job(source, text, sampling, output),),
        memory=memory_settings,
        guardrails=guardrails.wanted(networks.folders),
        upsampler_asked_for=bool(text.prompt_upsampler or networks.folders["prompt_upsampler"]),
    )
    if source.batch_input_path is not None:
        request = read_batch(source.batch_input_path, request)
    from jax_interp.cli.runs.generate import run

    run(request, show_seconds=upstream.benchmark)


def network_settings(networks: NetworkOptions, sampling: SamplingOptions, text: TextOptions) -> NetworkSettings:
    """Return the networks that these options choose, and their dtypes."""
    return NetworkSettings(
        checkpoint_dir=networks.checkpoint_dir,
        folders=networks.folders,
        adapters=tuple(parse_strength(adapter) for adapter in networks.lora or ()),
        dtype=sampling.dtype,
        rotary_precision=sampling.rotary_precision,
        text_encoder_dtype=sampling.text_encoder_dtype,
        text_embeddings=text.text_embeddings,
        embedding_cache=text.embedding_cache,
    )


def _job(source: InputOptions, text: TextOptions, sampling: SamplingOptions, output: OutputOptions) -> Job:
    """Return the job of the clip; in a batch it is the template of the lines' jobs."""
    rate = Rate.parse(sampling.fps)
    upsampler = text.chosen_upsampler(sampling.guidance)
    suffix = result_suffix(output.video_save_name, output.encoding.codec)
    name = plain_name(output.video_save_name, "--video-save-name", suffix)
    return Job(
        inputs=tuple(source.input or ()),
        video=output.video_save_folder / f"{name}{suffix}",
        upsampler=upsampler,
        frames_folder=output.save_frames,
        overwrite=output.overwrite,
        rate=rate.exact,
        encoding=output.encoding.settings(),
        timeline=source.timeline.timeline(),
        aspect=source.timeline.shape(),
        reading=source.timeline.reading(),
        audio=source.timeline.audio,
        settings=InterpolationSettings(
            prompt=text.prompt or "",
            negative_prompt=text.negative_prompt,
            sampling=sampling.sample_settings(),
            num_frame_pairs=source.num_frame_pairs,
            frame_stride=source.frame_stride,
            frame_index_start=source.frame_index_start,
            height=sampling.height,
            width=sampling.width,
            num_video_frames=sampling.num_video_frames,
        ),
    )
