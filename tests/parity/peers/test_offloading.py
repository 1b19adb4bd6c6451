"""Torch modules that read their weights as they run: the same numbers, and one layer in memory at a time."""

import weakref

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

import torch
from torch import nn

from jax_interp.errors import CheckpointError
from jax_interp.parity.comparison.ours import OURS
from jax_interp.parity.peers.networks import BUILDERS
from jax_interp.parity.peers.offloading import LazyTensors, as_tensor, empty, offloaded


def build():
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(5)), nn.BatchNorm1d(8))


def weights():
    draw = np.random.default_rng(0)
    values = {name: draw.uniform(0.5, 1, tuple(tensor.shape)) for name, tensor in build().state_dict().items()}
    return {name: value.astype(np.int64 if name.endswith("tracked") else np.float32) for name, value in values.items()}


def test_the_outputs_are_those_of_a_module_that_holds_its_weights():
    arrays, whole = weights(), build().eval()
    whole.load_state_dict({name: as_tensor(array) for name, array in arrays.items()})
    module = offloaded(empty(build, "float32"), arrays.__getitem__, "cpu")
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(x), whole(x))
        assert torch.equal(module(x), whole(x))  # and once more, since nothing is used up


def test_one_layer_is_in_memory_at_a_time():
    arrays, living, most = weights(), [], []

    def read(name):
        array = arrays[name].copy()
        living.append((name.split(".")[0], weakref.ref(array)))
        most.append({layer for layer, reference in living if reference() is not None})
        return array

    module = offloaded(empty(build, "float32"), read, "cpu")
    assert living == []  # building reads nothing
    with torch.no_grad():
        module(torch.ones(1, 8))
    assert [len(layers) for layers in most] == [1] * len(arrays)
    assert all(reference() is None for _, reference in living)
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}


def test_weights_are_rounded_to_the_modules_dtype():
    module = offloaded(empty(lambda: nn.Linear(2, 1, bias=False), "bfloat16"), {"weight": W}.__getitem__, "cpu")
    with torch.no_grad():
        out = module(torch.ones(1, 2, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert out.item() == 1.0  # 1.001 rounds to 1


W = np.array([[1.001, 0.0]], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_every_dtype_becomes_that_of_the_same_name(dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    tensor = as_tensor(array)
    assert str(tensor.dtype) == f"torch.{np.dtype(dtype).name}"
    assert tuple(tensor.shape) == shape
    assert np.array_equal(tensor.float().numpy(), array.astype(np.float32))


def test_a_transposed_array_keeps_its_values():
    array = np.arange(6.0).reshape(2, 3).T
    assert np.array_equal(as_tensor(array).numpy(), array)


def test_lazy_tensors_know_their_names():
    tensors = LazyTensors({"a": (1,), "b": (1,)}, lambda name: np.full(1, ord(name)))
    assert list(tensors) == ["a", "b"]
    assert len(tensors) == 2
    assert tensors["b"].item() == ord("b")


def test_a_tensor_that_is_absent_or_of_another_shape_is_named():
    tensors = LazyTensors({"a": (2,), "b": (1,)}, {"a": np.zeros(3)}.__getitem__)
    with pytest.raises(CheckpointError, match=r"a is \(3,\) in the checkpoint, PyTorch's network expects \(2,\)"):
        tensors["a"]
    with pytest.raises(CheckpointError, match="the checkpoint has no 'b'"):
        tensors["b"]


def test_every_network_has_a_peer():
    assert BUILDERS.keys() == OURS.keys()
