"""The prompt upsampler: Pixtral-12B looks at a frame and writes a prompt."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from jax_interp.components import TABLE
from jax_interp.config import PixtralVisionConfig, Precision
from jax_interp.errors import CheckpointError, JaxInterpError
from jax_interp.media.picture_tokens import TOKEN_NAMES, PictureTokens
from jax_interp.media.pictures.pixtral_image import expand_pictures, picture_patch_grid, prepare_picture
from jax_interp.media.source import Picture
from jax_interp.models.pixtral_vision import PixtralVision
from jax_interp.models.sampling import Sampling
from jax_interp.pipeline.prompt.text_tokenizer import load_tokenizer, tokenizer_path
from jax_interp.pipeline.prompt.upsampler_settings import DEFAULT_SETTINGS, END, UpsamplerSettings
from jax_interp.pipeline.stages.encoder import EncoderStage
from jax_interp.pipeline.stages.language_model import PREFILL_BYTES, LanguageModel
from jax_interp.pipeline.stages.offloading import offloading
from jax_interp.pipeline.stages.stage import StackedStage
from jax_interp.pipeline.stages.workload import PICTURE_PATCHES, Workload
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.placement import Placement

START, STOP = ("<s>", "[INST]"), ("[/INST]",)
"""The tokens before and after a request, by name."""


class PictureEncoder(EncoderStage[PixtralVision]):
    """Pixtral's picture encoder; it is compiled anew for every shape of a picture."""

    NETWORK = PixtralVision
    KEEP_ON_HOST = ()  # a run looks at one picture

    @classmethod
    def activations(cls, config: PixtralVisionConfig, size: int, workload: Workload) -> int:
        """For each patch: the residual stream, queries, keys, values, attention output and the MLP's hidden units."""
        inner = config.num_heads * config.head_width
        each = PICTURE_PATCHES * (2 * config.width + 4 * inner + PREFILL_BYTES * config.mlp_width // 2)
        return size * each + PICTURE_PATCHES * 3 * config.text_width * size

    def encode(self, pixels: Float[np.ndarray, "Y X 3"]) -> Float[np.ndarray, "P D"]:
        """Return what the language model reads for each patch of a picture that `prepare_picture` made."""
        return self.forward(pixels[None])[0]


class PromptUpsampler:
    """Both networks of Pixtral, which run one after the other and share one placement."""

    def __init__(self, converted: ConvertedComponent, precision: Precision, devices: DeviceMesh | None = None):
        self.converted = converted
        self.config: Any = converted.config
        self.pictures = PictureEncoder(converted.part("vision", converted.config.vision), precision, devices)
        self.language = LanguageModel(converted.part("language", converted.config.text), precision, devices)

    @property
    def placed_as(self) -> str:
        """The name by which both are placed, one of `components.PLACEMENT_NAMES`."""
        return TABLE[self.converted.component].placed_as

    @property
    def networks(self) -> dict[str, StackedStage[Any]]:
        """Both networks by name."""
        return {"pictures": self.pictures, "language": self.language}

    @property
    def placement(self) -> Placement:
        """The placement of the language model."""
        return self.language.placement

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next stage on; its resident blocks are those of the language model."""
        self.language.place(placement)
        self.pictures.place(Placement(placement.kind))

    def upsample(
        self,
        picture: Picture,
        settings: UpsamplerSettings = DEFAULT_SETTINGS,
        *,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> str:
        """Return a prompt for a clip that ends with `picture`, uint8 [Y, X, 3]; afterwards offload the networks.

        `progress` is called with the number of tokens written so far.

        Raises:
            MediaError: the picture is empty or too elongated.
            UsageError: the instruction is longer than the model's context.
            CheckpointError: weights or tokenizer are missing, damaged or do not belong together.
            JaxInterpError: the model returned no text, or values that are not numbers.
        """
        ids = np.asarray(self.prompt_ids(picture, settings.instruction), np.int32)
        self.language.check_length(len(ids), settings.max_new_tokens)
        with offloading(self):
            patches = self.pictures.encode(prepare_picture(picture, self.config.vision))
            self.pictures.offload()
            prompt = self.language.embed(ids)
            prompt[ids == self._picture_tokens.patch] = patches.astype(prompt.dtype)
            answer = self.language.answer(
                prompt,
                max_new_tokens=settings.max_new_tokens,
                stop=[self._end],
                sampling=Sampling(temperature=settings.temperature, top_p=settings.top_p),
                seed=seed,
                progress=progress,
            )
        text = " ".join(self._tokenizer.decode(answer, skip_special_tokens=True).split())
        if not text:
            raise JaxInterpError(
                f"{self.converted.path}: the prompt upsampler wrote nothing; give a --prompt, or another"
                " --upsampler-instruction"
            )
        return text

    def prompt_ids(self, picture: Picture, instruction: str) -> list[int]:
        """Return the tokens of the language model's prompt: the picture, then the instruction."""
        start, stop = [self._token(name) for name in START], [self._token(name) for name in STOP]
        words = self._tokenizer(instruction, add_special_tokens=False)["input_ids"]
        grid = picture_patch_grid(picture.shape[0], picture.shape[1], self.config.vision)
        return expand_pictures([*start, self._picture_tokens.patch, *words, *stop], [grid], self._picture_tokens)

    def offload(self) -> None:
        """End the stage: parameters that are not resident leave the device."""
        self.pictures.offload()
        self.language.offload()

    def unload(self) -> None:
        """Free the parameters' memory."""
        self.pictures.unload()
        self.language.unload()

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(tokenizer_path(self.converted), self.config.text.vocab_size, self.converted.component)

    @cached_property
    def _picture_tokens(self) -> PictureTokens[int]:
        return PictureTokens(*map(self._token, TOKEN_NAMES))

    @cached_property
    def _end(self) -> int:
        return self._token(END)

    def _token(self, name: str) -> int:
        number = self._tokenizer.get_vocab().get(name)
        if number is None:
            raise CheckpointError(
                f"{self.converted.path}: its tokenizer has no token {name}, so it is not Pixtral's; convert the"
                " prompt_upsampler again with the tokenizer.json of mistral-community/pixtral-12b beside the weights"
            )
        return number
