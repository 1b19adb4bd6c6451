"""Whatever a file holds: it is read or refused by name, in less than 5 seconds and 300 MiB.

Each file is opened in a process of its own, which the system ends if it goes on for much longer or takes much more.
What counts is processor time, so that a busy machine makes no difference.
"""

import json
import subprocess
import sys
import textwrap

import pytest

from tests.convert.formats.hostile import KINDS, ONE_AXIS, archive, legacy, safetensors, text

pytestmark = pytest.mark.slow

SECONDS, MIB = 5, 300

OPEN = textwrap.dedent(
    """
    import resource, sys, time
    from pathlib import Path
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    from convert.formats.archive import open_archive
    from jax_interp.errors import CheckpointError
    start = time.process_time()
    try:
        outcome = f"read {len(open_archive(Path(sys.argv[1])))}"
    except CheckpointError as error:
        outcome = f"refused {error}"
    seconds = time.process_time() - start
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
    print(f"{seconds} {peak} {outcome}")
    """
)


def opened(path):
    done = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, mib, outcome = done.stdout.strip().split(" ", 2)
    assert float(seconds) < SECONDS
    assert int(mib) < MIB
    return outcome


READ = {"header: tiny tensors, as many as are read", "header: tensors of many axes, as many as are read"}
"""They are strange, but whole."""


@pytest.mark.parametrize(
    "kind",
    [kind if index % 2 else pytest.param(kind, marks=pytest.mark.thorough) for index, kind in enumerate(KINDS)],
)
def test_hostile_files_are_refused_in_bounded_time_and_memory(tmp_path, kind):
    suffix, make = KINDS[kind]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(make())
    outcome = opened(path)
    names = ("model", "a.bin") if kind.startswith("index") else ("model",)
    refusals = tuple(f"refused {place}{name}" for place in ("", f"{tmp_path}/") for name in names)
    assert outcome.startswith(("read", *refusals) if kind in READ else refusals)
    assert len(outcome) < 2000


def keys(count):
    return [f"net.blocks.block{i // 20}.blocks.{i % 20}.block.attn.to_q.0.weight" for i in range(count)]


def tensor(storage):
    """A tensor of one value and two axes with a storage of its own, as `torch.save` writes it behind `HEAD`."""
    described = b"(h\x00h\x02" + text(storage) + b"\x94h\x01K\x01t\x94Q"
    return b"h\x03(" + described + b"K\x00K\x01K\x01\x86\x94K\x01K\x01\x86\x94\x89h\x04)R\x94t\x94R\x94"


HEAD = (
    b"\x80\x02" + text("storage") + b"\x94" + text("cpu") + b"\x94ctorch\nFloatStorage\n\x94"
    b"ctorch._utils\n_rebuild_tensor_v2\n\x94ccollections\nOrderedDict\n\x94"
)


def state_dict(count):
    return HEAD + b"}(" + b"".join(text(key) + b"\x94" + tensor(str(i)) for i, key in enumerate(keys(count))) + b"u."


def training_state(count):
    """The state of an optimizer behind the weights: two moments and a counter for each, by number."""
    moments = (
        b"M%s}(" % (i).to_bytes(2, "little")
        + b"".join(
            text(name) + tensor(str(count + 3 * i + j)) for j, name in enumerate(("step", "exp_avg", "exp_avg_sq"))
        )
        + b"u"
        for i in range(count)
    )
    weights = b"".join(text(key) + tensor(str(i)) for i, key in enumerate(keys(count)))
    return (
        HEAD + b"}(" + text("model") + b"}(" + weights + b"u" + text("optimizer") + b"}(" + b"".join(moments) + b"uu."
    )


def modules(count, attributes=20):
    """The pickle of a TorchScript module of `count` children, each with one weight and many settings."""
    memo = b"".join(text(f"setting{i}") + b"q" + bytes([10 + i]) for i in range(attributes))
    settings = b"".join(b"h" + bytes([10 + i]) + b"N" for i in range(attributes))
    head = ONE_AXIS + b"c__torch__\nA\nq\x05" + text("weight") + b"q\x06" + memo
    children = b"".join(text(f"layer{i}") + b"h\x05)\x81}(" + settings + b"h\x06h\x02ub" for i in range(count))
    return head + b"h\x05)\x81}(" + children + b"ub."


def header(count):
    entries = {
        key: {"dtype": "BF16", "shape": [1, 1], "data_offsets": [2 * i, 2 * i + 2]} for i, key in enumerate(keys(count))
    }
    return json.dumps(entries, separators=(",", ":")).encode()


def old_file(count):
    stored = b"".join((1).to_bytes(8, "little") + bytes(4) for _ in range(count))
    names = b"\x80\x02](" + b"".join(text(str(i)) for i in range(count)) + b"e."
    return legacy(state_dict(count)) + names + stored


@pytest.mark.parametrize(
    ("name", "make", "count"),
    [
        ("model.pt", lambda: archive(state_dict(60_000), 60_000), 60_000),
        ("model.pt", lambda: archive(training_state(15_000), 60_000), 60_000),
        ("model.pth", lambda: old_file(60_000), 60_000),
        ("model.jit", lambda: archive(modules(40_000)), 40_000),
        ("model.safetensors", lambda: safetensors(header(50_000)) + bytes(100_000), 50_000),
    ],
    ids=["state dict", "training state", "legacy", "TorchScript", "safetensors"],
)
def test_files_of_many_times_the_tensors_of_any_network_are_read(tmp_path, name, make, count):
    (tmp_path / name).write_bytes(make())
    assert opened(tmp_path / name) == f"read {count}"


def test_an_index_of_many_tensors_is_read(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(safetensors(header(50_000)) + bytes(100_000))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(keys(50_000), "a.safetensors")}))
    assert opened(index) == "read 50000"
