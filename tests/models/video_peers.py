"""PyTorch peers of the networks that look at frames, tiny, and checkpoint folders of them as they are published."""

from pathlib import Path
from typing import TypeVar

import pytest

pytest.importorskip("torch")

import torch
import transformers
from torch import nn

from jax_interp.components import TABLE
from jax_interp.parity.peers.retinaface import RetinaFace
from jax_interp.parity.peers.video_safety import SafetyFilter

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


def safety_filter(**sizes) -> SafetyFilter:
    torch.manual_seed(1)
    return randomized(SafetyFilter(**sizes))


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
