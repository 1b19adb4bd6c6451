"""Pixtral (Mistral AI, 2024): a language model and the picture encoder that writes into its prompt."""

from flax import nnx
from jax.typing import DTypeLike

from jax_interp.config import PixtralConfig, Quantization
from jax_interp.models.decoder_lm import DecoderLM
from jax_interp.models.pixtral_vision import PixtralVision


class Pixtral(nnx.Module):
    """The two networks of one checkpoint, under `language` and `vision`.

    They run one after the other, and in between the patches replace their tokens, so whoever runs them binds each by
    itself. They are converted together. `quantization` is that of the language model.
    """

    def __init__(self, config: PixtralConfig, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        self.config = config
        self.language = DecoderLM(config.text, dtype=dtype, rngs=rngs, quantization=quantization)
        self.vision = PixtralVision(config.vision, dtype=dtype, rngs=rngs)
