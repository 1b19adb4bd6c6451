"""The request of a command that makes clips, from the groups of options that these commands share."""

from collections.abc import Callable
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
from jax_interp.pipeline.requests.batch import plain_name, read_batch
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

    def request(self, settings: Callable[[Rate], RunSettings]) -> GenerateRequest:
        """Return the request; `settings` makes the settings of a clip that is told this rate.

        Raises:
            UsageError: options cannot work, by themselves or together.
        """
        memory = self.memory.settings()
        self.source.check()
        request = GenerateRequest(
            devices=self.devices.devices(),
            processes=self.devices.processes(),
            networks=self._networks(),
            jobs=(self._job(settings),),
            memory=memory,
            guardrails=self.guardrails.wanted(self.networks.folders),
            upsampler_asked_for=bool(self.text.prompt_upsampler or self.networks.folders["prompt_upsampler"]),
        )
        if self.source.batch_input_path is not None:
            request = read_batch(self.source.batch_input_path, request)
        elif not request.processes.several:  # several processes find out together, so that none waits for the others
            from jax_interp.pipeline.requests.inputs import find_clip

            find_clip(request.jobs[0])
        return request

    def _networks(self) -> NetworkSettings:
        return NetworkSettings(
            checkpoint_dir=self.networks.checkpoint_dir,
            folders=self.networks.folders,
            quantization=self.networks.quantization,
            adapters=tuple(parse_strength(adapter) for adapter in self.networks.lora or ()),
            dtype=self.sampling.dtype,
            rotary_precision=self.sampling.rotary_precision,
            text_encoder_dtype=self.sampling.text_encoder_dtype,
            text_embeddings=self.text.text_embeddings,
            embedding_cache=self.text.embedding_cache,
        )

    def _job(self, settings: Callable[[Rate], RunSettings]) -> Job:
        """Return the job of the clip; in a batch it is the template of the lines' jobs."""
        rate = Rate.parse(self.sampling.fps)
        upsampler = self.text.chosen_upsampler(self.sampling.guidance)
        name = plain_name(self.output.video_save_name, "--video-save-name")
        return Job(
            inputs=tuple(self.source.input or ()),
            video=self.output.video_save_folder / f"{name}.mp4",
            upsampler=upsampler,
            frames_folder=self.output.save_frames,
            overwrite=self.output.overwrite,
            rate=rate.exact,
            settings=settings(rate),
        )
