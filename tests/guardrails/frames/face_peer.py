"""What upstream makes of RetinaFace's outputs, written plainly: PyTorch for the boxes, loops for the rest."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from jax_interp.guardrails.frames.pixelate import pixelate


def anchors(height, width):
    rows = []
    for cell, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for i in range(math.ceil(height / cell)):
            for j in range(math.ceil(width / cell)):
                for side in sides:
                    x, y = (j + 0.5) * cell / width, (i + 0.5) * cell / height
                    rows.append((x, y, side / width, side / height))
    return torch.tensor(rows, dtype=torch.float32)


def decode(offsets, height, width):
    priors, offsets = anchors(height, width), torch.from_numpy(offsets)
    centre = priors[:, :2] + offsets[:, :2] * 0.1 * priors[:, 2:]
    side = priors[:, 2:] * torch.exp(offsets[:, 2:] * 0.2)
    corner = centre - side / 2
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    return (torch.cat([corner, corner + side], dim=1) * scale).numpy()


def overlap(a, b):
    """Of two boxes whose last pixel counts, over their union."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, np.float32(0)) * max(height, np.float32(0))
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return shared / (areas[0] + areas[1] - shared)


def faces(offsets, scores, height, width):
    """Boxes of the faces of one frame, the surest first."""
    boxes = decode(offsets, height, width)
    sure = [index for index in range(len(scores)) if scores[index] > 0.7]
    kept = []
    for index in sorted(sure, key=lambda index: -scores[index])[:5000]:
        if all(overlap(boxes[other], boxes[index]) <= 0.4 for other in kept):
            kept.append(index)
    return boxes[kept[:750]].reshape(-1, 4)


def blurred(net, frames):
    """Frames after upstream's postprocessing, and the boxes of each."""
    x = torch.from_numpy(frames[..., ::-1].astype(np.float32)) - torch.tensor([104.0, 117.0, 123.0])
    with torch.no_grad():
        offsets, classes, _ = net(x.permute(0, 3, 1, 2))
    found = [faces(o.numpy(), c[:, 1].numpy(), *frames.shape[1:3]) for o, c in zip(offsets, classes, strict=True)]
    return np.stack([pixelate(frame, boxes) for frame, boxes in zip(frames, found, strict=True)]), found
