"""The classifier of frames in PyTorch: transformers' SigLIP, and the layers that `safety_filter.pt` is the state of."""

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import nn

from jax_interp.config import VideoSafetyConfig


class SafetyFilter(nn.Module):
    """The layers behind SigLIP; they have the names of upstream's file, in which activations are counted too."""

    def __init__(self, width: int = 24, hidden: Sequence[int] = (20, 12), classes: int = 7):
        super().__init__()
        layers, inputs = [], width
        for outputs in hidden:
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
            inputs = outputs
        self.network: Any = nn.Module()
        self.network.layers = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [B, classes] of vectors [B, D] of unit length."""
        return self.network.layers(x)


class VideoSafety(nn.Module):
    """SigLIP's picture encoder and the classifier of its vectors at unit length."""

    def __init__(self, vision: transformers.SiglipVisionConfig, config: VideoSafetyConfig):
        super().__init__()
        self.vision_model = transformers.SiglipVisionModel(vision)
        self.model = SafetyFilter(config.tower.width, config.head_widths, config.num_classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits of pictures [B, 3, Y, X] in [-1, 1]."""
        features = self.vision_model(pixel_values=pixels).pooler_output
        return self.model(features / features.norm(dim=-1, keepdim=True))
