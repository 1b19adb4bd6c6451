"""The options for sampling: sizes, steps and dtypes."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from jax_interp.cli.options.rate import Rate
from jax_interp.config import Precision
from jax_interp.diffusion.settings import SampleSettings


@dataclass(frozen=True)
class SamplingOptions:
    """The options for what the networks compute, and for their dtypes."""

    guidance: Annotated[
        float,
        typer.Option(
            help="x0 = cond + g (cond - uncond). -1, upstream's effective value: only the negative prompt counts."
            " 0: only the prompt counts."
        ),
    ] = -1.0
    seed: Annotated[int, typer.Option(help="Seed of the initial noise.")] = 11
    num_steps: Annotated[int, typer.Option(help="Solver steps.")] = 35
    condition_noise: Annotated[
        Literal["fixed", "random"],
        typer.Option(
            help="Noise on the known frames: fixed is deterministic, random is what upstream shipped (here seeded)."
        ),
    ] = "fixed"
    height: Annotated[int, typer.Option(help="Height at which the network works, a multiple of 16.")] = 704
    width: Annotated[int, typer.Option(help="Width at which the network works, a multiple of 16.")] = 1280
    fps: Annotated[
        str,
        typer.Option(
            help="Frames a second of the output, which the network is told too: 24, 23.976 or 24000/1001. With"
            " another option that sets the output's rate, those of an input of pictures, which have none of their own."
        ),
    ] = "24"
    num_video_frames: Annotated[int, typer.Option(help="Frames of one pair, both ends included: 8n + 2.")] = 10
    dtype: Annotated[Precision, typer.Option(help="What transformer and tokenizer compute in.")] = "bfloat16"
    rotary_precision: Annotated[
        Precision | None, typer.Option(help="Accuracy of the rotary tables; by default --dtype, as upstream.")
    ] = None
    text_encoder_dtype: Annotated[Precision, typer.Option(help="What the text encoder computes in.")] = "float32"

    def sample_settings(self) -> SampleSettings:
        """Return the settings of the sampler; raises `UsageError` for a rate that is none."""
        rate = Rate.parse(self.fps)
        return SampleSettings(self.guidance, self.seed, self.num_steps, rate.value, self.condition_noise)
