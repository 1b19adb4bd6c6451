"""Tokenizer, text encoder and the whole pipeline on a mesh."""

from typing import Any

import numpy as np
import pytest

from jax_interp import Interpolator
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from tests import golden
from tests.changed_weights import change_weight, nudge
from tests.pipeline.test_many_devices import PLACEMENTS, Quick, Quickly
from tests.tolerances import NETWORK_F32

pytestmark = pytest.mark.slow


class QuickText(Quickly, PromptNetwork):
    pass


FRAMES = golden.load("inputs_clip")["frames"]
SIZE: dict[str, Any] = {"height": 16, "width": 48, "num_video_frames": 10}
"""3 cells a frame."""


PROMPT = "rain on a tin roof"


def test_text_on_a_mesh(converted):
    found = find_component(converted, "text_encoder")
    right = QuickText(found, "float32").encode(PROMPT).rows
    for shape, placement in (
        (MeshShape(tensor=2), "resident"),
        (MeshShape(sequence=2), "sharded"),
        (MeshShape(sequence=2), "streamed"),
        (MeshShape(data=2, tensor=2), "streamed but one"),
    ):
        network = QuickText(found, "float32", DeviceMesh(shape))
        network.place(PLACEMENTS[placement])
        assert golden.relative_l2(network.encode(PROMPT).rows, right) < NETWORK_F32, (shape, placement)
        change_weight(network, "blocks/mlp/down/kernel", lambda array: nudge(array, 1))
        assert golden.relative_l2(network.encode(PROMPT).rows, right) > NETWORK_F32
        network.unload()


@pytest.fixture(scope="module")
def many(converted):
    """The whole pipeline on 3×2 devices; the tokenizer with the optimizations that users have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jax_interp.pipeline.base.Denoiser", Quick)
        patch.setattr("jax_interp.pipeline.prompt.text.PromptNetwork", QuickText)
        many = Interpolator.from_pretrained(converted, dtype="float32", mesh="data=3,sequence=2", embedding_cache=False)
    assert many.devices.shape == MeshShape(3, 2)
    assert many.text_encoder is not None
    assert isinstance(many.text_encoder.network, QuickText)
    assert many.text_encoder.network.devices is many.codec.devices is many.devices
    yield many
    many.unload()


def test_pairs_spread_over_devices_have_the_same_latents_and_frames(interpolators, many):
    """Four on three devices."""
    pairs = [(FRAMES[first], FRAMES[last]) for first, last in ((0, 1), (1, 2), (2, 3), (3, 0))]

    def there_and_back(codec):
        latents = codec.encode_pairs(pairs, **SIZE)
        return np.asarray(latents), np.stack(list(codec.decode_pairs(latents[::-1])))

    theirs, ours = (there_and_back(each.codec) for each in (interpolators["float32"], many))
    for mine, right in zip(ours, theirs, strict=True):
        assert len({pair.tobytes() for pair in right}) == 4
        assert mine.tobytes() == right.tobytes()
    assert np.array_equal(many.codec.decode(ours[0][-1]), theirs[1][0])


def test_a_clip_on_a_mesh(interpolators, many):
    """Four pairs, three at a time, with the text encoded on the mesh."""
    frames = np.concatenate([FRAMES, FRAMES[:1]])
    one, spread = (each.interpolate(frames, num_steps=1, **SIZE) for each in (interpolators["float32"], many))
    assert spread.frames.shape == (37, 16, 48, 3)
    assert golden.relative_l2(spread.latents, one.latents) < NETWORK_F32
    assert np.abs(spread.frames.astype(int) - one.frames).max() <= 1
