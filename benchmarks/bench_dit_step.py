"""One evaluation of the diffusion transformer, ours and diffusers' in the same process.

```
python -m benchmarks.bench_dit_step WORK --peer diffusers        # resident, beside eager and torch.compile
python -m benchmarks.bench_dit_step WORK --pairs 2
python -m benchmarks.bench_dit_step WORK --quantization int8 --peer torchao    # beside torchao's int8 and float8
python -m benchmarks.bench_dit_step WORK --quantization int8 --placement streamed
python -m benchmarks.bench_dit_step WORK --calibrate clip.mp4       # int8-smoothed
python -m benchmarks.bench_dit_step WORK --latent-frames 16 --peer diffusers   # as long as a clip of 121 frames
```

Ours is timed before and after the peer: the GPU of a long run is warmer and slower than that of a short one. torchao's
programs are compiled for one block, of which all others are copies, and with torch.compile's own settings. `--tuned`
leaves torchao those that it recommends: it then searches every kernel's parameters for minutes.
"""

import gc
import time
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from benchmarks.bench_quantization_quality import calibrated
from benchmarks.measure import (
    FPS,
    LATENT_FRAMES,
    allocator_peak,
    emit,
    forward_inputs,
    parser,
    seconds,
    warm_ms,
)
from jax_interp import Interpolator
from jax_interp.config import Quantization
from jax_interp.nn.attention import fits_flash, flash_available
from jax_interp.runtime.placement import Kind


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=int, default=1)
    arguments.add_argument("--latent-frames", type=int, default=LATENT_FRAMES)
    arguments.add_argument("--repeats", type=int, default=12)
    arguments.add_argument("--quantization", choices=get_args(Quantization), default="none")
    arguments.add_argument("--placement", choices=get_args(Kind), default="resident")
    arguments.add_argument("--calibrate", type=Path, help="a clip: int8-smoothed, calibrated on it in memory")
    arguments.add_argument("--peer", choices=["diffusers", "torchao"])
    arguments.add_argument("--schemes", nargs="*", choices=list(TORCHAO), default=list(TORCHAO), help="of torchao")
    arguments.add_argument("--tuned", action="store_true", help="the compiler's settings that torchao recommends")
    arguments.add_argument("--eager-only", action="store_true", help="leave torch.compile out: it takes 100 s")
    options = arguments.parse_args()
    interpolator = Interpolator.from_pretrained(
        options.work / options.model,
        embedding_cache=False,
        quantization="none" if options.calibrate else options.quantization,
    )
    calibration = None
    if options.calibrate:
        started = time.perf_counter()
        interpolator.denoiser = calibrated(options.calibrate, options.height, options.width, interpolator)
        calibration = time.perf_counter() - started
    interpolator.place({"diffusion_transformer": options.placement})
    denoiser = interpolator.denoiser
    inputs = forward_inputs(denoiser.config, options.pairs, options.height, options.width, options.latent_frames)

    def run() -> np.ndarray:
        return np.asarray(jax.block_until_ready(denoiser.net(**inputs, fps=FPS)))

    load = seconds(lambda: jax.block_until_ready((denoiser.outer, denoiser.blocks)))
    first = seconds(run)
    ours = [warm_ms(run, options.repeats)]
    peak = allocator_peak()
    peers = {}
    if options.peer:
        peers = torch_peer(denoiser.config, inputs, options.repeats, compiled=not options.eager_only)
        if options.peer == "torchao":
            for scheme in options.schemes:
                peers |= torchao_peer(denoiser.config, inputs, options.repeats, scheme, tuned=options.tuned)
        ours.append(warm_ms(run, options.repeats))
    tokens = options.latent_frames * options.height * options.width // 16**2
    q = jax.ShapeDtypeStruct((1, tokens, denoiser.config.num_heads, denoiser.config.head_width), denoiser.dtype)
    emit(
        "dit_step",
        config={"model": options.model, "tokens": tokens, "pairs": options.pairs, "dtype": "bfloat16"}
        | {"quantization": denoiser.converted.quantization, "placement": options.placement},
        weights="random",
        attention="own kernel" if flash_available() and fits_flash(q, q) else "other",
        calibration_seconds=calibration,
        load_seconds=load,
        first_call_seconds=first,
        forward_ms=ours[0],
        forward_ms_after_peer=ours[-1] if options.peer else None,
        allocator_peak_bytes=peak,
        peers=peers,
    )


TORCHAO = {
    "int8_dynamic": ("Int8DynamicActivationInt8WeightConfig", {}),
    "float8_rowwise": ("Float8DynamicActivationFloat8WeightConfig", {"granularity": "PerRow"}),
}
"""torchao's 8-bit schemes that compare with ours: the class of the configuration, and its arguments."""


def torchao_peer(
    config: Any, inputs: dict[str, np.ndarray], repeats: int, scheme: str, *, tuned: bool
) -> dict[str, Any]:
    """Measure the milliseconds of diffusers' transformer, compiled by blocks, with our 8-bit layers in 8 bits.

    If `tuned`, the compiler gets the settings that torchao recommends. A scheme that does not run is reported as the
    error that it raised.
    """
    import torch
    import torchao.quantization as torchao  # pyright: ignore[reportMissingImports]

    from benchmarks import dit_peer
    from jax_interp.parity.peers import transformer as diffusers_dit

    torch._dynamo.reset()
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        peer = diffusers_dit.build(config).eval()
    torch.set_default_dtype(torch.float32)
    dit_peer.randomize(peer, seed=0)
    tensors = {name: torch.from_numpy(value).to("cuda") for name, value in inputs.items()}
    name, arguments = TORCHAO[scheme]
    label = f"{scheme}_tuned" if tuned else scheme

    def is_large(module: Any, path: str) -> bool:
        cross = "attn2.to_k" in path or "attn2.to_v" in path
        return isinstance(module, torch.nn.Linear) and (".ff." in path or (".attn" in path and not cross))

    try:
        settings = {key: getattr(torchao, value)() for key, value in arguments.items()}
        chosen = getattr(torchao, name)(**settings, set_inductor_config=tuned)
        torchao.quantize_(peer, chosen, filter_fn=is_large)
        for block in peer.transformer_blocks:
            block.compile()

        def run() -> None:
            diffusers_dit.forward(peer, **tensors, fps=FPS).cpu()

        result: dict[str, Any] = {f"torchao_{label}_compile_seconds": seconds(run)}
        result[f"torchao_{label}_compiled_ms"] = warm_ms(run, repeats)
    except Exception as error:  # whatever a version of it raises, the other scheme still is measured
        result = {f"torchao_{label}_compiled_ms": f"{type(error).__name__}: {error}"[:300]}
    del peer, tensors
    gc.collect()
    torch.cuda.empty_cache()
    return result


def torch_peer(config: Any, inputs: dict[str, np.ndarray], repeats: int, *, compiled: bool) -> dict[str, Any]:
    """Measure the milliseconds of diffusers' transformer with random weights, eager or compiled."""
    import torch

    from benchmarks import dit_peer
    from jax_interp.parity.peers import transformer as diffusers_dit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        peer = diffusers_dit.build(config).eval()
    torch.set_default_dtype(torch.float32)
    dit_peer.randomize(peer, seed=0)
    tensors = {name: torch.from_numpy(value).to(device) for name, value in inputs.items()}

    def run(model: Any) -> None:
        diffusers_dit.forward(model, **tensors, fps=FPS).cpu()

    result: dict[str, Any] = {"diffusers_eager_ms": warm_ms(lambda: run(peer), repeats)}
    if compiled:
        program = torch.compile(peer)
        result["diffusers_compile_seconds"] = seconds(lambda: run(program))
        result["diffusers_compiled_ms"] = warm_ms(lambda: run(program), repeats)
        del program
    del peer, tensors
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return result


if __name__ == "__main__":
    main()
