"""One whole pair, ours and upstream's way of running it, in the same process.

```
python -m benchmarks.bench_pair WORK --peer diffusers
```

Ours: encode, 36 evaluations of one branch, decode, by `Interpolator.interpolate` with prompts encoded before. The peer
does what upstream does with diffusers' networks, eager and in bfloat16: encode, 36 times two branches one after the
other, decode. Its solver is left out: it costs nothing beside the networks.
"""

from typing import Any, get_args

import numpy as np

from benchmarks.measure import FPS, emit, forward_inputs, parser, seconds, summary
from jax_interp import Interpolator
from jax_interp.config import Quantization

CALLS = 36


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--peer", choices=["diffusers"])
    arguments.add_argument("--quantization", choices=get_args(Quantization), default="none")
    options = arguments.parse_args()
    interpolator = Interpolator.from_pretrained(
        options.work / options.model, embedding_cache=False, quantization=options.quantization
    )
    frames = np.random.default_rng(0).integers(0, 256, (2, options.height, options.width, 3), np.uint8)

    def run() -> None:
        # An empty negative prompt is the all-zero embedding, so there is no text stage; `bench_startup` has one.
        interpolator.interpolate(frames, negative_prompt="", height=options.height, width=options.width)

    first = seconds(run)
    times, stages = [], []
    for _ in range(options.repeats):
        interpolator.timings.clear()
        times.append(seconds(run))
        stages.append(dict(interpolator.timings))
    middle = stages[int(np.argsort(times)[len(times) // 2])]
    described = {"model": options.model, "height": options.height, "width": options.width, "steps": 35}
    described["quantization"] = options.quantization
    emit(
        "pair",
        config=described,
        weights="random",
        first_seconds=first,
        pair_ms=summary(times),
        stage_seconds=middle,
    )
    if options.peer:
        config = interpolator.denoiser.config
        interpolator.unload()
        peer = upstreams_way(config, options.height, options.width)
        emit("pair_upstreams_way", config=described, weights="random", stage_seconds=peer, total=sum(peer.values()))


def upstreams_way(config: Any, height: int, width: int) -> dict[str, float]:
    """Return the seconds of every stage with diffusers' networks, each at its second run: the first decode tunes."""
    import torch
    from diffusers import AutoencoderKLCosmos  # pyright: ignore[reportPrivateImportUsage]

    from benchmarks import dit_peer
    from jax_interp.parity.peers import transformer as diffusers_dit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        transformer = diffusers_dit.build(config).eval()
        # The peer makes its wavelets on the CPU, whatever the default device is.
        tokenizer: Any = AutoencoderKLCosmos().eval()
        tokenizer.to(device)
    torch.set_default_dtype(torch.float32)
    dit_peer.randomize(transformer, seed=0)
    inputs = forward_inputs(config, 1, height, width)
    tensors = {name: torch.from_numpy(value).to(device) for name, value in inputs.items()}
    clip, picture = (torch.zeros(1, 3, n, height, width, dtype=torch.bfloat16, device=device) for n in (9, 1))
    latents = [torch.randn(1, 16, n, height // 8, width // 8, device=device).bfloat16() for n in (2, 1)]

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def encode() -> None:
        for part in (clip, picture):
            tokenizer.encode(part)
        finish()

    def denoise(calls: int = CALLS) -> None:
        for _ in range(2 * calls):
            diffusers_dit.forward(transformer, **tensors, fps=FPS)
        finish()

    def decode() -> None:
        for part in latents:
            tokenizer.decode(part)
        finish()

    encode()
    denoise(1)
    decode()
    return {"encode": seconds(encode), "denoise": seconds(denoise), "decode": seconds(decode)}


if __name__ == "__main__":
    main()
