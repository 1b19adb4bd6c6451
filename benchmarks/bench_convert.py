"""Converting checkpoints of the real sizes: seconds, and the most memory that it takes.

```
python -m benchmarks.bench_convert WORK        # writes 25 GB in upstream's layout, and as much again converted
```

Random weights: 7B transformer, tokenizer, T5-11B encoder, in PyTorch's own file format where upstream uses it.
"""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import emit
from jax_interp.config import CV8X8X8_720P, DIT_7B, T5_11B

GOLDEN_T5 = Path(__file__).parents[1] / "tests/data/golden/checkpoints/google-t5/t5-11b"


def main(work: Path) -> None:
    """Make the checkpoints, convert them, print one JSON line."""
    make(work)
    convert(work)


def make(work: Path) -> None:
    """Write a random checkpoint of the real sizes in upstream's layout."""
    import torch

    from benchmarks import dit_peer
    from convert.networks.components import COMPONENTS
    from jax_interp.parity.peers import transformer as diffusers_dit

    root = work / "checkpoints"
    for component in COMPONENTS.values():
        (root / component.folder).mkdir(parents=True, exist_ok=True)
    with torch.device(_device()):
        torch.set_default_dtype(torch.bfloat16)
        peer = diffusers_dit.build(DIT_7B)
    dit_peer.randomize(peer, seed=0)
    torch.save(dit_peer.upstream_state_dict(peer), root / COMPONENTS["diffusion_transformer"].folder / "model.pt")
    del peer
    folder = root / COMPONENTS["tokenizer"].folder
    tensors = _random_tensors("tokenizer", CV8X8X8_720P)
    _save_safetensors(folder / "encoder.safetensors", _starting(tensors, "encoder.", "quant_conv."))
    _save_safetensors(folder / "decoder.safetensors", _starting(tensors, "decoder.", "post_quant_conv."))
    for name in ("mean_std", "image_mean_std"):
        mean = tensors[f"{name}.0"].float()
        torch.save((torch.zeros_like(mean), torch.ones_like(mean)), folder / f"{name}.pt")
    folder = root / COMPONENTS["text_encoder"].folder
    torch.save(_random_tensors("text_encoder", T5_11B), folder / "pytorch_model.bin")
    shutil.copy(GOLDEN_T5 / "tokenizer.json", folder)


def convert(work: Path) -> None:
    """Convert everything through the command line and print time and peak memory."""
    arguments = ["convert", "--checkpoint-dir", str(work / "checkpoints"), "--output-dir", str(work / "converted")]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jax_interp", *arguments], check=True)
    size = sum(path.stat().st_size for path in (work / "converted").rglob("*") if path.is_file())
    emit(
        "convert_full_size",
        config={"components": ["7B transformer", "tokenizer", "T5-11B encoder"], "weights": "random"},
        wall_seconds=time.perf_counter() - started,
        converted_bytes=size,
        peak_host_bytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    )


def _random_tensors(component: str, config) -> dict:
    """Return tensors under upstream's names for every array of a network.

    Values are normal over the root of the fan-in; norms are one.
    """
    import torch

    from convert.networks.components import COMPONENTS

    torch.manual_seed(0)
    tensors = {}
    for leaf in COMPONENTS[component].plan(config):
        shape = leaf.op.inverse(np.broadcast_to(np.zeros((), np.uint8), leaf.part_shape)).shape
        fan_in = int(np.prod(shape[1:])) or 1
        for key in leaf.keys:
            value = torch.randn(shape, device=_device(), dtype=torch.bfloat16) * fan_in**-0.5
            if key.endswith("bias"):
                value = torch.zeros_like(value)
            elif "norm" in key and len(shape) == 1:
                value = torch.ones_like(value)
            elif "wavelets" in key:
                value = torch.full_like(value, 0.5**0.5)
            tensors[key] = value.cpu()
    return tensors


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _starting(tensors: dict, *prefixes: str) -> dict:
    return {name: tensor.contiguous() for name, tensor in tensors.items() if name.startswith(prefixes)}


def _save_safetensors(path: Path, tensors: dict) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
