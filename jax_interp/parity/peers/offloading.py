"""Torch modules whose weights are read from checkpoint files just before each layer runs, and given up behind it."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import torch
from accelerate import cpu_offload, init_empty_weights
from torch import nn

from jax_interp.config import Precision
from jax_interp.errors import CheckpointError

ModuleT = TypeVar("ModuleT", bound=nn.Module)

Read = Callable[[str], np.ndarray]
"""A function from the name of a module's tensor to its values, which this project's own readers take from the files."""


class LazyTensors(Mapping[str, torch.Tensor]):
    """The tensors of a module by name, each read when it is asked for and kept by nobody.

    Raises:
        CheckpointError: a tensor is absent or has another shape than the module's.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], read: Read):
        self._shapes, self._read = shapes, read

    def __getitem__(self, name: str) -> torch.Tensor:
        try:
            array = self._read(name)
        except KeyError as error:
            raise CheckpointError(f"the checkpoint has no {error}, which PyTorch's network calls {name}") from None
        if array.shape != self._shapes[name]:
            raise CheckpointError(
                f"{name} is {array.shape} in the checkpoint, PyTorch's network expects {self._shapes[name]}: the"
                " config.json beside the weights is of another network"
            )
        return as_tensor(array)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return the values as a tensor of the dtype of the same name, which numpy does not know for bfloat16."""
    kind = getattr(torch, array.dtype.name)
    return torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).view(kind).reshape(array.shape)


def empty(build: Callable[[], ModuleT], precision: Precision) -> ModuleT:
    """Return the module for inference in `precision` without memory for its parameters; its buffers are there."""
    with init_empty_weights(include_buffers=False):
        module = build()
    for parameter in module.parameters():
        parameter.data = parameter.data.to(getattr(torch, precision))
    return module.eval().requires_grad_(False)


def offloaded(module: ModuleT, read: Read, device: str) -> ModuleT:
    """Let every layer of an `empty` module read its own tensors when it runs, on `device`."""
    tensors = LazyTensors({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, read)
    cpu_offload(
        module,
        torch.device(device),
        offload_buffers=True,
        state_dict=tensors,  # pyright: ignore[reportArgumentType]: any mapping will do
        # Its projections are used as tensors, without being called.
        preload_module_classes=["MultiheadAttention"],
    )
    return module


def has_gpu() -> bool:
    """Tell whether torch finds a GPU."""
    return torch.cuda.is_available()
