"""The causal video tokenizer: 1 + 8n pixel frames <-> 1 + n latent frames at an eighth of the height and width."""

from jax_interp.models.video_tokenizer.model import VideoTokenizer

__all__ = ["VideoTokenizer"]
