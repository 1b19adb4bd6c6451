"""The causal video tokenizer: 1 + 8n pixel frames <-> 1 + n latent frames at an eighth of the height and width."""

from jax_interp.models.tokenizer.model import Tokenizer

__all__ = ["Tokenizer"]
