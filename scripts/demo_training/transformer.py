"""The training of the demo's diffusion transformer with `jax_interp.train`, on latents that are encoded once."""

from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.config import DiTConfig
from jax_interp.diffusion.condition import FIXED_SIGMA
from jax_interp.models.dit import patch_grid
from jax_interp.nn.params import flatten, unflatten
from jax_interp.nn.rotary import rotary_angles
from jax_interp.train.settings import LogNormal, NoiseSettings, OptimizerSettings, TrainSettings
from jax_interp.train.steps.step import Batch
from jax_interp.types import Params

CONFIG = DiTConfig(
    width=192,
    num_heads=3,
    head_width=64,
    num_blocks=8,
    mlp_width=768,
    text_width=32,
    adaln_rank=32,
    grid=(16, 24, 24),
)
BATCH = 48
FPS = 24.0


@dataclass(frozen=True)
class Phase:
    """A part of the training, which starts from the averaged weights of the phase before."""

    steps: int
    sigma: LogNormal
    """The distribution from which noise levels are drawn."""
    learning_rate: float


PHASES = (
    Phase(8000, LogNormal(0.0, 1.4, 1.5), 1.2e-3),
    # Where things go is decided at high noise, from the two ends alone; that is what takes longest to learn.
    Phase(13000, LogNormal(0.0, 1.6, 4.0), 1.0e-3),
)


def settings(phase: Phase) -> TrainSettings:
    """Return the settings of `phase`; known frames are nearly clean, as with `--condition-noise fixed`."""
    return TrainSettings(
        steps=phase.steps,
        batch_size=BATCH,
        keep="products",  # there is room
        noise=NoiseSettings(sigma=phase.sigma, augment_sigma=LogNormal(0.0, 0.3, FIXED_SIGMA), text_dropout=0.1),
        optimizer=OptimizerSettings(
            learning_rate=phase.learning_rate,
            warmup_steps=300,
            final_factor=0.02,
            epsilon=1e-9,
            weight_decay=0.02,
            ema_rate=0.05,
        ),
    )


def start(params: Params, seed: int) -> Params:
    """Return `params` with small residual branches: the last matrices of modulations and of the output are small."""
    rng, leaves = np.random.default_rng(seed), dict(flatten(params))
    for path, leaf in leaves.items():
        if "modulation/up" in path or path.startswith(("time_out", "final_linear")):
            leaves[path] = jnp.asarray(rng.normal(size=leaf.shape) * 0.02, jnp.float32)
        elif path.startswith("positions/"):
            leaves[path] = jnp.asarray(rng.normal(size=leaf.shape) * 0.5, jnp.float32)
    return unflatten(leaves)


@dataclass(frozen=True)
class Latents:
    """The latents of every window, on the transformer's scale."""

    values: Float[Array, "n 3 H W C"]
    weights: Float[np.ndarray, " n"]
    """The frequency with which each is drawn, relative to the others."""
    text: Float[Array, "512 D"]
    """The embedding that every run at the default guidance reads."""

    def batches(self, seed: int, first_step: int) -> Iterator[Batch]:
        """Yield one batch after the other, from that of `first_step` on; the seed and its number alone decide each."""
        _, height, width, _ = self.values.shape[1:]
        grid = patch_grid((1, 3, height, width, CONFIG.latent_channels), CONFIG.patch_size)
        angles = rotary_angles(
            grid, CONFIG.head_width, fps=FPS, ratio=CONFIG.rotary_ratio, precision="bfloat16"
        )  # as the bfloat16 network is run
        rows = jnp.broadcast_to(jnp.asarray(angles), (BATCH, *angles.shape))
        text = jnp.broadcast_to(self.text, (BATCH, *self.text.shape))
        edges = np.cumsum(self.weights / self.weights.sum())
        step = first_step
        while True:
            drawn = np.random.default_rng([seed, step]).random(BATCH)
            chosen = np.minimum(np.searchsorted(edges, drawn), len(edges) - 1)
            yield Batch(jnp.take(self.values, jnp.asarray(chosen), axis=0).astype(jnp.float32), text, rows)
            step += 1
