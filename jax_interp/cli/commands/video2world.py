"""The command `jax-interp video2world`, which turns its options into a request and runs it."""

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
from jax_interp.pipeline.settings import Video2WorldSettings

_INPUT = Under(
    "Input",
    only=("input", "batch_input_path"),
    help={"input": "A picture, a video or a folder of pictures, whose last frames are continued."},
)
_GIVEN = Under("Input", only=("num_input_frames",), help={"num_input_frames": "Last frames to continue: 1 or 9."})
_TEXT = Under(
    "Text",
    help={
        "prompt": "What the video shows; without it the prompt upsampler writes it from the last frame.",
        "negative_prompt": 'What it should not; by default upstream\'s text. "" leaves guidance without effect.',
    },
)
_SAMPLING = Under(
    "Sampling",
    only=(
        *("guidance", "seed", "num_steps", "height", "width", "fps", "num_video_frames"),
        *("dtype", "rotary_precision", "text_encoder_dtype"),
    ),
    help={
        "guidance": "F = cond + g (cond - uncond) of the network's outputs. 0: only the prompt counts.",
        "seed": "Seed of the noise.",
        "num_steps": "Solver steps, each of two evaluations.",
        "num_video_frames": "Frames of the result, the given ones included: 8n + 1.",
    },
    defaults={"guidance": 7.0, "seed": 1, "num_video_frames": 121},
)
_MEMORY = Under(
    "Memory",
    only=(
        *("memory_budget", "placement", "resident_blocks", "offload_diffusion_transformer", "offload_tokenizer"),
        *("offload_text_encoder_model", "offload_prompt_upsampler", "offload_guardrail_models"),
    ),
)
_UPSTREAM = Under("For upstream's command lines", only=("benchmark",))


@with_options
def video2world(
    source: Annotated[InputOptions, _INPUT],
    given: Annotated[UpstreamOptions, _GIVEN],
    text: Annotated[TextOptions, _TEXT],
    sampling: Annotated[SamplingOptions, _SAMPLING],
    guardrails: Annotated[GuardrailOptions, Under("Guardrails")],
    output: Annotated[OutputOptions, Under("Output")],
    networks: Annotated[NetworkOptions, Under("Networks")],
    memory: Annotated[MemoryOptions, _MEMORY],
    devices: Annotated[DeviceOptions, Under("Several GPUs")],
    upstream: Annotated[UpstreamOptions, _UPSTREAM],
) -> None:
    """Continue a picture or the end of a clip (Video2World)."""
    output.reports.begin()
    settings = Video2WorldSettings(
        prompt=text.prompt or "",
        negative_prompt=text.negative_prompt,
        sampling=sampling.sample_settings(),
        num_input_frames=given.num_input_frames,
        height=sampling.height,
        width=sampling.width,
        num_video_frames=sampling.num_video_frames,
    )
    options = ClipOptions(source, text, sampling, guardrails, output, networks, memory, devices)
    request = options.request(settings)
    from jax_interp.cli.runs.generate import run

    run(request, show_seconds=upstream.benchmark)
