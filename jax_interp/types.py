"""Axis letters and array aliases, defined once.

| letter | axis | letter | axis |
|---|---|---|---|
| `B` | batch (pairs, or pairs times guidance branches) | `L` | video tokens, `T * H/2 * W/2` |
| `T` | latent frames | `S` | text tokens |
| `H` `W` | latent height and width (pixels / 8) | `D` | network width |
| `C` | latent channels | `N` | attention heads |
| `F` | pixel frames | `K` | width of one head |
| `Y` `X` | pixel height and width | `E` | width of the text's vectors, which need not be `D` |
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jax import Array
from jaxtyping import Float, UInt8

Params: TypeAlias = Mapping[str, Any]
"""Parameters: a nested dict of arrays (or of `jax.ShapeDtypeStruct`); it crosses every boundary instead of a module."""

Latents: TypeAlias = Float[Array, "B T H W C"]
Tokens: TypeAlias = Float[Array, "B L D"]
Text: TypeAlias = Float[Array, "B S E"]
Frames: TypeAlias = UInt8[np.ndarray, "F Y X 3"]
"""RGB frames in host memory."""
