"""The comparison on the text guardrail's classifier: Llama Guard 3, and Llama Guard with NVIDIA's adapter merged."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("diffusers")

from jax_interp.parity.comparison.compare import compare
from jax_interp.parity.request import ParityRequest
from tests.convert.test_text_safety import (
    LLAMA_2,
    LLAMA_2_FOLDER,
    LLAMA_3,
    LLAMA_3_FOLDER,
    STRETCHED,
    convert,
    twin,
    write_adapter,
    write_checkpoint,
)
from tests.parity.controls import change, copied, negated_first

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["Llama Guard 3", "Llama Guard with an adapter"])
def guard(request, tmp_path_factory):
    """(checkpoints, converted, folder of the network)"""
    root = tmp_path_factory.mktemp("guard")
    if request.param == "Llama Guard 3":
        base, folder, template = twin(num_key_value_heads=2, rope_parameters=STRETCHED), LLAMA_3_FOLDER, LLAMA_3
    else:
        base, folder, template = twin(), LLAMA_2_FOLDER, LLAMA_2
    checkpoints = write_checkpoint(root / "checkpoints", base, folder, template)
    if folder == LLAMA_2_FOLDER:
        write_adapter(checkpoints, base)
    return checkpoints, convert(checkpoints, folder).path, folder


def compared(checkpoints, converted):
    return compare(ParityRequest(converted=converted, checkpoint_dir=checkpoints, components=("text_safety",)))


def test_it_holds(guard):
    checkpoints, found, folder = guard
    report = compared(checkpoints, found.parents[1])
    assert report.held, report.faults()
    [network] = report.networks
    assert (network.network, network.folder) == ("text_safety", folder)
    assert [block.block for block in network.blocks] == ["embedding", "block 0", "block 1", "end"]
    assert network.float32 is not None


def test_a_wrong_value_is_named(guard, tmp_path):
    checkpoints, found, folder = guard
    array = "blocks/mlp/gate/kernel"
    change(copied(found.parents[1], folder, tmp_path), array, 1, negated_first)
    report = compared(checkpoints, tmp_path)
    assert not report.held
    fault = report.faults()[0]
    assert fault.startswith("text_safety")
    assert ", block 1: 1 value(s) of mlp/gate/kernel are not the checkpoint's" in fault
