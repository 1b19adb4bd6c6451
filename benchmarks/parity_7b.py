"""The 7B transformer against diffusers on the same weights: our error in bfloat16 over diffusers' own.

```
python -m benchmarks.random_networks WORK dit-7b tokenizer
python -m benchmarks.parity_7b WORK
```

The weights go to diffusers through `jax-interp export`. Both bfloat16 results are held against diffusers in float32.
"""

import gc
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.measure import FPS, emit, forward_inputs, parser
from convert.exporting import export_checkpoints
from jax_interp import Interpolator
from jax_interp.nn.attention import flash_available
from jax_interp.parity.findings import relative_error

LARGEST_RATIO = 1.5


def main() -> None:
    options = parser(__doc__).parse_args()
    folder = options.work / options.model
    exported = options.work / "exported"
    (network,) = export_checkpoints(folder, exported, ("diffusion_transformer",), overwrite=True)
    # The peer computes its rotary angles in float32, so ours must as well.
    denoiser = Interpolator.from_pretrained(folder, rotary_precision="float32", embedding_cache=False).denoiser
    inputs = forward_inputs(denoiser.config, 1, options.height, options.width)
    ours = np.asarray(jax.block_until_ready(denoiser.net(**inputs, fps=FPS)), np.float32)
    denoiser.unload()
    oracle, theirs = peers(denoiser.config, network, inputs)
    error, own = (relative_error(out, oracle) for out in (ours, theirs))
    emit(
        "parity_7b",
        config={"model": options.model, "height": options.height, "width": options.width, "dtype": "bfloat16"},
        weights="random",
        attention="own kernel" if flash_available() else "other",
        error_against_float32={"ours": error, "diffusers_bfloat16": own, "ratio": error / own},
    )
    assert error <= LARGEST_RATIO * own, f"{error} against {own}"


def peers(config: Any, network: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return diffusers' output in float32 and in bfloat16 with the weights in `network`."""
    import torch
    from safetensors.torch import load_file

    from jax_interp.parity.peers import transformer as diffusers_dit

    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    (path,) = network.glob("*.safetensors")
    state = load_file(path)
    tensors = {name: torch.from_numpy(value).to(device) for name, value in inputs.items()}
    outputs = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.device("meta"):
            peer = diffusers_dit.build(config)
        named = {name: state[diffusers_dit.upstream_name(name)].to(device, dtype) for name in peer.state_dict()}
        peer.load_state_dict(named, assign=True)
        outputs.append(diffusers_dit.forward(peer.eval(), **tensors, fps=FPS).cpu().numpy())
        del peer, named
        gc.collect()
    return outputs


if __name__ == "__main__":
    main()
