"""What goes into products is noted as it is, and noting changes nothing."""

import jax
import numpy as np
import pytest

from benchmarks.measure import FPS, forward_inputs
from jax_interp.nn.quantized_ops import modulate
from jax_interp.pipeline.calibration.recording import ROWS, Evaluation, RecordingDenoiser
from jax_interp.runtime.checkpoint.finding import find_component
from tests.golden import relative_l2
from tests.pipeline.test_many_devices import Quickly
from tests.tolerances import BLOCK_F32


class QuickRecording(Quickly, RecordingDenoiser):
    pass


@pytest.fixture(scope="module")
def recorded(converted):
    """The stage, two evaluations, and what was noted by (block, product)."""
    stage = QuickRecording(find_component(converted, "diffusion_transformer"))
    evaluations = []
    for number in (1, 2):
        inputs = forward_inputs(stage.config, 1, 64, 96)
        inputs["x"] *= number
        evaluations.append(Evaluation(**inputs, angles=stage.angles(inputs["x"].shape, FPS)))
    notes = {}

    def noted(block, params, found):
        for product, each in found.items():
            notes[block, product] = each, np.asarray(stage.weight(params, product))

    stage.record(evaluations, noted)
    return stage, evaluations, notes


def test_every_product_of_every_block_is_noted(recorded):
    stage, _, notes = recorded
    assert set(notes) == {(block, product) for block in range(3) for product in stage.products}
    for (_, product), (inputs, weight) in notes.items():
        assert inputs.rows.shape == (2 * ROWS, len(weight))
        assert (np.abs(inputs.rows).max(0) <= inputs.largest).all()
        assert weight.shape[1] == {"self_attention/qkv": 384, "mlp/up": 512}.get(product, 128)


def test_the_first_products_input_is_the_modulated_stream(recorded):
    """Worked out from the network's parts, for the first block."""
    stage, evaluations, notes = recorded
    largest, rows = [], []
    block = stage.network.bind_part(0, stage._stored.part(0, stage.network.parts[0]))
    for each in evaluations:
        stream, shared = stage._embed(stage.outer, *each)
        tokens = stream.reshape(1, -1, stream.shape[-1]) + shared.positions.expand()
        shift, scale, _ = block.self_modulation(shared)
        expected = np.asarray(modulate(tokens, shift, scale))[0]
        largest.append(np.abs(expected).max(0))
        rows.append(expected[np.linspace(0, len(expected) - 1, ROWS, dtype=int)])
    inputs, _ = notes[0, "self_attention/qkv"]
    assert relative_l2(inputs.largest, np.max(largest, axis=0)) < BLOCK_F32
    assert relative_l2(inputs.rows, np.concatenate(rows)) < BLOCK_F32


def test_the_hidden_layer_is_the_gelu_of_the_product_before(recorded):
    _, _, notes = recorded
    (before, weight), (hidden, _) = notes[1, "mlp/up"], notes[1, "mlp/down"]
    expected = jax.nn.gelu(before.rows @ weight, approximate=False)
    assert relative_l2(hidden.rows, np.asarray(expected)) < BLOCK_F32
