"""A calibration without a run: random factors, with a report that fits them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jax_interp.models.dit import DiT
from jax_interp.nn.params import Network
from jax_interp.runtime.checkpoint.calibration import Calibration, CalibrationReport, ProductReport
from jax_interp.runtime.checkpoint.quantizing import quantized_layers
from jax_interp.runtime.checkpoint.smoothing import product_name


def smoothed_abstract(config):
    """The parameters of a smoothed transformer without their values."""
    return Network(lambda rngs: DiT(config, dtype=np.float32, rngs=rngs, quantization="int8-smoothed")).abstract


def drawn_factors(config, seed=0, spread=1):
    """Factors from 2 to the minus `spread` to 2 to the `spread`, for every product."""
    rng = np.random.default_rng(seed)
    layers = quantized_layers(smoothed_abstract(config))
    shapes = {product_name(layer.kernel): (layer.shape[0], layer.shape[-1]) for layer in layers}
    return {
        product: np.exp2(rng.integers(-spread, spread + 1, shape)).astype(np.float32)
        for product, shape in shapes.items()
    }


@dataclass(frozen=True)
class MadeUp:
    """A `convert.request.Calibrate` that takes no time."""

    clip: str = "clip.mp4"
    seed: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        return {"clip": self.clip, "clip_sha256": self.clip[0] * 64, "height": 64, "width": 96}

    def check(self, transformer, tokenizer, kind):
        assert kind == "WorldInterpolator"

    def __call__(self, transformer, tokenizer, text_encoder, progress):
        factors = drawn_factors(transformer.config, self.seed)
        blocks = len(next(iter(factors.values())))
        products = [
            ProductReport(
                block=block,
                product=product,
                largest_channel=8.0,
                strength=0.5,
                int8=0.25,
                smoothed=0.0125,
                bfloat16=0.002,
            )
            for block in range(blocks)
            for product in factors
        ]
        report = CalibrationReport(
            **self.facts,
            text="zeros" if text_encoder is None else "negative prompt",
            windows=1,
            noise_levels=[80.0, 0.002],
            factors_sha256=f"{self.seed:064}",
            sources=transformer.source_sha256,
            products=products,
        )
        return Calibration(report, factors, {product: 1 / array for product, array in factors.items()})
