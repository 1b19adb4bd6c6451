import builtins
import io
import os
import pickle
import pickletools
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch._utils

from convert.formats.pytorch.pickle_globals import ModuleRecord, Opaque, Storage, TensorView
from convert.formats.pytorch.unpickle import PickleReader, unpickle
from jax_interp.errors import CheckpointError
from tests.convert.archives import Call, FakeStorage, FakeTensor, pickled

FLOATS = Storage(np.dtype(np.float32), "0", 12)


def run(*parts: bytes):
    return unpickle(b"\x80\x02" + b"".join(parts) + b".", "model.pt")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_containers_and_tensors(protocol):
    value = {"a": [1, 2.5, None, True], "b": ("x", 1 << 40, -3), "t": FakeTensor((3, 2), (1, 3), 4)}
    got = unpickle(pickled(value, protocol), "model.pt")
    assert got == value | {"t": TensorView(FLOATS, np.dtype(np.float32), 4, (3, 2), (1, 3))}


def test_state_of_an_ordered_dict_is_dropped():
    state = OrderedDict(weight=1)
    state.__dict__["_metadata"] = {"": {"version": 1}}
    assert unpickle(pickled(state), "model.pt") == {"weight": 1}


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("content", [b"", b"bytes", bytes(300)])
def test_bytes_io_becomes_opaque(protocol, content):
    got = unpickle(pickled({"a._extra_state": io.BytesIO(content)}, protocol), "model.pt")
    assert got == {"a._extra_state": Opaque("io.BytesIO")}


def test_torchscript_objects_keep_their_attributes_only():
    got = run(b"c__torch__.a.b\nBlock\nq\x00)\x81}(X\x01\x00\x00\x00wK\x07ub")
    assert isinstance(got, ModuleRecord)
    assert (got.name, got.attributes) == ("__torch__.a.b.Block", {"w": 7})


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (builtins.eval, "__builtin__.eval"),
        (builtins.exec, "__builtin__.exec"),
        (builtins.getattr, "__builtin__.getattr"),
        (os.system, "posix.system"),
        (np.dtype, "numpy.dtype"),
        (torch.load, "torch.serialization.load"),
        (torch.hub.load, "torch.hub.load"),
        (torch._utils._rebuild_qtensor, "torch._utils._rebuild_qtensor"),
        (set, "__builtin__.set"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_globals_are_refused_by_name(function, name, protocol):
    name = name.replace("__builtin__", "builtins") if protocol == 4 else name
    with pytest.raises(CheckpointError) as caught:
        unpickle(pickled({"x": Call(function, ("1",))}, protocol), "some/model.pt")
    assert str(caught.value).startswith("some/model.pt: ")
    assert f"'{name}'" in str(caught.value)
    assert "torch._utils._rebuild_tensor_v2" in str(caught.value)


def test_os_system_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    attack = pickled({"x": Call(os.system, (f"touch {marker}",))})
    with pytest.raises(CheckpointError, match=r"posix\.system"):
        unpickle(attack, "model.pt")
    with pytest.raises(CheckpointError, match=r"'os\.system'"):
        run(b"cos\nsystem\nX", len(f"touch {marker}").to_bytes(4, "little"), f"touch {marker}".encode(), b"\x85R")
    assert not marker.exists()
    pickle.loads(attack)  # the attack itself works
    assert marker.exists()


def test_attacks_inside_accepted_objects_are_refused(tmp_path):
    marker = tmp_path / "ran"
    command = f"touch {marker}".encode()
    evil = b"cos\nsystem\nX" + len(command).to_bytes(4, "little") + command + b"\x85R"
    for attack in (
        b"c_io\nBytesIO\n" + evil + b"\x85\x81",  # as an argument
        b"c_io\nBytesIO\n)\x81" + evil + b"b",  # as the state
        b"c__torch__\nA\n)\x81}X\x01\x00\x00\x00w" + evil + b"sb",
        b"c__torch__\nA\n)\x81X\x0c\x00\x00\x00__setstate__" + evil + b"\x86b",
        b"ccollections\nOrderedDict\n" + evil + b"\x85R",
    ):
        with pytest.raises(CheckpointError, match=r"os\.system"):
            run(attack)
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(b"", id="empty stack"),
        pytest.param(b"(", id="only a mark"),
        pytest.param(b"K\x01u", id="no mark"),
        pytest.param(b"K\x01K\x02a", id="append to a number"),
        pytest.param(b"]K\x01K\x02s", id="set item of a list"),
        pytest.param(b"}(K\x01u", id="key without value"),
        pytest.param(b"}]K\x01s", id="list as key"),
        pytest.param(b"}\x88K\x01s", id="bool as key"),
        pytest.param(b"}G" + bytes(8) + b"K\x01s", id="float as key"),
        pytest.param(b"}K\x01\x85K\x01s", id="tuple as key"),
        pytest.param(b"}\x8a\x09" + bytes(8) + b"\x01K\x01s", id="key of more than 64 bits"),
        pytest.param(b"}K\x01NX\x01\x00\x00\x001Nu", id="no mark for two items"),
        pytest.param(b"}(K\x01NX\x01\x00\x00\x001Nu", id="a number and its text as keys"),
        pytest.param(b"}(X\x01\x00\x00\x00aNX\x01\x00\x00\x00aNu", id="a key twice"),
        pytest.param(b"X\x03\x00\x00\x00\xed\xa0\x80", id="half of a UTF-16 pair"),
        pytest.param(b"Nr\x05\x00\x00\x00h\x04", id="memo that was left out"),
        pytest.param(b"h\x07", id="unknown memo"),
        pytest.param(b"q\x00", id="remember nothing"),
        pytest.param(b"K\x01)R", id="call a number"),
        pytest.param(b"ccollections\nOrderedDict\nK\x01R", id="arguments are no tuple"),
        pytest.param(b"ctorch\nFloatStorage\n)R", id="call a storage type"),
        pytest.param(b"ctorch\nfloat32\n)R", id="call a dtype"),
        pytest.param(b"ctorch._utils\n_rebuild_tensor_v2\n)R", id="rebuild nothing"),
        pytest.param(b"ctorch._utils\n_rebuild_tensor_v2\n}b", id="state of a function"),
        pytest.param(b"ctorch\nSize\n)R", id="size of nothing"),
        pytest.param(b"c__torch__\nA\n)\x81K\x01b", id="module state is a number"),
        pytest.param(b"c__torch__\nA\n)\x81}K\x01K\x01sb", id="attribute with a number for a name"),
        pytest.param(b"K\x01Q", id="number as persistent id"),
        pytest.param(b"\x82\x01", id="EXT1"),
        pytest.param(b"(cos\nsystem\no", id="OBJ"),
        pytest.param(b"(ios\nsystem\n", id="INST"),
        pytest.param(b"P1\n", id="PERSID"),
        pytest.param(b"K\x01K\x02\x93", id="STACK_GLOBAL of numbers"),
        pytest.param(b"X\xff\xff\xff\x7fa", id="text longer than the file"),
        pytest.param(b"\x8b\xff\xff\xff\x7f", id="number longer than the file"),
        pytest.param(b"\xff", id="no opcode"),
    ],
)
def test_malformed_programs_are_refused(program):
    with pytest.raises(CheckpointError, match=r"model\.pt: its pickle"):
        run(program)


@pytest.mark.parametrize("length", [64, 65])
def test_long_shapes_are_not_copied(length):
    """A short pickle can name one long list millions of times: a copy at each would fill the memory."""
    size = b"ctorch\nSize\n](" + b"K\x01" * length + b"e\x85R"
    if length == 64:
        assert run(size) == (1,) * 64
        return
    with pytest.raises(CheckpointError, match="64 numbers at most"):
        run(size)
    with pytest.raises(CheckpointError, match="64 numbers at most"):
        unpickle(pickled(FakeTensor((1,) * length, (1,) * length)), "model.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        FakeTensor((2, 3), (3,)),
        FakeTensor((2.0,), (1,)),
        FakeTensor((True,), (1,)),
        FakeTensor((2,), (1,), offset=None),
        FakeTensor((2,), (1,), storage=None),
        FakeTensor((2,), (1,), storage=FakeTensor((2,), (1,))),
        FakeTensor((2,), (1,), storage=FakeStorage(key=3)),
        FakeTensor((2,), (1,), storage=FakeStorage(numel="12")),
        FakeTensor((2,), (1,), storage=FakeStorage(kind="torch.FloatStorage")),
        FakeTensor((2,), (1,), storage=FakeStorage(kind=torch.storage.UntypedStorage)),
    ],
)
def test_tensors_described_wrongly_are_refused(tensor):
    with pytest.raises(CheckpointError, match="its pickle is not a state dict"):
        unpickle(pickled(tensor), "model.pt")


def test_lazily_conjugated_tensors_are_refused(tmp_path):
    data = pickled(Call(torch._utils._rebuild_tensor_v2, (FakeStorage(), 0, (2,), (1,), False, {}, {"conj": True})))
    with pytest.raises(CheckpointError, match="resolve_conj"):
        unpickle(data, "model.pt")


def test_truncated_and_changed_pickles_never_do_anything_else_than_raise(rng):
    whole = pickled({"a": FakeTensor((3,), (1,)), "b": [io.BytesIO(b"x"), (1, 2.5)], "c": OrderedDict(d="text")})
    opcodes = bytes(opcode.code.encode("latin1")[0] for opcode in pickletools.opcodes)
    outcomes = []
    for length in range(len(whole)):
        with pytest.raises(CheckpointError):
            unpickle(whole[:length], "model.pt")
    for _ in range(2000):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.choice(list(opcodes)) if rng.random() < 0.7 else rng.integers(256)
        try:
            unpickle(bytes(data), "model.pt")
            outcomes.append("read")
        except CheckpointError:
            outcomes.append("refused")
    assert {"read", "refused"} == set(outcomes)


def test_nothing_that_reads_checkpoints_can_unpickle():
    dangerous = re.compile(r"import (?:pickle|torch|importlib)\b|from pickle\b|\b(?:eval|exec|setattr|getattr)\(")
    modules = sorted((Path(__file__).parents[4] / "convert/formats").rglob("*.py"))
    assert len(modules) > 10
    for module in modules:
        found = dangerous.findall(module.read_text())
        assert found == (["getattr("] if module.stem == "pickle_globals" else []), (
            module
        )  # of a dtype, by our own names


def test_whole_numbers_as_keys_are_kept_as_texts():
    """They would be hashed by their value, so that a file could choose numbers that fall on one place of the table."""
    keys = [0, 7, 255, 1 << 61, (1 << 61) - 1, -1, (1 << 64) - 1, -(1 << 63)]
    got = unpickle(pickled({"state": {key: [key] for key in keys}}), "model.pt")["state"]
    assert got == {str(key): [key] for key in keys}
    assert all(hash(key) == hash(str(key)) for key in got)


def test_memos_may_have_gaps():
    assert run(b"Nr\x05\x00\x00\x00K\x01q\x02h\x05h\x02\x87") == (1, None, 1)


def test_several_pickles_lie_one_behind_the_other_and_share_their_steps(monkeypatch):
    data = b"\x80\x02K\x01." + b"\x80\x02]q\x00(K\x02K\x03e."
    reader = PickleReader(data + b"rest", "model.pt")
    assert (reader.load(), reader.load()) == (1, [2, 3])
    assert reader.position == len(data)
    for steps, are_enough in ((11, True), (10, False)):
        monkeypatch.setattr("convert.formats.pytorch.unpickle.MAX_STEPS", steps)
        reader = PickleReader(data, "model.pt")
        assert reader.load() == 1
        if are_enough:
            assert reader.load() == [2, 3]
            continue
        with pytest.raises(CheckpointError, match=f"takes more than {steps} steps, the most that is read"):
            reader.load()


@pytest.mark.parametrize(
    "large",
    [
        pytest.param(b"ctorch\nSize\n](" + b"K\x01" * 60 + b"e\x85R", id="a size"),
        pytest.param(
            b"c__torch__\nA\n)\x81}(" + b"".join(b"X\x02\x00\x00\x00%02dN" % i for i in range(60)) + b"ub", id="state"
        ),
        pytest.param(b"Nr\x50\x00\x00\x00", id="a far memo"),
    ],
)
def test_what_takes_long_costs_more_than_one_step(monkeypatch, large):
    """An opcode that copies or looks through many values pays for each of them."""
    steps = sum(1 for _ in pickletools.genops(b"\x80\x02" + large + b"."))
    monkeypatch.setattr("convert.formats.pytorch.unpickle.MAX_STEPS", steps + 50)
    with pytest.raises(CheckpointError, match="steps, the most that is read"):
        run(large)


def test_names_in_messages_are_escaped():
    with pytest.raises(CheckpointError) as caught:
        run(b"}(X\x02\x00\x00\x00\x1baNX\x02\x00\x00\x00\x1baNu")
    assert "\x1b" not in str(caught.value)
    assert "\\x1ba" in str(caught.value)
