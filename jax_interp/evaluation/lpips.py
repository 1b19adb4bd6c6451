"""LPIPS (Zhang et al. 2018), where the package `lpips` and PyTorch are installed; everything else does without."""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from jax_interp.evaluation.metrics import Frames

logger = logging.getLogger("jax_interp")

Lpips = Callable[[Frames, Frames], float]
"""Takes made and true frames, and gives their mean distance: 0 for equal frames."""


def find_lpips() -> Lpips | None:
    """Return LPIPS with AlexNet (version 0.1); None, which the log explains, if it is not installed or has no weights.

    AlexNet's weights come from torchvision, which fetches them when they are first used.
    """
    try:
        lpips: Any = import_module("lpips")
        network: Any = lpips.LPIPS(net="alex", verbose=False).eval()
    except ImportError:
        logger.info("LPIPS is left out: it needs `pip install lpips`, which brings PyTorch")
        return None
    except Exception as error:  # torchvision is of another PyTorch, or cannot fetch the weights
        logger.warning("LPIPS is left out: it cannot be loaded (%s)", error)
        return None
    network.requires_grad_(False)

    def distance(made: Frames, truth: Frames) -> float:
        pairs = zip(made, truth, strict=True)
        return float(np.mean([float(network(lpips.im2tensor(a), lpips.im2tensor(b))) for a, b in pairs]))

    return distance
