"""How much arithmetic a training step of the diffusion transformer is.

Model FLOP are those that the mathematics of a step asks for. A product of an [n, k] and a [k, m] matrix is 2·n·k·m.

- forward F = linear layers + attention. Linear: of every block 2·L·(4·D² + 2·D² + 2·D·M) for queries, keys, values
  and outputs of the L tokens, queries and outputs of the attention to a text, and the MLP, plus 2·S·2·W·D for the keys
  and values of the S text tokens; and the first and last layer. Attention: of every block 4·L²·D + 4·L·S·D.
- backward: 2 × attention (both products have two factors with a gradient), and of linear layers 1 × for the gradients
  of their inputs, and 1 × more for those of their weights if the weights are trained.

So a step of the whole network is 3·F, and one of an adapter 2 × linear + 3 × attention. (The adapter's own products,
the modulations, which are of one token, and the optimizer are left out: together less than 0.5 %.) What is computed
again because it was not kept is work of the hardware, not of the model: it raises the time and not the FLOP.
"""

from typing import NamedTuple

from jax_interp.config import DiTConfig

PEAK = {"H100": 989.4e12, "H200": 989.4e12}
"""Dense bfloat16 FLOP/s of the data sheet (SXM), by a part of the device's name."""


class Flops(NamedTuple):
    """The FLOP of a forward of one sample, by kind."""

    linear: float
    attention: float

    @property
    def forward(self) -> float:
        """The FLOP of the whole forward."""
        return self.linear + self.attention


def forward_flops(config: DiTConfig, tokens: int, text_tokens: int) -> Flops:
    """Return the FLOP of one forward of one sample."""
    width, patch = config.width, config.patch_size**2
    inner = config.num_heads * config.head_width
    of_tokens = 4 * width * inner + 2 * width * inner + 2 * width * config.mlp_width
    ends = width * patch * (config.input_channels + config.latent_channels)
    linear = config.num_blocks * (2 * tokens * of_tokens + 2 * text_tokens * 2 * config.text_width * inner)
    return Flops(linear + 2 * tokens * ends, config.num_blocks * 4 * tokens * (tokens + text_tokens) * inner)


def step_flops(forward: Flops, *, backward: bool, adapter: bool) -> float:
    """Return the model FLOP of a step for one sample; without `backward`, those of a forward alone."""
    if not backward:
        return forward.forward
    return (2 if adapter else 3) * forward.linear + 3 * forward.attention


def utilisation(flops: float, seconds: float, device_kind: str, devices: int) -> float | None:
    """Return `flops` of a step over what `devices` could do in its time; None for a device without a known peak."""
    peak = next((peak for name, peak in PEAK.items() if name in device_kind), None)
    return None if peak is None else flops / (seconds * devices * peak)
