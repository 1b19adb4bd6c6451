"""Archives of torch.jit.save, built here, against `state_dict()` of the same module."""

import enum
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from convert.formats.pytorch.torch_file import open_torch_archive
from jax_interp.errors import CheckpointError
from tests.convert.archives import assert_same, write_archive

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Block(nn.Module):
    _arange: torch.Tensor
    hidden: torch.Tensor

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv3d(width, width, (3, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.register_buffer("_arange", torch.arange(width))
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.transposed = nn.Parameter(torch.randn(3, width).t())

    def forward(self, x):
        scale = (self._arange + self.hidden.sum()).to(x.dtype).view(1, -1, 1, 1, 1)
        return self.norm(self.conv(x)) * scale + self.transposed.sum()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        inner = nn.ModuleDict({"inner": Block(2)})
        self.down: Any = nn.ModuleList([Block(2), inner])
        self.head = nn.Sequential(nn.Conv3d(2, 4, 1), nn.SiLU())
        flat = torch.randn(10)
        self.left, self.right = nn.Parameter(flat[:4].view(2, 2)), nn.Parameter(flat[6:])
        self.scalar = nn.Parameter(torch.tensor(2.0))
        self.settings, self.label, self.missing, self.pair = [1, 2], "x", None, (1, 2.5)

    def forward(self, x):
        for block in (self.down[0], self.down[1]["inner"]):
            x = block(x)
        return self.head(x) * self.scalar + self.left.sum() + self.right.sum()


def network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return Network().eval().to(dtype)


def with_hidden_buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    return module.state_dict() | dict(module.named_buffers())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_traced(tmp_path, dtype):
    module = network(dtype)
    traced: Any = torch.jit.trace(module, torch.ones(1, 2, 7, 2, 2, dtype=dtype))
    torch.jit.save(traced, tmp_path / "encoder.jit")
    tensors = open_torch_archive(tmp_path / "encoder.jit")
    assert_same(tensors, traced.state_dict())
    assert_same(tensors, torch.jit.load(tmp_path / "encoder.jit").state_dict())
    assert_same(tensors, with_hidden_buffers(module))


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.again = nn.Linear(2, 2), nn.Linear(2, 2)
        self.again.weight = self.inner.weight
        self.shared = self.inner

    def forward(self, x):
        return self.inner(x) + self.again(x) + self.shared(x)


def test_scripted_with_shared_parameters_and_modules(tmp_path):
    module = Scripted().to(torch.bfloat16)
    torch.jit.script(module).save(tmp_path / "x.ts")
    assert_same(open_torch_archive(tmp_path / "x.ts"), module.state_dict())


class Color(enum.Enum):
    RED = 1


class Attributes(nn.Module):
    table: dict[str, torch.Tensor]
    optional: torch.Tensor | None
    absent: torch.Tensor | None

    def __init__(self):
        super().__init__()
        self.table, self.optional, self.absent = {"a": torch.ones(1)}, torch.ones(3), None
        self.tensors, self.ints, self.floats, self.bools = [torch.ones(2)], [1], [1.5], [True]
        self.words, self.device, self.color, self.complex, self.big = ["a"], torch.device("cpu"), Color.RED, 1j, 1 << 40
        self.plain, self.weight = torch.ones(4), nn.Parameter(torch.ones(5))

    def forward(self, x):
        optional = self.optional
        if optional is not None:
            x = x + optional.sum() + self.table["a"] + self.tensors[0].sum() + self.plain.sum() + self.weight.sum()
        if self.absent is None:
            x = x + len(self.ints) + len(self.floats) + len(self.bools) + len(self.words) + self.big
        return x + torch.zeros(1, device=self.device) + self.color.value + abs(self.complex)


def test_scripted_attributes_of_every_kind(tmp_path):
    """Tensors that are neither parameters nor buffers appear as well if they are attributes themselves."""
    module = Attributes()
    torch.jit.script(module).save(tmp_path / "x.ts")
    extra = {"plain": module.plain, "optional": torch.ones(3)}
    assert_same(open_torch_archive(tmp_path / "x.ts"), module.state_dict() | extra)


def test_frozen_modules_say_what_to_do(tmp_path):
    torch.jit.freeze(torch.jit.script(nn.Linear(2, 2).eval())).save(tmp_path / "x.jit")
    with pytest.raises(CheckpointError, match=r"holds no tensors.*torch\.jit\.freeze"):
        open_torch_archive(tmp_path / "x.jit")


def test_a_module_that_packs_its_own_state_is_refused(tmp_path):
    data = b"\x80\x02c__torch__.torch.ao.nn.quantized\nLinear\n)\x81K\x01\x85b."
    with pytest.raises(CheckpointError, match=r"__torch__\.torch\.ao\.nn\.quantized\.Linear packs its state"):
        open_torch_archive(write_archive(tmp_path / "x.jit", data))


def test_an_attack_in_a_module_is_refused(tmp_path):
    marker = tmp_path / "ran"
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "x.jit")
    command = f"touch {marker}".encode()
    attribute = b"X\x01\x00\x00\x00acos\nsystem\nX" + len(command).to_bytes(4, "little") + command + b"\x85Rs"
    data = b"\x80\x02c__torch__\nA\n)\x81}" + attribute + b"b."
    with pytest.raises(CheckpointError, match=r"'os\.system'"):
        open_torch_archive(write_archive(tmp_path / "x.jit", data))
    assert not marker.exists()


def test_code_is_not_looked_at(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "x.jit")
    before = open_torch_archive(tmp_path / "x.jit")
    evil: dict[str, Any] = {"code/__torch__.py": b"import os; os.system('false')", "constants.pkl": b"cos\nsystem\n."}
    data = b"\x80\x02c__torch__\nA\n)\x81}X\x01\x00\x00\x00w"
    assert set(before) == {"weight", "bias"}
    with pytest.raises(CheckpointError, match="holds no tensors"):
        open_torch_archive(write_archive(tmp_path / "y.jit", data + b"K\x01sb.", **evil))
