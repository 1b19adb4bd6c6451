"""The peers by the names of our networks: how each is built, where its weights are, and how it is called."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaForCausalLM, T5EncoderModel
from transformers.utils import logging

from convert.formats.stored_tensor import StoredTensor
from jax_interp.config import Precision
from jax_interp.nn.rotary import BASE_FPS
from jax_interp.parity.peers import pixtral, retinaface, settings, transformer, video_tokenizer
from jax_interp.parity.peers.offloading import as_tensor, empty, offloaded
from jax_interp.parity.peers.video_safety import VideoSafety

Tensors = Mapping[str, StoredTensor]
Arguments = Mapping[str, torch.Tensor]
OnBlock = Callable[[int, np.ndarray, np.ndarray], None]
"""A callable that is told (number of the block, its input, its output), both float32."""


@dataclass(frozen=True)
class Peer:
    """A network of PyTorch's, without weights."""

    module: nn.Module
    read: Callable[[str], np.ndarray]
    """A function from the name of one of the module's tensors to the checkpoint's values."""
    call: Callable[[Any, Arguments], Mapping[str, torch.Tensor]]
    """A function from the module and the inputs by name to the outputs by name, float32."""
    blocks: Sequence[nn.Module] = ()
    """The stack of equal blocks, if it has one."""

    @property
    def title(self) -> str:
        """The class of the module, with the package that it comes from."""
        kind = type(self.module)
        package = kind.__module__.split(".")[0]
        return kind.__name__ if package == "jax_interp" else f"{package} {kind.__name__}"


class PeerNetwork:
    """A network of PyTorch's whose layers read their weights from the checkpoint's files as they run."""

    def __init__(self, network: str, tensors: Tensors, config: Any, precision: Precision, device: str):
        """`network` is one of `BUILDERS`, `tensors` are the checkpoint's, `config` is what its shapes tell."""
        with _without_remarks():
            self._peer = BUILDERS[network](tensors, config, precision)
        self._module = offloaded(self._peer.module, self._peer.read, device)
        self._device = device
        self._precision = precision

    @property
    def title(self) -> str:
        """What it is, as "diffusers CosmosTransformer3DModel"."""
        return self._peer.title

    def run(self, inputs: Mapping[str, np.ndarray], on_block: OnBlock | None = None) -> dict[str, np.ndarray]:
        """Return the outputs, float32; `on_block` is called after every block, while no other one is in memory."""
        arguments = {name: torch.from_numpy(array).to(self._device) for name, array in inputs.items()}
        with torch.no_grad(), _full_float32(), _told(self._peer.blocks, on_block):
            outputs = self._peer.call(self._module, arguments)
        return {name: output.float().cpu().numpy() for name, output in outputs.items()}


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep transformers from remarks about settings that no network here reads."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Compute products of float32 in float32 on GPUs too, where convolutions would round their operands."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def _told(blocks: Sequence[nn.Module], on_block: OnBlock | None) -> Iterator[None]:
    """Call `on_block` after every block while the context lasts."""
    handles = []
    for index, block in enumerate(blocks if on_block else ()):

        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any, index: int = index) -> None:
            del module
            first = args[0] if args else kwargs["hidden_states"]
            last = output[0] if isinstance(output, tuple) else output
            assert on_block is not None
            on_block(index, first.float().cpu().numpy(), last.float().cpu().numpy())

        handles.append(block.register_forward_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _transformer(tensors: Tensors, config: Any, precision: Precision) -> Peer:
    module = empty(lambda: transformer.build(config), precision)

    def call(module: Any, inputs: Arguments) -> dict[str, torch.Tensor]:
        return {"output": transformer.forward(module, **inputs, fps=BASE_FPS)}

    blocks = list(module.transformer_blocks)
    return Peer(module, lambda name: tensors[transformer.upstream_name(name)].read(), call, blocks)


def _tokenizer(tensors: Tensors, config: Any, precision: Precision) -> Peer:
    module = empty(lambda: video_tokenizer.build(config), precision)
    for name, key in video_tokenizer.WAVELETS.items():
        owner, buffer = name.rsplit(".", 1)
        setattr(module.get_submodule(owner), buffer, as_tensor(tensors[key].read()).float())

    def call(module: Any, inputs: Arguments) -> dict[str, torch.Tensor]:
        return {
            "encode": video_tokenizer.encode(module, inputs["pixels"]),
            "decode": video_tokenizer.decode(module, inputs["latents"]),
        }

    levels = len(config.channel_multipliers)
    return Peer(module, lambda name: tensors[video_tokenizer.upstream_name(name, levels)].read(), call)


def _text_encoder(tensors: Tensors, config: Any, precision: Precision) -> Peer:
    module = empty(lambda: T5EncoderModel(settings.t5(tensors, config)), precision)

    def read(name: str) -> np.ndarray:
        return tensors["shared.weight" if name == "encoder.embed_tokens.weight" else name].read()

    def call(module: Any, inputs: Arguments) -> dict[str, torch.Tensor]:
        states = module(input_ids=inputs["ids"].long(), attention_mask=inputs["mask"]).last_hidden_state
        return {"output": states.float()}

    return Peer(module, read, call, list(module.encoder.block))


def _llama(tensors: Tensors, config: Any, precision: Precision) -> Peer:
    module = empty(lambda: LlamaForCausalLM(settings.llama(tensors, config)), precision)

    def read(name: str) -> np.ndarray:
        tied = name == "lm_head.weight" and config.tied_head
        return tensors["model.embed_tokens.weight" if tied else name].read()

    return Peer(module, read, _logits, list(module.model.layers))


def _pixtral_language(tensors: Tensors, config: Any, precision: Precision) -> Peer:
    module = empty(lambda: pixtral.language(settings.llava(tensors, config)), precision)
    read = _pixtral_reader(tensors, config)
    renamed = "language_model."
    return Peer(
        module,
        lambda name: read(renamed + name.removeprefix("model.") if name.startswith("model.") else name),
        _logits,
        list(module.model.layers),
    )


def _pixtral_pictures(tensors: Tensors, config: Any, precision: Precision) -> Peer:
    module = empty(lambda: pixtral.Pictures(settings.llava(tensors, config)), precision)
    blocks = list(module.vision_tower.transformer.layers)
    return Peer(module, _pixtral_reader(tensors, config), _pictures(precision), blocks)


def _video_safety(tensors: Tensors, config: Any, precision: Precision) -> Peer:
    vision = settings.siglip(tensors, config).vision_config
    module = empty(lambda: VideoSafety(vision, config), precision)  # pyright: ignore[reportArgumentType]
    blocks = list(module.vision_model.encoder.layers)
    return Peer(module, lambda name: tensors[name].read(), _pictures(precision), blocks)


def _face_blur(tensors: Tensors, config: Any, precision: Precision) -> Peer:
    module = empty(lambda: retinaface.build(config), precision)

    def read(name: str) -> np.ndarray:
        counter = name.endswith("num_batches_tracked")
        return np.zeros((), np.int64) if counter else tensors[f"module.{name}"].read()

    def call(module: Any, inputs: Arguments) -> dict[str, torch.Tensor]:
        boxes, classes, landmarks = module(inputs["pixels"].movedim(-1, 1))
        return {"boxes": boxes, "faces": classes[..., 1], "landmarks": landmarks}

    return Peer(module, read, call)


def _logits(module: Any, inputs: Arguments) -> dict[str, torch.Tensor]:
    return {"output": module(input_ids=inputs["ids"].long(), use_cache=False).logits.float()}


def _pictures(precision: Precision) -> Callable[[Any, Arguments], dict[str, torch.Tensor]]:
    dtype = getattr(torch, precision)
    return lambda module, inputs: {"output": module(inputs["pixels"].movedim(-1, 1).to(dtype)).float()}


def _pixtral_reader(tensors: Tensors, config: Any) -> Callable[[str], np.ndarray]:
    locate = pixtral.names_in(tensors, config)

    def read(name: str) -> np.ndarray:
        key, head_width = locate(name)
        values = tensors[key].read()
        return values if head_width is None else pixtral.halves(values, head_width)

    return read


BUILDERS: Mapping[str, Callable[[Tensors, Any, Precision], Peer]] = {
    "diffusion_transformer": _transformer,
    "tokenizer": _tokenizer,
    "text_encoder": _text_encoder,
    "prompt_upsampler/pictures": _pixtral_pictures,
    "prompt_upsampler/language": _pixtral_language,
    "text_safety": _llama,
    "video_safety": _video_safety,
    "face_blur": _face_blur,
}
"""How the peer of each network is built, from the checkpoint's tensors and the configuration that they tell."""
