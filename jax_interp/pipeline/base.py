"""What both pipelines share: their networks, opened and placed, texts as embeddings, and prompts that are written."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.components import TransformerType
from jax_interp.config import Precision, Quantization
from jax_interp.diffusion.branches import Branch
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.pipeline.across_processes import SharedCache
from jax_interp.pipeline.memory.networks import Networks, Placed
from jax_interp.pipeline.memory.plan import Planner
from jax_interp.pipeline.one_at_a_time import one_at_a_time
from jax_interp.pipeline.prompt.prompt_upsampler import PromptUpsampler
from jax_interp.pipeline.prompt.text import TextEncoder, open_text_encoder
from jax_interp.pipeline.prompt.upsampler_settings import DEFAULT_SETTINGS, UpsamplerSettings
from jax_interp.pipeline.results import InterpolatedPair, PairProgress
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.pipeline.stages.offloading import offloading
from jax_interp.pipeline.timings import timed
from jax_interp.runtime.checkpoint.adapters import Adapter
from jax_interp.runtime.checkpoint.finding import find_component, find_transformer
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import ALONE, MeshShape
from jax_interp.runtime.placement import Kind, Placement
from jax_interp.types import Latents


class Pipeline(ABC):
    """The networks of a pipeline, which load when first used and stay loaded until `unload`.

    `timings` sums the seconds of each stage, compilation included. Calls from several threads run one after the other;
    of results of `stream`, one thread at a time may ask for the next.
    """

    TRANSFORMER: ClassVar[TransformerType]
    """What the diffusion transformer of the pipeline was trained for."""

    def __init__(
        self,
        denoiser: Denoiser,
        codec: Codec,
        text_encoder: TextEncoder | None,
        prompt_upsampler: PromptUpsampler | None = None,
        guardrails: Guardrails | None = None,
    ):
        self.denoiser = denoiser
        self.codec = codec
        self.text_encoder = text_encoder
        self.prompt_upsampler = prompt_upsampler
        self.guardrails = guardrails
        self.timings: dict[str, float] = {}
        self.in_use = threading.RLock()

    @property
    def devices(self) -> DeviceMesh:
        """The mesh of devices that the networks run on, except the guardrails, which run on one device."""
        return self.denoiser.devices

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dtype: Precision = "bfloat16",
        rotary_precision: Precision | None = None,
        text_encoder_dtype: Precision = "float32",
        diffusion_transformer_dir: str | None = None,
        tokenizer_dir: str | None = None,
        text_encoder_dir: str | None = None,
        prompt_upsampler: bool = False,
        prompt_upsampler_dir: str | None = None,
        guardrails: Guardrails | bool = False,
        text_embeddings: str | Path | None = None,
        embedding_cache: str | Path | bool = True,
        mesh: MeshShape | str = ALONE,
        adapters: Sequence[Adapter] = (),
        quantization: Quantization | None = None,
    ) -> Self:
        """Open a folder that `jax-interp convert` made; no parameters are read yet.

        The transformer and the tokenizer compute in `dtype`; the text encoder computes in float32 unless told
        otherwise, as upstream does. `rotary_precision` defaults to `dtype`, which reproduces upstream. The `*_dir`
        names choose among several converted networks of one kind. `prompt_upsampler` opens that network too, which
        `upsample_prompt` needs. With `guardrails` prompts and frames are checked and faces pixelated. Without them,
        which is the default here but not of the command line, checking is up to the caller. True opens those in
        `folder`, and all have to be there; `Guardrails.open` is for those that are elsewhere. `text_embeddings` is a
        file of `save_embeddings`, whose texts need no text encoder. `embedding_cache` is the folder that keeps encoded
        prompts: True stands for the default one in the user's cache folder, False for none. `mesh` says over how many
        devices to spread, as `MeshShape(sequence=4)` or "sequence=4"; see `runtime.mesh_shape`. `adapters` of the
        transformer (`convert.lora.reading.read_adapters`) are merged into its weights as they are read. `quantization`
        is "int8" or "int8-rotated" for networks in 8 bits (docs/quantization.md) and "none" for full ones; None takes
        each network as it is stored. `guardrails` that were opened before have their own.

        These are keyword arguments because a notebook completes and shows them.

        Raises:
            CheckpointError: the folder or one of its networks is missing, unconverted or incomplete, or its transformer
                was trained for another pipeline.
            UsageError: `dtype` is neither "bfloat16" nor "float32", `mesh` does not suit the networks or machine, or
                `quantization` is another one than that in which a network is stored in 8 bits.
            Blocked: `guardrails` is True, and one of them is missing or cannot be used; the message says what to do.
        """
        for name, value in (("dtype", dtype), ("text_encoder_dtype", text_encoder_dtype)):
            if value not in ("bfloat16", "float32"):
                raise UsageError(f"{name} is {value!r}; expected 'bfloat16' or 'float32'")
        if quantization not in (None, *get_args(Quantization)):
            raise UsageError(
                f"quantization is {quantization!r}; expected 'none', 'int8', 'int8-rotated' or 'int8-smoothed'"
            )
        root = Path(folder)
        devices = DeviceMesh(MeshShape.parse(mesh) if isinstance(mesh, str) else mesh)
        converted = find_transformer(root, cls.TRANSFORMER, diffusion_transformer_dir).quantized(quantization)
        denoiser = Denoiser(replace(converted, adapters=tuple(adapters)), dtype, rotary_precision, devices)
        codec = Codec(find_component(root, "tokenizer", tokenizer_dir), dtype, devices)
        cache = SharedCache(None if embedding_cache is True else Path(embedding_cache)) if embedding_cache else None
        text = open_text_encoder(
            root, text_encoder_dir, text_encoder_dtype, devices, text_embeddings, cache, quantization=quantization
        )
        pixtral = find_component(root, "prompt_upsampler", prompt_upsampler_dir) if prompt_upsampler else None
        upsampler = PromptUpsampler(pixtral.quantized(quantization), dtype, devices) if pixtral else None
        guard = Guardrails.open(root, quantization=quantization) if guardrails is True else guardrails or None
        if guard is not None and guardrails is True:
            guard.require_ready(f"opening {root}")
        return cls(denoiser, codec, text, upsampler, guard)

    @abstractmethod
    def check_settings(self, settings: Any) -> None:
        """Raise `UsageError` if these networks cannot take the sizes in `settings`, which are of this pipeline."""

    @abstractmethod
    def stream(
        self, parts: Iterable[Any], settings: Any, progress: PairProgress | None = None
    ) -> Iterator[InterpolatedPair]:
        """Yield the result of each of `parts`, as the pipeline takes them; the one door to the guardrails."""

    @one_at_a_time
    def upsample_prompt(
        self,
        picture: UInt8[np.ndarray, "Y X 3"],
        settings: UpsamplerSettings = DEFAULT_SETTINGS,
        seed: int = 11,
        progress: Callable[[int], None] | None = None,
        *,
        run: RunSettings | None = None,
    ) -> str:
        """Return a prompt for a clip whose last frame is `picture` (RGB), written by the prompt upsampler.

        The words are the most probable ones, but for a draw among near equals, which `seed` decides. `progress` is
        called with the number of tokens written so far, of at most `settings.max_new_tokens`. `run` says what the
        prompt is for: if memory runs out, the advice is about a run with these settings, by default about one at
        704×1280.

        Raises:
            CheckpointError: the upsampler was not opened (`from_pretrained(..., prompt_upsampler=True)`).
            OutOfMemory: the upsampler does not fit; the message says what would.
            JaxInterpError: under the conditions of `pipeline.prompt.prompt_upsampler.PromptUpsampler.upsample`.
        """
        if self.prompt_upsampler is None:
            raise CheckpointError("the prompt upsampler was not opened: from_pretrained(..., prompt_upsampler=True)")
        with self._stage("upsample", run or InterpolationSettings()):
            return self.prompt_upsampler.upsample(picture, settings, seed=seed, progress=progress)

    @one_at_a_time
    def encode_text(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n S D"]:
        """Return the T5 embeddings of `texts`, float32, padded with zeros to 512 tokens.

        Raises:
            CheckpointError: there is no converted text encoder, and no file of embeddings was given.
        """
        if self.text_encoder is None:
            raise CheckpointError(
                f"{self.codec.converted.path.parent}: has no converted text encoder; convert one (`jax-interp convert"
                " --components text_encoder` with the folders of the first time), or give embeddings"
                " (`text_embeddings=`, --text-embeddings)"
            )
        return self.text_encoder.encode([texts] if isinstance(texts, str) else texts)

    @one_at_a_time
    def denoise_net(
        self,
        x: Latents,
        c_noise: Float[Array, " B"],
        text: Float[Array, "B S D"],
        mask: Float[Array, "B T H W 1"],
        fps: float | Float[Array, " B"] = 24,
        *,
        padding_mask: Float[Array, "B T H W 1"] | None = None,
    ) -> Latents:
        """Evaluate the bare transformer once, in its dtype.

        `x` are latents already scaled by c_in, `c_noise` is ln(sigma)/4, `mask` is 1 on conditioned frames; a mask
        may lack its last axis. `fps` is one rate for the batch (of several, the first counts, as upstream).
        """
        x, c_noise, text, mask = map(jnp.asarray, (x, c_noise, text, mask))
        padding = jnp.zeros(mask.shape, mask.dtype) if padding_mask is None else jnp.asarray(padding_mask)
        mask, padding = (each.reshape(*x.shape[:4], 1) for each in (mask, padding))
        return self.denoiser.net(x, c_noise, text, mask, padding, float(np.asarray(fps).reshape(-1)[0]))

    def planner(self, settings: RunSettings) -> Planner:
        """Return a planner: it predicts the memory of runs with `settings` and finds placements that fit a budget."""
        return self._networks.planner(settings)

    @one_at_a_time
    def place(self, placements: Mapping[str, Placement | Kind]) -> None:
        """Use `placements` from now on; networks that are not named keep theirs.

        Names are those of `components.PLACEMENT_NAMES`; "streamed" is short for `Placement("streamed")`. Networks whose
        placement changes are loaded again.

        Raises:
            UsageError: a name is unknown.
            OutOfMemory: the host has too little memory for the parameters that would wait there.
        """
        self._networks.place(placements)

    @property
    def placements(self) -> dict[str, Placement]:
        """The placement of every network; see `place`."""
        return self._networks.placements

    @property
    def _networks(self) -> Networks:
        text = self.text_encoder.network if self.text_encoder is not None else None
        placed: list[Placed | None] = [self.prompt_upsampler, self.guardrails, text, self.codec, self.denoiser]
        return Networks((each for each in placed if each is not None), self.devices)

    @one_at_a_time
    def unload(self) -> None:
        """Free the memory of all networks; the next use loads them again."""
        self._networks.unload()

    def _embeddings(self, texts: Mapping[Branch, str], settings: RunSettings) -> dict[Branch, Array]:
        """Return the embeddings [1, S, D] of `texts`, and end the stage of the text encoder."""
        with offloading(self.text_encoder), self._stage("text", settings):
            rows = dict(zip(texts, self.encode_text(list(texts.values())), strict=True)) if texts else {}
        return {branch: jnp.asarray(row)[None] for branch, row in rows.items()}

    @contextmanager
    def _stage(self, name: str, settings: RunSettings) -> Iterator[None]:
        """Add the seconds of the stage `name` to `timings`; if memory runs out in it, say what would fit."""
        with timed(self.timings, name), self._networks.explain_out_of_memory(name, settings):
            yield
