"""The settings of the prompt upsampler: its instruction, and how it answers. Imports no JAX."""

from dataclasses import dataclass

from jax_interp.errors import UsageError
from jax_interp.media.picture_tokens import TOKEN_NAMES
from jax_interp.models.sampling import Sampling
from jax_interp.pipeline.prompt.prompts import UPSAMPLER_INSTRUCTION

END = "</s>"
"""The name of the token that ends an answer."""


@dataclass(frozen=True, kw_only=True)
class UpsamplerSettings:
    """The upsampler's instruction and how it samples its answer; the default numbers are upstream's."""

    instruction: str = UPSAMPLER_INSTRUCTION
    max_new_tokens: int = 400
    temperature: float = 0.01
    """The sampling temperature; 0 takes the most probable token every time."""
    top_p: float = 0.9

    def __post_init__(self) -> None:
        """Raise `UsageError` for values that can never work."""
        if not self.instruction.strip():
            raise UsageError("--upsampler-instruction is empty; say what the prompt upsampler should write")
        if any(name in self.instruction for name in (*TOKEN_NAMES, END)):
            raise UsageError(
                f"--upsampler-instruction: {', '.join((*TOKEN_NAMES, END))} stand for the picture and the end, and"
                " must not be part of the text"
            )
        if self.max_new_tokens < 1:
            raise UsageError(f"--upsampler-tokens is {self.max_new_tokens}; expected 1 or more")
        try:
            Sampling(temperature=self.temperature, top_p=self.top_p)
        except ValueError as error:
            raise UsageError(f"the prompt upsampler: {error}") from error


DEFAULT_SETTINGS = UpsamplerSettings()
