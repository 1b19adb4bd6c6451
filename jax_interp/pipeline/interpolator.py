"""The whole pipeline as one class: it takes frames and returns the frames between them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.config import Precision
from jax_interp.diffusion.branches import Branch
from jax_interp.diffusion.settings import ConditionNoise, SampleSettings
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.media.output_rate import exact_rate
from jax_interp.media.pairs import iterate_pairs, num_pairs
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.reader import open_frames
from jax_interp.media.shape import Aspect
from jax_interp.media.source import check_clip_array
from jax_interp.media.timeline.settings import Timeline
from jax_interp.pipeline.across_processes import SharedCache, check_prompts
from jax_interp.pipeline.memory.networks import Networks, Placed
from jax_interp.pipeline.memory.plan import Planner
from jax_interp.pipeline.passes import NumberedPair, PassRunner
from jax_interp.pipeline.planned_clip import InterpolatedClip, interpolated, plan_for
from jax_interp.pipeline.prompt.prompt_upsampler import PromptUpsampler
from jax_interp.pipeline.prompt.steering import texts_read
from jax_interp.pipeline.prompt.text import TextEncoder, open_text_encoder
from jax_interp.pipeline.prompt.upsampler_settings import DEFAULT_SETTINGS, UpsamplerSettings
from jax_interp.pipeline.results import InterpolatedPair, Interpolation, PairProgress
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.pipeline.stages.geometry import latent_shape
from jax_interp.pipeline.timings import timed
from jax_interp.runtime.checkpoint.adapters import Adapter
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import ALONE, MeshShape
from jax_interp.runtime.placement import Kind, Placement
from jax_interp.types import Latents


class Interpolator:
    """Generates the frames between given frames (Cosmos-Predict1 WorldInterpolator).

    ```python
    interpolator = Interpolator.from_pretrained("converted")
    result = interpolator.interpolate(frames)      # uint8 [F, Y, X, 3]
    imageio.v3.imwrite("slow.mp4", result.frames, fps=24, codec="libx264")
    ```

    Guardrails, where there are any, are applied by `stream`, and so by `interpolate`. The single steps (`encode_text`,
    `encode_pair`, `sample`, `decode`) apply none: a program that combines them itself checks what it shows.

    Networks load when first used and stay loaded until `unload`. `timings` sums the seconds of each stage, compilation
    included.
    """

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
    ) -> "Interpolator":
        """Open a folder that `jax-interp convert` made; no parameters are read yet.

        The transformer and the tokenizer compute in `dtype`; the text encoder computes in float32 unless told
        otherwise, as upstream does. `rotary_precision` defaults to `dtype`, which reproduces upstream. The `*_dir`
        names choose among several converted networks of one kind. `prompt_upsampler` opens that network too, which
        `upsample_prompt` needs. With `guardrails` prompts and frames are checked and faces pixelated. Without them,
        which is the default here but not of the command line, checking is up to the caller. `text_embeddings` is a file
        of `save_embeddings`, whose texts need no text encoder. `embedding_cache` is the folder that keeps encoded
        prompts: True stands for the default one in the user's cache folder, False for none. `mesh` says over how many
        devices to spread, as `MeshShape(sequence=4)` or "sequence=4"; see `runtime.mesh_shape`. `adapters` of the
        transformer (`convert.lora.reading.read_adapters`) are merged into its weights as they are read.

        These are keyword arguments, and so are those of `interpolate`, because a notebook completes and shows them; a
        program that passes settings around gives an `InterpolationSettings` to `stream`.

        Raises:
            CheckpointError: the folder or one of its networks is missing, unconverted or incomplete.
            UsageError: `dtype` is neither "bfloat16" nor "float32", or `mesh` does not suit the networks or machine.
        """
        for name, value in (("dtype", dtype), ("text_encoder_dtype", text_encoder_dtype)):
            if value not in ("bfloat16", "float32"):
                raise UsageError(f"{name} is {value!r}; expected 'bfloat16' or 'float32'")
        root = Path(folder)
        devices = DeviceMesh(MeshShape.parse(mesh) if isinstance(mesh, str) else mesh)
        converted = find_component(root, "diffusion_transformer", diffusion_transformer_dir)
        denoiser = Denoiser(replace(converted, adapters=tuple(adapters)), dtype, rotary_precision, devices)
        codec = Codec(find_component(root, "tokenizer", tokenizer_dir), dtype, devices)
        cache = SharedCache(None if embedding_cache is True else Path(embedding_cache)) if embedding_cache else None
        text = open_text_encoder(root, text_encoder_dir, text_encoder_dtype, devices, text_embeddings, cache)
        pixtral = find_component(root, "prompt_upsampler", prompt_upsampler_dir) if prompt_upsampler else None
        upsampler = PromptUpsampler(pixtral, dtype, devices) if pixtral else None
        guard = Guardrails.open(root) if guardrails is True else guardrails or None
        return cls(denoiser, codec, text, upsampler, guard)

    def interpolate(
        self,
        frames: UInt8[np.ndarray, "F Y X 3"],
        prompt: str = "",
        negative_prompt: str | None = None,
        guidance: float = -1.0,
        seed: int = 11,
        num_steps: int = 35,
        num_frame_pairs: int | None = None,
        frame_stride: int = 1,
        frame_index_start: int = 0,
        fps: float = 24,
        height: int = 704,
        width: int = 1280,
        *,
        num_video_frames: int = 10,
        condition_noise: ConditionNoise = "fixed",
        pairs_per_batch: int = 1,
    ) -> Interpolation:
        """Interpolate between `frames` (uint8 RGB) taken `frame_stride` apart, at `height`×`width`.

        Pair k lies between frames `frame_index_start + k·frame_stride` and the one `frame_stride` later; P pairs give
        9P + 1 frames. Frames are resized, without keeping their aspect ratio, as upstream does.

        `guidance` combines the two predictions as `cond + guidance·(cond - uncond)`: at -1, upstream's effective value
        and the default, only the negative prompt counts and `prompt` cannot change the result; at 0 only `prompt`
        counts. `negative_prompt=None` is upstream's default text, `""` the all-zero embedding. `fps` is the rate that
        the network is told. `condition_noise` is described at `diffusion.settings.ConditionNoise`.

        Raises:
            UsageError: an argument cannot work; the message says what could.
            Blocked: the guardrails, if there are any, do not let prompt or frames pass.

        Guardrails change frames alone: latents, decoded, show faces. Of several processes the first one gets the frames
        that may be shown, the others black ones.
        """
        frames = check_clip_array(frames)
        settings = InterpolationSettings(
            prompt=prompt,
            negative_prompt=negative_prompt,
            sampling=SampleSettings(guidance, seed, num_steps, fps, condition_noise),
            num_frame_pairs=num_frame_pairs,
            frame_stride=frame_stride,
            frame_index_start=frame_index_start,
            height=height,
            width=width,
            num_video_frames=num_video_frames,
            pairs_per_batch=pairs_per_batch,
        )
        count = num_pairs(len(frames), frame_stride, frame_index_start, num_frame_pairs)
        return Interpolation.of(self.stream(iterate_pairs(frames, frame_stride, frame_index_start, count), settings))

    def interpolate_clip(
        self,
        inputs: str | Path | Sequence[str | Path],
        timeline: Timeline,
        settings: InterpolationSettings | None = None,
        *,
        aspect: Aspect | None = None,
        reading: ReadSettings | None = None,
        progress: PairProgress | None = None,
    ) -> InterpolatedClip:
        """Interpolate a video, a folder of pictures or pictures as `timeline` asks; frames come as they are asked for.

        `settings` are those of pairs, and say which frames of the input are used. Where pictures keep their shape,
        which they do unless `timeline` has upstream's pace, or `aspect` says otherwise, the network's size is the
        nearest of upstream's, if `settings` have the default size. `fps` of the settings is what the network is told,
        and the rate of pictures, which have none. Sound is not read: `jax_interp.generate` carries it over.

        Raises:
            UsageError, MediaError: the input is not there, or something does not suit it; nothing is loaded before.
            Blocked: the guardrails, if there are any, do not let the texts pass, or, later, the frames.
        """
        paths = [inputs] if isinstance(inputs, str | Path) else inputs
        source = open_frames([Path(path) for path in paths], reading or ReadSettings())
        settings = settings or InterpolationSettings()
        planned = plan_for(source, settings, timeline, aspect, exact_rate(settings.sampling.fps))
        self.check_size(planned.settings.height, planned.settings.width, planned.settings.num_video_frames)
        return interpolated(planned, lambda pairs: self.stream(pairs, planned.settings, progress))

    def stream(
        self,
        pairs: Iterable[NumberedPair],
        settings: InterpolationSettings,
        progress: PairProgress | None = None,
    ) -> Iterator[InterpolatedPair]:
        """Interpolate pair after pair of `(number, first frame, last frame)`, holding one batch at a time.

        Where the last frame is None, the first one comes back alone, resized, and checked by the guardrails.

        Sizes and texts are checked when it is called, everything else happens as the results are asked for. This is
        the one door to the guardrails: `interpolate` and the command line go through it.

        Raises:
            UsageError: these networks cannot take the size.
            Blocked: the guardrails, if there are any, do not let the texts pass, or, later, the frames.
            OutOfMemory: a stage does not fit; the message says what would.
        """
        self.check_size(settings.height, settings.width, settings.num_video_frames)
        within = partial(self._stage, settings=settings)
        if self.guardrails is not None:
            with within("guardrails"):
                check_prompts(self.guardrails, settings)
        runner = PassRunner(self.denoiser, self.codec, self.guardrails, settings, within)
        return runner.run(pairs, partial(self._encode_prompts, settings), progress)

    def upsample_prompt(
        self,
        picture: UInt8[np.ndarray, "Y X 3"],
        settings: UpsamplerSettings = DEFAULT_SETTINGS,
        seed: int = 11,
        progress: Callable[[int], None] | None = None,
        *,
        run: InterpolationSettings | None = None,
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

    def encode_pair(
        self,
        first: UInt8[np.ndarray, "Y X 3"],
        last: UInt8[np.ndarray, "Y X 3"],
        height: int = 704,
        width: int = 1280,
        num_video_frames: int = 10,
    ) -> Float[Array, "T H W C"]:
        """Return the condition latents of the pair (`first`, `last`), resized to `height`×`width`, in float32.

        Raises:
            UsageError: these networks cannot take the size.
        """
        self.check_size(height, width, num_video_frames)
        first, last = check_clip_array(np.stack([first, last]))
        return self.codec.encode_pair(first, last, height, width, num_video_frames)

    def sample(
        self,
        condition_latents: Float[Array, "*pairs T H W C"],
        text: Float[Array | np.ndarray, "n S D"] | None,
        negative_text: Float[Array | np.ndarray, "n S D"] | None,
        guidance: float = -1.0,
        seed: int = 11,
        num_steps: int = 35,
        fps: float = 24,
        condition_noise: ConditionNoise = "fixed",
    ) -> Float[Array, "*pairs T H W C"]:
        """Sample the latents of one pair or a batch of pairs, float32; first and last frames come back unchanged.

        `text` and `negative_text` have one row for all pairs or one a pair; None is the all-zero embedding. Every pair
        starts from the same noise, as upstream's pairs do.
        """
        settings = InterpolationSettings(sampling=SampleSettings(guidance, seed, num_steps, fps, condition_noise))
        latents = jnp.asarray(condition_latents)
        batch = latents.reshape(-1, *latents.shape[-4:])
        return self.denoiser.sample(batch, text, negative_text, settings.sampling).reshape(latents.shape)

    def decode(self, latents: Float[Array, "*pairs T H W C"]) -> UInt8[np.ndarray, "*pairs F Y X 3"]:
        """Return the frames (uint8 RGB) of sampled latents, of one pair or of a batch of pairs."""
        latents = jnp.asarray(latents)
        if latents.ndim == 5:
            return np.stack([self.decode(pair) for pair in latents])
        return self.codec.decode(latents)

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

    def check_size(self, height: int, width: int, num_video_frames: int = 10) -> tuple[int, int, int, int]:
        """Return the shape (T, H, W, C) of a pair's latents.

        Raises:
            UsageError: these networks cannot take the size.
        """
        return latent_shape(
            self.denoiser.config, self.codec.config, height=height, width=width, num_video_frames=num_video_frames
        )

    def planner(self, settings: InterpolationSettings) -> Planner:
        """Return a planner: it predicts the memory of runs with `settings` and finds placements that fit a budget."""
        return self._networks.planner(settings)

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

    def unload(self) -> None:
        """Free the memory of all networks; the next use loads them again."""
        self._networks.unload()

    def _encode_prompts(self, settings: InterpolationSettings) -> tuple[Array | None, Array | None]:
        """Return the embeddings of (prompt, negative prompt), each only if the guidance reads it."""
        texts = texts_read(settings.prompt, settings.negative_prompt, settings.sampling.guidance)
        with self._stage("text", settings):
            rows = dict(zip(texts, self.encode_text(list(texts.values())), strict=True)) if texts else {}
            if self.text_encoder is not None:
                self.text_encoder.offload()
        batch = {branch: jnp.asarray(row)[None] for branch, row in rows.items()}
        return batch.get(Branch.CONDITIONAL), batch.get(Branch.UNCONDITIONAL)

    @contextmanager
    def _stage(self, name: str, settings: InterpolationSettings) -> Iterator[None]:
        """Add the seconds of the stage `name` to `timings`; if memory runs out in it, say what would fit."""
        with timed(self.timings, name), self._networks.explain_out_of_memory(name, settings):
            yield
