"""Our side: converted networks, run block by block with the parameters of one block in memory at a time.

The modules are those of the pipeline, and so is the way in which their parts are read (`StackedParams`) and bound.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp.config import Precision
from jax_interp.models.decoder_lm import Cache, DecoderLM
from jax_interp.models.dit import DiT, patch_grid
from jax_interp.models.pixtral_vision import PixtralVision
from jax_interp.models.retinaface import RetinaFace
from jax_interp.models.safety_head import VideoSafety
from jax_interp.models.t5 import T5Encoder
from jax_interp.models.video_tokenizer.model import VideoTokenizer
from jax_interp.nn.params import Network, StackedNetwork
from jax_interp.nn.patches import unpatchify
from jax_interp.nn.rotary import BASE_FPS, rotary_angles
from jax_interp.parity.comparison.inputs import Inputs
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.loading import StackedParams, load_params
from jax_interp.types import Params


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile so that every bfloat16 value is rounded, as the stages of the pipeline do."""
    return jax.jit(function, compiler_options={"xla_allow_excess_precision": False})


class Stack:
    """A network with a stack of equal blocks: `start`, `block` for each of them in turn, `finish`."""

    NETWORK: ClassVar[Callable[..., Any]]

    def __init__(self, converted: ConvertedComponent, precision: Precision):
        self.config: Any = converted.config
        self.dtype = jnp.dtype(precision)
        self.network = StackedNetwork(
            lambda rngs: self.NETWORK(converted.config, dtype=self.dtype, rngs=rngs), self.host_only()
        )
        self._stored = StackedParams(converted, self.network.abstract, self.dtype)
        self._attend = _jit(lambda params, x, shared: self.attend(self.network.bind_part(0, params), x, shared))
        self._transform = _jit(lambda params, x, shared: self.transform(self.network.bind_part(1, params), x, shared))
        self.shared: Any = ()

    @property
    def num_blocks(self) -> int:
        """The number of its blocks."""
        return self.network.num_blocks

    def host_only(self) -> tuple[str, ...]:
        """Return the names of parameters that `start` uses by itself."""
        return ()

    def start(self, inputs: Inputs) -> jax.Array:
        """Return the residual stream before the first block; the inputs that blocks share are kept."""
        arguments = [jnp.asarray(array) for array in self.arguments(inputs)]
        x, self.shared = _jit(lambda params, *args: self.embed(self.network.bind_outer(params), *args))(
            self._outer(), *arguments
        )
        return x

    def block(self, index: int, streams: Sequence[jax.Array]) -> list[jax.Array]:
        """Return what block `index` makes of each residual stream; its parameters are read once and then given up."""
        for part, run in enumerate((self._attend, self._transform)):
            params = jax.tree.map(jnp.asarray, self._stored.part(index, self.network.parts[part]))
            streams = jax.block_until_ready([run(params, x, self.shared) for x in streams])
            del params
        return list(streams)

    def finish(self, streams: Sequence[jax.Array]) -> list[Inputs]:
        """Return the outputs for each residual stream after the last block."""
        run = _jit(lambda params, x, shared: self.conclude(self.network.bind_outer(params), x, shared))
        outer = self._outer()
        return [{"output": np.asarray(run(outer, x, self.shared), np.float32)} for x in streams]

    def valid(self, array: Any, inputs: Inputs) -> np.ndarray:
        """Return the values of a residual stream or an output that have a meaning, float32."""
        del inputs
        return np.asarray(array, np.float32)

    def _outer(self) -> Params:
        return jax.tree.map(jnp.asarray, self._stored.outer(self.host_only()))

    # What differs from network to network; all but the first are traced.

    def arguments(self, inputs: Inputs) -> Sequence[np.ndarray]:
        """Return the arguments of the network's `embed`."""
        return list(inputs.values())

    def embed(self, network: Any, *arguments: jax.Array) -> tuple[jax.Array, Any]:
        """Return the residual stream and what the blocks share."""
        embedded = network.embed(*arguments)
        return (embedded[0], embedded[1:]) if isinstance(embedded, tuple) else (embedded, ())

    def attend(self, block: Any, x: jax.Array, shared: Any) -> jax.Array:
        """Run the first part of a block."""
        return block.attend(x, *shared)

    def transform(self, block: Any, x: jax.Array, shared: Any) -> jax.Array:
        """Run the second part of a block."""
        del shared
        return block.transform(x)

    def conclude(self, network: Any, x: jax.Array, shared: Any) -> jax.Array:
        """Run the end of the network."""
        del shared
        return network.finish(x)


class Transformer(Stack):
    """The diffusion transformer, with rotary angles in float32 as diffusers has them in both dtypes."""

    NETWORK = DiT
    _shape: tuple[int, ...] = ()

    def arguments(self, inputs: Inputs) -> Sequence[np.ndarray]:
        self._shape = inputs["x"].shape
        angles = rotary_angles(
            patch_grid(self._shape, self.config.patch_size),
            self.config.head_width,
            fps=BASE_FPS,
            ratio=self.config.rotary_ratio,
            precision="float32",
        )
        return [*inputs.values(), angles]

    def transform(self, block: Any, x: jax.Array, shared: Any) -> jax.Array:
        return block.transform(x, *shared)

    def conclude(self, network: Any, x: jax.Array, shared: Any) -> jax.Array:
        size = self.config.patch_size
        return unpatchify(network.project(x, *shared), patch_grid(self._shape, size), size)


class TextEncoder(Stack):
    """T5's encoder."""

    NETWORK = T5Encoder

    def valid(self, array: Any, inputs: Inputs) -> np.ndarray:
        return np.asarray(array, np.float32)[inputs["mask"] == 1]


class PictureEncoder(Stack):
    """Pixtral's picture encoder and projector."""

    NETWORK = PixtralVision


class LanguageModel(Stack):
    """A decoder-only language model. The table of its embedding, which is large, is read only to look rows up."""

    NETWORK = DecoderLM

    def host_only(self) -> tuple[str, ...]:
        return () if self.config.tied_head else ("embedding",)

    def start(self, inputs: Inputs) -> jax.Array:
        self.shared = (_jit(lambda: self._prompt_inputs(inputs["ids"].shape[1]))(),)
        return jnp.asarray(np.asarray(self._stored.array("embedding"))[inputs["ids"]])

    def attend(self, block: Any, x: jax.Array, shared: Any) -> jax.Array:
        shape = (*x.shape[:2], self.config.num_kv_heads, self.config.head_width)
        return block.attend(x, Cache(jnp.zeros(shape, x.dtype), jnp.zeros(shape, x.dtype)), *shared)[0]

    def _prompt_inputs(self, size: int) -> Any:
        network: Any = self.network.bind_outer(
            jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.network.outer_abstract)
        )
        return network.prompt_inputs(size)


class FrameClassifier(Stack):
    """SigLIP's picture encoder with the classifier behind it."""

    NETWORK = VideoSafety


class Whole(ABC):
    """A network that is small enough to be in memory as a whole: its outputs by the methods that give them."""

    NETWORK: ClassVar[Callable[..., Any]]

    def __init__(self, converted: ConvertedComponent, precision: Precision):
        self.dtype = jnp.dtype(precision)
        self.network = Network(lambda rngs: self.NETWORK(converted.config, dtype=self.dtype, rngs=rngs))
        self._converted = converted

    def run(self, inputs: Inputs) -> Inputs:
        """Return all outputs, float32."""
        params = load_params(self._converted, self.network.abstract, self.dtype)
        outputs = _jit(lambda params, inputs: self.outputs(self.network.bind(params), inputs))(
            params, {name: jnp.asarray(array) for name, array in inputs.items()}
        )
        return {name: np.asarray(array, np.float32) for name, array in outputs.items()}

    @abstractmethod
    def outputs(self, network: Any, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Return the outputs by name; traced."""


class Tokenizer(Whole):
    """The tokenizer without its statistics, which are no part of the network."""

    NETWORK = VideoTokenizer

    def outputs(self, network: Any, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return {"encode": network.encode(inputs["pixels"]), "decode": network.decode(inputs["latents"])}


class FaceDetector(Whole):
    """RetinaFace; of the two classes it gives the probability of a face alone."""

    NETWORK = RetinaFace

    def outputs(self, network: Any, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        boxes, faces, landmarks = network(inputs["pixels"])
        return {"boxes": boxes, "faces": faces, "landmarks": landmarks}


OURS: Mapping[str, type[Stack] | type[Whole]] = {
    "diffusion_transformer": Transformer,
    "tokenizer": Tokenizer,
    "text_encoder": TextEncoder,
    "prompt_upsampler/pictures": PictureEncoder,
    "prompt_upsampler/language": LanguageModel,
    "text_safety": LanguageModel,
    "video_safety": FrameClassifier,
    "face_blur": FaceDetector,
}
"""How each network runs, by its name in reports."""
