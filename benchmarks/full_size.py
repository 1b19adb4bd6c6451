"""The whole path at full size with random weights, on one GPU: checkpoint, convert, one forward, one pair.

```
python -m benchmarks.full_size make WORK            # upstream's layout: 7B transformer, tokenizer, T5-11B encoder
jax-interp convert --checkpoint-dir WORK/checkpoints --output-dir WORK/converted
python -m benchmarks.full_size torch-forward WORK   # diffusers in float32 (the oracle) and bfloat16
python -m benchmarks.full_size jax-forward WORK     # ours, compared with both: one JSON line
python -m benchmarks.full_size pair WORK            # `jax-interp generate` on two pictures: one JSON line
```

Random weights tell whether two implementations agree, how long they take and what memory they need; they say nothing
about how a video looks.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from jax_interp.config import CV8X8X8_720P, DIT_7B, T5_11B

HEIGHT, WIDTH, FPS = 704, 1280, 24
GOLDEN_T5 = Path(__file__).parents[1] / "tests/data/golden/checkpoints/google-t5/t5-11b"


def make(work: Path) -> None:
    """Write a random checkpoint of the real sizes in upstream's layout."""
    import torch

    from benchmarks import dit_peer
    from convert.components import COMPONENTS

    root = work / "checkpoints"
    for component in COMPONENTS.values():
        (root / component.folder).mkdir(parents=True, exist_ok=True)
    with torch.device(_device()):
        torch.set_default_dtype(torch.bfloat16)
        peer = dit_peer.build(DIT_7B)
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


def torch_forward(work: Path) -> None:
    """Run diffusers on the transformer's weights in float32 and bfloat16; keep inputs and outputs."""
    import torch

    from benchmarks import dit_peer

    torch.backends.cuda.matmul.allow_tf32 = False
    inputs = _forward_inputs()
    path = work / "checkpoints/Cosmos-Predict1-7B-WorldInterpolator/model.pt"
    state = torch.load(path, map_location=_device(), weights_only=True, mmap=True)
    outputs = {}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.device("meta"):
            peer = dit_peer.build(DIT_7B)
        named = {name: state[dit_peer.upstream_name(name)].to(_device(), dtype) for name in peer.state_dict()}
        peer.load_state_dict(named, assign=True)
        peer.eval()
        tensors = {name: torch.from_numpy(value).to(_device()) for name, value in inputs.items()}
        out = dit_peer.forward(peer, **tensors, fps=FPS)
        outputs[str(dtype).removeprefix("torch.")] = out.cpu().numpy()
        del peer, named, out
    np.savez(work / "forward.npz", **inputs, **outputs)


def jax_forward(work: Path) -> None:
    """Run ours on the converted weights and print how it compares."""
    import jax
    import jax.numpy as jnp

    from jax_interp import Interpolator
    from jax_interp.nn.attention import cudnn_available

    with np.load(work / "forward.npz") as stored:
        arrays = dict(stored)
    # The peer computes its rotary angles in float32, so ours must as well.
    interpolator = Interpolator.from_pretrained(work / "converted", rotary_precision="float32")

    def run():
        return jax.block_until_ready(
            interpolator.denoise_net(
                arrays["x"], arrays["c_noise"], arrays["text"], arrays["mask"], FPS, padding_mask=arrays["padding_mask"]
            )
        )

    started = time.perf_counter()
    ours = np.asarray(run(), np.float32)
    first = time.perf_counter() - started
    times = sorted(_timed(run) for _ in range(10))
    error, peers = (_relative_l2(out, arrays["float32"]) for out in (ours, arrays["bfloat16"]))
    _print(
        "dit_forward_7b",
        config={"latents": [3, 88, 160, 16], "tokens": 10560, "dtype": "bfloat16", "weights": "random"},
        error_against_float32={"ours": error, "diffusers_bfloat16": peers, "ratio": error / peers},
        attention="cudnn" if cudnn_available() else "xla",
        first_call_seconds=first,
        forward_ms={"median": 1e3 * times[len(times) // 2], "min": 1e3 * times[0]},
        peak_device_bytes=(jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    )
    assert jnp.isfinite(ours).all()
    assert error <= 1.5 * peers, f"{error} against {peers}"


def pair(work: Path) -> None:
    """Interpolate between two pictures through the command line and print its run record."""
    import imageio.v3 as iio

    generator = np.random.default_rng(0)
    for name in ("first", "last"):
        small = generator.integers(0, 256, (11, 20, 3), np.uint8)
        iio.imwrite(work / f"{name}.png", np.kron(small, np.ones((64, 64, 1), np.uint8)))
    command = [
        "jax-interp", "generate", "--input", str(work / "first.png"), str(work / "last.png"),
        "--checkpoint-dir", str(work / "converted"), "--video-save-folder", str(work), "--video-save-name", "pair",
        "--offload-text-encoder-model", "--disable-prompt-upsampler",
    ]  # fmt: skip
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jax_interp", *command[1:]], check=True)
    record = json.loads((work / "pair.json").read_text())
    _print(
        "pair_7b",
        config={"height": HEIGHT, "width": WIDTH, "steps": 35, "dtype": "bfloat16", "weights": "random"},
        wall_seconds=time.perf_counter() - started,
        frames=record["frames"],
        seconds=record["seconds"],
        peak_memory_bytes=record["peak_memory_bytes"],
    )


def convert(work: Path) -> None:
    """Convert everything through the command line and print time and peak memory."""
    arguments = ["convert", "--checkpoint-dir", str(work / "checkpoints"), "--output-dir", str(work / "converted")]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jax_interp", *arguments], check=True)
    size = sum(path.stat().st_size for path in (work / "converted").rglob("*") if path.is_file())
    _print(
        "convert_full_size",
        config={"components": ["7B transformer", "tokenizer", "T5-11B encoder"], "weights": "random"},
        wall_seconds=time.perf_counter() - started,
        converted_bytes=size,
        peak_host_bytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    )


def _forward_inputs() -> dict[str, np.ndarray]:
    """Inputs whose values bfloat16 represents, so that every precision reads the same ones."""
    import ml_dtypes

    generator = np.random.default_rng(0)
    shape = (1, 3, HEIGHT // 8, WIDTH // 8, 16)
    mask = np.zeros((*shape[:4], 1), np.float32)
    mask[:, [0, -1]] = 1
    values = {
        "x": generator.standard_normal(shape),
        "c_noise": np.asarray([0.25]),
        "text": generator.standard_normal((1, 512, DIT_7B.text_width)),
        "mask": mask,
        "padding_mask": np.zeros_like(mask),
    }
    return {name: np.asarray(value).astype(ml_dtypes.bfloat16).astype(np.float32) for name, value in values.items()}


def _random_tensors(component: str, config) -> dict:
    """Tensors under upstream's names for every array of a network: normal over the root of the fan-in, norms one."""
    import torch

    from convert.components import COMPONENTS

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


def _relative_l2(ours: np.ndarray, theirs: np.ndarray) -> float:
    difference = np.linalg.norm(ours.astype(np.float64) - theirs)
    return float(difference / np.linalg.norm(theirs.astype(np.float64)))


def _timed(run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _print(name: str, **values) -> None:
    print(json.dumps({"benchmark": name, **environment(), **values}), flush=True)


COMMANDS = {"make": make, "convert": convert, "torch-forward": torch_forward, "jax-forward": jax_forward, "pair": pair}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](Path(sys.argv[2]))
