"""Face detection and blurring against upstream's steps in PyTorch, by way of the real conversion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from convert.conversion import ConversionRequest, convert_checkpoints
from jax_interp.guardrails.frames.faces import (
    AnchorOutputs,
    anchor_boxes,
    blur_faces,
    decode_boxes,
    find_faces,
    non_max_suppression,
    prepare_for_detector,
)
from jax_interp.guardrails.frames.pixelate import pixelate
from jax_interp.models.retinaface import RetinaFace
from jax_interp.nn.params import Network
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests.guardrails.frames import face_peer
from tests.models import video_peers

SIZES = [(96, 128), (75, 110)]


def clip(height, width, count=3):
    coarse = np.random.default_rng(0).integers(0, 256, (count, height // 7 + 1, width // 7 + 1, 3), dtype=np.uint8)
    smooth = coarse.repeat(7, axis=1).repeat(7, axis=2)[:, :height, :width]
    return smooth ^ np.random.default_rng(1).integers(0, 32, smooth.shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """(peer that finds a few faces, our converted network as a callable over frames)"""
    peer = calibrated(video_peers.retinaface())
    root = tmp_path_factory.mktemp("faces")
    video_peers.write_face_blur(root / "checkpoints", peer)
    convert_checkpoints(ConversionRequest(checkpoint_dir=root / "checkpoints", output_dir=root / "converted"))
    found = find_component(root / "converted", "face_blur")
    network = Network(lambda rngs: RetinaFace(found.config, dtype=jnp.float32, rngs=rngs))
    params = load_params(found, network.abstract, jnp.float32)
    program = jax.jit(lambda params, frames: network.bind(params)(prepare_for_detector(frames)))

    def detect(frames):
        raw = program(params, frames)
        return AnchorOutputs(np.asarray(raw.offsets), np.asarray(raw.scores))

    return peer, detect


def calibrated(peer):
    """`peer` with logits and offsets of ordinary size, so that some anchors are faces and most are none."""
    with torch.no_grad():
        x = torch.from_numpy(clip(96, 128, 1).astype(np.float32)).permute(0, 3, 1, 2) - 115
        ssh = (peer.ssh1, peer.ssh2, peer.ssh3)
        maps = [module(y) for module, y in zip(ssh, peer.fpn(peer.body(x)), strict=True)]
        for heads, wanted in ((peer.ClassHead, 0.6), (peer.BboxHead, 0.8)):
            for head, features in zip(heads, maps, strict=True):
                out = head.conv1x1(features)
                mean = out.mean((0, 2, 3))
                factor = wanted / (out - mean[:, None, None]).std()
                head.conv1x1.weight.mul_(factor)
                head.conv1x1.bias.copy_((head.conv1x1.bias - mean) * factor)
    return peer


@pytest.mark.parametrize("size", SIZES)
def test_boxes_and_frames_equal_upstreams(detector, size):
    peer, detect = detector
    frames = clip(*size)
    expected, boxes = face_peer.blurred(peer, frames)
    blurred = blur_faces(frames, detect, batch_size=2)
    assert blurred.num_faces == tuple(len(found) for found in boxes)
    assert min(blurred.num_faces) > 1
    assert (blurred.frames != frames).any()
    assert np.abs(blurred.frames.astype(int) - expected.astype(int)).max() <= 1
    for frame, theirs in zip(frames, boxes, strict=True):
        raw = detect(frame[None].repeat(2, axis=0))
        ours = find_faces(raw.offsets[0], raw.scores[0], size)
        assert (ours.astype(int) == theirs.astype(int)).all()
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_channels_in_another_order_are_noticed(detector):
    peer, detect = detector
    frames = clip(*SIZES[0])
    expected, _ = face_peer.blurred(peer, frames)
    wrong = blur_faces(frames, lambda batch: detect(batch[..., ::-1]), batch_size=2)
    assert np.abs(wrong.frames.astype(int) - expected.astype(int)).max() > 1


@pytest.mark.parametrize("size", [(704, 1280), (75, 50), (33, 97), (8, 8)])
def test_anchors_equal_the_peers(size):
    ours, theirs = anchor_boxes(*size), face_peer.anchors(*size).numpy()
    assert ours.shape == theirs.shape
    assert (ours == theirs).all()
    if size == (704, 1280):
        assert len(ours) == 36960


def raw_faces(size, seed, spread=1.0):
    draw = np.random.default_rng(seed)
    count = len(anchor_boxes(*size))
    offsets = draw.normal(0, spread, (count, 4)).astype(np.float32)
    return offsets, draw.uniform(0.4, 0.9, count).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(75, 50), (64, 96)])
def test_the_same_anchors_are_kept_as_by_upstream(size, seed):
    offsets, scores = raw_faces(size, seed)
    ours, theirs = find_faces(offsets, scores, size), face_peer.faces(offsets, scores, *size)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_boxes_equal_the_peers():
    offsets, _ = raw_faces((75, 50), 0, spread=3.0)
    ours = decode_boxes(offsets, anchor_boxes(75, 50), (75, 50))
    np.testing.assert_allclose(ours, face_peer.decode(offsets, 75, 50), rtol=1e-5, atol=1e-3)
    moved = decode_boxes(offsets + np.float32(0.1), anchor_boxes(75, 50), (75, 50))
    assert np.abs(moved - face_peer.decode(offsets, 75, 50)).max() > 0.1


def test_by_hand_a_box_at_an_anchor_of_no_offset():
    # Cell (row 1, column 2) of the finest map, its smaller size: centre (20, 12), side 16.
    index = (1 * 8 + 2) * 2
    (box,) = decode_boxes(np.zeros((1, 4), np.float32), anchor_boxes(64, 64)[index : index + 1], (64, 64))
    np.testing.assert_allclose(box, [12, 4, 28, 20], atol=1e-4)


def test_by_hand_what_overlaps_a_surer_face_is_none():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 3], [0, 0, 9, 4], [20, 20, 29, 29]], np.float32)
    # Pixels included, the second one shares 40 % of the first one's area and stays; the third one shares 50 %.
    assert non_max_suppression(boxes, np.array([0.9, 0.8, 0.75, 0.95], np.float32)).tolist() == [3, 0, 1]
    # A removed box removes nothing: the second one overlaps the third.
    assert non_max_suppression(boxes[[0, 2, 1]], np.array([0.9, 0.8, 0.75], np.float32)).tolist() == [0, 2]
    assert non_max_suppression(boxes[:0], np.zeros(0, np.float32)).tolist() == []


def quiet(frames):
    count = len(anchor_boxes(*frames.shape[1:3]))
    return AnchorOutputs(np.zeros((len(frames), count, 4), np.float32), np.zeros((len(frames), count), np.float32))


def test_no_faces_change_nothing():
    frames = clip(40, 56)
    blurred = blur_faces(frames, quiet)
    assert (blurred.frames == frames).all()
    assert blurred.num_faces == (0, 0, 0)


def test_exactly_the_threshold_is_no_face():
    frames = clip(40, 56, 1)
    found = quiet(frames)
    found.scores[0, 3] = np.float32(0.7)
    assert blur_faces(frames, lambda batch: found, batch_size=1).num_faces == (0,)
    found.scores[0, 3] = np.nextafter(np.float32(0.7), np.float32(1))
    assert blur_faces(frames, lambda batch: found, batch_size=1).num_faces == (1,)


def test_a_face_at_the_corner_and_one_too_small():
    frames = clip(64, 64, 1)
    found = quiet(frames)
    found.scores[0, 1] = 0.9  # centre (4, 4), side 32: reaches from -12 to 20
    found.scores[0, (4 * 8 + 6) * 2] = 0.8  # side 16
    blurred = blur_faces(frames, lambda batch: found, batch_size=1)
    assert blurred.num_faces == (2,)
    assert (blurred.frames[0] == pixelate(frames[0], np.array([[-12, -12, 20, 20]], np.float32))).all()
    assert (blurred.frames[0] != frames[0]).any()


def test_batches_have_one_size_and_frames_stay_in_order():
    frames = np.broadcast_to(np.arange(7, dtype=np.uint8)[:, None, None, None], (7, 40, 40, 3))
    seen = []

    def detect(batch):
        seen.append(batch[:, 0, 0, 0].tolist())
        return quiet(batch)

    assert (blur_faces(frames, detect, batch_size=3).frames == frames).all()
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]


@pytest.mark.parametrize("part", ["offsets", "scores"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_numbers_raise(part, value):
    def broken(batch):
        found = quiet(batch)
        getattr(found, part)[0, 7] = value
        return found

    with pytest.raises(FloatingPointError, match="not numbers"):
        blur_faces(clip(40, 56), broken)


def test_a_box_without_bounds_raises_only_where_a_face_is():
    frames = clip(40, 56, 1)
    found = quiet(frames)
    found.offsets[0, 5, 2] = 1e5
    assert blur_faces(frames, lambda batch: found, batch_size=1).num_faces == (0,)
    found.scores[0, 5] = 0.9
    with pytest.raises(FloatingPointError, match="without bounds"):
        blur_faces(frames, lambda batch: found, batch_size=1)


def test_arrays_of_another_frame_size_are_refused():
    with pytest.raises(ValueError, match="48x40 pixels has 86 anchors"):
        blur_faces(clip(40, 48), lambda batch: quiet(batch[:, :32]))
    with pytest.raises(ValueError, match="expected uint8 frames"):
        blur_faces(clip(40, 48).astype(np.float32), quiet)
