from pathlib import Path

import numpy as np
import pytest

from convert.architecture.infer import infer_video_tokenizer
from convert.mapping.matching import check_tensors, plan_leaves
from convert.mapping.ops import channel_table, channel_vector
from convert.tables.video_tokenizer import IGNORED, RULES
from jax_interp.errors import CheckpointError
from tests.models.video_tokenizer_weights import TINY, convert, golden_tensors, network


def leaves():
    return plan_leaves(RULES, network("float32").abstract)


def test_every_key_has_one_use_and_every_array_its_key():
    report = check_tensors(leaves(), IGNORED, golden_tensors())
    assert (report.unknown, report.doubled, report.missing, report.misshapen) == ([], [], [], [])


def test_sizes_are_read_off_the_shapes():
    shapes = {key: tensor.shape for key, tensor in golden_tensors().items()}
    assert infer_video_tokenizer(shapes, Path("folder")) == TINY


def test_every_change_of_layout_is_undone_bit_by_bit():
    for leaf in leaves():
        (key,) = leaf.keys
        tensor = golden_tensors()[key]
        back = leaf.op.inverse(leaf.op.forward(tensor))
        assert (back.shape, back.tobytes()) == (tensor.shape, tensor.tobytes()), key


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("encoder.conv_in.0.conv3d.weight", (8, 192, 3, 3, 3)),
        ("encoder.conv_in.1.conv3d.weight", (8, 8, 3, 3, 3)),
        ("quant_conv.conv3d.weight", (16, 16, 1, 1, 3)),
        ("decoder.up.1.upsample.conv2.conv3d.weight", (32, 32, 1, 3, 5)),
    ],
)
def test_a_kernel_of_another_extent_is_not_cut_to_size(key, shape):
    with pytest.raises(CheckpointError, match=rf"wrong shape[^\n]*\n    {key}: float32"):
        convert(golden_tensors() | {key: np.zeros(shape, np.float32)}, TINY, "float32")


@pytest.mark.parametrize("shape", [(256,), (16, 16), (1, 16, 16, 1, 1)])
def test_statistics_of_clips_may_lie_flat_or_among_ones(shape):
    values = np.arange(256, dtype=np.float32)
    np.testing.assert_array_equal(channel_table.forward(values.reshape(shape)), values.reshape(16, 16))


@pytest.mark.parametrize("shape", [(16,), (16, 1), (1, 16, 1, 1, 1)])
def test_statistics_of_pictures_may_lie_flat_or_among_ones(shape):
    values = np.arange(16, dtype=np.float32)
    np.testing.assert_array_equal(channel_vector.forward(values.reshape(shape)), values)
