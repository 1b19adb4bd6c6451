"""The options for texts: those that are given, and whether and how others are written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jax_interp.diffusion.branches import Branch, branches
from jax_interp.errors import UsageError
from jax_interp.pipeline.prompt.upsampler_settings import DEFAULT_SETTINGS, UpsamplerSettings


@dataclass(frozen=True)
class TextOptions:
    """The options for the prompt, the negative prompt and their source."""

    prompt: Annotated[
        str | None,
        typer.Option(
            help="What the video shows; without it the prompt upsampler writes it from the last frame. Counts only"
            " with --guidance other than -1."
        ),
    ] = None
    prompt_upsampler: Annotated[
        bool | None,
        typer.Option(
            "--prompt-upsampler/--disable-prompt-upsampler",
            help="Run it even where the prompt does not count, or not at all: then no --prompt is the empty text.",
            show_default="where the prompt counts and none is given",
        ),
    ] = None
    upsampler_instruction: Annotated[
        str | None, typer.Option(help="What it is asked to write, in place of its own words.")
    ] = None
    upsampler_tokens: Annotated[int, typer.Option(help="Tokens that it writes at most.")] = 400
    negative_prompt: Annotated[
        str | None, typer.Option(help='What it should not; by default upstream\'s text, "" for none.')
    ] = None
    text_embeddings: Annotated[
        Path | None, typer.Option(help="File of precomputed embeddings; replaces the text encoder.")
    ] = None
    embedding_cache: Annotated[bool, typer.Option(help="Keep encoded prompts in the user's cache folder.")] = True

    def upsampler(self) -> UpsamplerSettings:
        """Return the settings of the prompt upsampler; without an instruction, the default one is used."""
        own = self.upsampler_instruction
        return UpsamplerSettings(
            instruction=DEFAULT_SETTINGS.instruction if own is None else own, max_new_tokens=self.upsampler_tokens
        )

    def chosen_upsampler(self, guidance: float) -> UpsamplerSettings | None:
        """Return how prompts that are not given are written; None leaves them empty."""
        if self.prompt_upsampler and self.prompt is not None:
            raise UsageError("--prompt and --prompt-upsampler: give one of them")
        settings = self.upsampler()
        if self.prompt_upsampler is False or self.prompt is not None:
            return None
        prompt_counts = Branch.CONDITIONAL in branches(guidance)
        return settings if self.prompt_upsampler or prompt_counts else None
