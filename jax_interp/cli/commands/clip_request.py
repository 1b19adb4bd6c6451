"""The request of a command that makes clips, from the groups of options that these commands share."""

from dataclasses import dataclass

from convert.lora.strength import parse_strength
from jax_interp.cli.options.clip import InputOptions, OutputOptions
from jax_interp.cli.options.devices import DeviceOptions
from jax_interp.cli.options.guardrails import GuardrailOptions
from jax_interp.cli.options.memory import MemoryOptions
from jax_interp.cli.options.networks import NetworkOptions
from jax_interp.cli.options.rate import Rate
from jax_interp.cli.options.sampling import SamplingOptions
from jax_interp.cli.options.text import TextOptions
from jax_interp.pipeline.requests.batch import plain_name, read_batch, result_suffix
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.requests.settings import NetworkSettings
from jax_interp.pipeline.settings import RunSettings


@dataclass(frozen=True)
class ClipOptions:
    """The groups of options of a command that makes clips."""

    source: InputOptions
    text: TextOptions
    sampling: SamplingOptions
    guardrails: GuardrailOptions
    output: OutputOptions
    networks: NetworkOptions
    memory: MemoryOptions
    devices: DeviceOptions

    def request(self, settings: RunSettings) -> GenerateRequest:
        """Return the request; `settings` are those of the clip.

        Raises:
            UsageError: options cannot work, by themselves or together.
        """
        memory = self.memory.settings()
        self.source.check()
        request = GenerateRequest(
            devices=self.devices.devices(),
            processes=self.devices.processes(),
            networks=network_settings(self.networks, self.sampling, self.text),
            jobs=(self._job(settings),),
            memory=memory,
            guardrails=self.guardrails.wanted(self.networks.folders),
            upsampler_asked_for=bool(self.text.prompt_upsampler or self.networks.folders["prompt_upsampler"]),
        )
        if self.source.batch_input_path is not None:
            request = read_batch(self.source.batch_input_path, request)
        elif not request.processes.several:  # several processes find out together, so that none waits for the others
            from jax_interp.pipeline.requests.inputs import count_parts

            count_parts(request.jobs[0])
        return request

    def _job(self, settings: RunSettings) -> Job:
        """Return the job of the clip; in a batch it is the template of the lines' jobs."""
        output, timeline = self.output, self.source.timeline
        suffix = result_suffix(output.video_save_name, output.encoding.codec)
        name = plain_name(output.video_save_name, "--video-save-name", suffix)
        return Job(
            inputs=tuple(self.source.input or ()),
            video=output.video_save_folder / f"{name}{suffix}",
            upsampler=self.text.chosen_upsampler(self.sampling.guidance),
            frames_folder=output.save_frames,
            overwrite=output.overwrite,
            rate=Rate.parse(self.sampling.fps).exact,
            encoding=output.encoding.settings(),
            timeline=timeline.timeline(),
            aspect=timeline.shape(),
            reading=timeline.reading(),
            audio=timeline.audio,
            settings=settings,
        )


def network_settings(networks: NetworkOptions, sampling: SamplingOptions, text: TextOptions) -> NetworkSettings:
    """Return the networks that these options choose, and their dtypes."""
    return NetworkSettings(
        checkpoint_dir=networks.checkpoint_dir,
        folders=networks.folders,
        quantization=networks.quantization,
        adapters=tuple(parse_strength(adapter) for adapter in networks.lora or ()),
        dtype=sampling.dtype,
        rotary_precision=sampling.rotary_precision,
        text_encoder_dtype=sampling.text_encoder_dtype,
        text_embeddings=text.text_embeddings,
        embedding_cache=text.embedding_cache,
    )
