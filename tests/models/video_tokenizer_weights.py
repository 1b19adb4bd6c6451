"""Tokenizer weights for tests: checkpoint tensors through the real weight table."""

from functools import cache

import jax.numpy as jnp
import numpy as np

from convert.formats.archive import open_archive
from convert.mapping.matching import check_tensors, plan_leaves
from convert.tables.video_tokenizer import IGNORED, RULES
from jax_interp.config import VideoTokenizerConfig
from jax_interp.models.video_tokenizer import VideoTokenizer
from jax_interp.nn.params import Network, unflatten
from tests import golden

TINY = VideoTokenizerConfig(channels=8)
"""The tokenizer of the golden data."""

FAST_COMPILE = {"xla_backend_optimization_level": 0}
"""Same graph and rounding points, machine code a third as long in the making."""


@cache
def network(precision: str, config: VideoTokenizerConfig = TINY) -> Network[VideoTokenizer]:
    return Network(lambda rngs: VideoTokenizer(config, dtype=jnp.dtype(precision), rngs=rngs))


@cache
def golden_tensors() -> dict[str, np.ndarray]:
    """Every tensor of the golden checkpoint folder, the statistics under the names that the table gives them."""
    folder = golden.CHECKPOINTS / "Cosmos-Tokenize1-CV8x8x8-720p"
    files = {"encoder.safetensors": "", "decoder.safetensors": ""}
    files |= {"mean_std.pt": "mean_std.", "image_mean_std.pt": "image_mean_std."}
    return {
        prefix + key: tensor.read()
        for name, prefix in files.items()
        for key, tensor in open_archive(folder / name).items()
    }


def convert(tensors: dict[str, np.ndarray], config: VideoTokenizerConfig, precision: str) -> dict:
    """Parameters of `VideoTokenizer` from tensors in upstream's key names."""
    leaves = plan_leaves(RULES, network(precision, config).abstract)
    check_tensors(leaves, IGNORED, tensors).check("test tensors")
    return unflatten(
        {leaf.path: jnp.asarray(leaf.op.forward(tensors[leaf.keys[0]])).astype(precision) for leaf in leaves}
    )


@cache
def golden_params(precision: str) -> dict:
    return convert(golden_tensors(), TINY, precision)
