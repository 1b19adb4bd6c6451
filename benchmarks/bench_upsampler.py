"""The prompt upsampler at its real size: a picture of 1024×576 and 150 tokens, resident (beside transformers) and not.

```
XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks.bench_upsampler WORK [--only resident streamed offloaded]
```

WORK is a folder in which `python -m benchmarks.random_networks WORK pixtral-12b` wrote. Each case is a process of its
own; with `resident` the same process then runs transformers' model of the same size, with its static cache. Times are
of a second answer. A token cannot take less than reading every weight but the embedding table once: from the GPU's
memory at the bandwidth measured here, or if streamed, over the link from the host at the speed measured here.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import GpuWatch, allocator_peak, emit, in_fresh_process, parser, seconds, summary
from jax_interp.config import PIXTRAL_12B, Quantization
from jax_interp.media.pictures.pixtral_image import prepare_picture
from jax_interp.nn.params import flatten
from jax_interp.pipeline.prompt.prompt_upsampler import PromptUpsampler
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.placement import Placement

CASES = ("resident", "streamed", "offloaded")
PICTURE = 576, 1024
TOKENS = 150
GREEDY = UpsamplerSettings(max_new_tokens=TOKENS, temperature=0)
PROBE_BYTES = 1 << 32


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="*", default=list(CASES), choices=CASES)
    arguments.add_argument("--peer", action="store_true", help="run transformers beside `resident`")
    arguments.add_argument("--tokens", type=int, default=TOKENS)
    arguments.add_argument("--quantization", choices=get_args(Quantization), help="by default as it is stored")
    arguments.add_argument("--child", help="run this case here")
    options = arguments.parse_args()
    if options.child:
        measure(options, options.child)
        return
    for case in options.only:
        more = ["--peer"] if options.peer and case == "resident" else []
        more += ["--quantization", options.quantization] if options.quantization else []
        in_fresh_process(
            "benchmarks.bench_upsampler", str(options.work), "--tokens", str(options.tokens), "--child", case, *more
        )


def measure(options: argparse.Namespace, case: str) -> None:
    """Measure one case: vision, prefill and decode, cold and warm, and their lower bounds."""
    picture = np.random.default_rng(0).integers(0, 256, (*PICTURE, 3), np.uint8)
    with GpuWatch() as watch:
        found = find_component(options.work / "shared", "prompt_upsampler").quantized(options.quantization)
        upsampler = PromptUpsampler(found, "bfloat16")
        upsampler.place(Placement(case))  # type: ignore[arg-type]
        ids = np.asarray(upsampler.prompt_ids(picture, GREEDY.instruction))
        answer = _Answer(upsampler, picture, ids, options.tokens)
        first = seconds(answer.write)
        encode = answer.encode_seconds
        answer.write()
        peaks = {"allocator_peak_bytes": allocator_peak(), "process_peak_bytes": watch.peak}
        moved = {"streamed_bytes": _block_bytes(upsampler) if case == "streamed" else 0}
    emit(
        "upsampler",
        config={"case": case, "picture": PICTURE, "prompt_tokens": len(ids), "new_tokens": options.tokens}
        | {"quantization": found.quantization},
        weights="random",
        first_seconds=first,
        first_encode_seconds=encode,
        encode_ms=1e3 * answer.encode_seconds,
        prefill_ms=1e3 * answer.prefill_seconds,
        token_ms=summary(answer.token_seconds),
        read_bytes=_block_bytes(upsampler) + nbytes(upsampler.language.network.outer_abstract),
        memory_gb_per_s=_memory_bandwidth(),
        host_gb_per_s=_host_bandwidth(upsampler.language.devices),
        **moved,
        **peaks,
    )
    upsampler.unload()
    if options.peer:
        measure_peer(options, picture, ids)


class _Answer:
    """One answer, with times taken from outside the model."""

    def __init__(self, upsampler: PromptUpsampler, picture: np.ndarray, ids: np.ndarray, tokens: int):
        self._upsampler, self._picture, self._ids, self._tokens = upsampler, picture, ids, tokens

    def write(self) -> None:
        """Write the answer as `PromptUpsampler.upsample` does, but without an end token."""
        language, pictures = self._upsampler.language, self._upsampler.pictures
        started = time.perf_counter()
        patches = pictures.encode(prepare_picture(self._picture, self._upsampler.config.vision))
        pictures.offload()
        self.encode_seconds = time.perf_counter() - started
        prompt = language.embed(self._ids)
        prompt[self._ids == 10] = patches.astype(prompt.dtype)
        times = [time.perf_counter()]
        language.answer(
            prompt,
            max_new_tokens=self._tokens,
            stop=(),
            progress=lambda _: times.append(time.perf_counter()),
        )
        self._upsampler.offload()
        self.prefill_seconds = times[1] - times[0]
        self.token_seconds = np.diff(times[2:-1]).tolist()  # behind the last token nothing more is started


def measure_peer(options: argparse.Namespace, picture: np.ndarray, ids: np.ndarray) -> None:
    """Measure transformers' model with random weights, on the same prompt and with its static cache."""
    import torch
    import transformers

    from tests.convert.pixtral_checkpoints import llava_config

    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"), torch.no_grad():
        model: Any = transformers.LlavaForConditionalGeneration(llava_config(PIXTRAL_12B)).eval()
    torch.set_default_dtype(torch.float32)
    pixels = prepare_picture(picture, PIXTRAL_12B.vision)
    inputs = {
        "input_ids": torch.from_numpy(ids.astype(np.int64))[None].cuda(),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long, device="cuda"),
        "pixel_values": torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].to("cuda", torch.bfloat16),
        "image_sizes": torch.tensor([pixels.shape[:2]], device="cuda"),
    }

    def write() -> "_Clock":
        clock = _Clock()
        model.generate(
            **inputs,
            max_new_tokens=options.tokens,
            do_sample=False,
            cache_implementation="static",
            eos_token_id=None,
            pad_token_id=0,
            streamer=clock,
        )
        return clock

    first = seconds(write)
    write()
    clock = write()
    emit(
        "upsampler_peer",
        config={"peer": "transformers", "cache": "static", "prompt_tokens": len(ids), "new_tokens": options.tokens},
        weights="random",
        first_seconds=first,
        encode_and_prefill_ms=1e3 * (clock.times[1] - clock.times[0]),
        token_ms=summary(np.diff(clock.times[2:]).tolist()),
        peak_bytes=torch.cuda.max_memory_allocated(),
    )


class _Clock:
    """A streamer for transformers' `generate`, which gives it the prompt, then every token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        """Record the time of a token."""
        value.cpu()
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing at the end of the answer."""


def _block_bytes(upsampler: PromptUpsampler) -> int:
    network = upsampler.language.network
    return network.num_blocks * nbytes(network.block_abstract)


def _memory_bandwidth() -> float:
    """Return the GB/s at which the GPU reads a large array to sum it, the best of ten."""
    values = jnp.ones(PROBE_BYTES // 2, jnp.bfloat16)
    total = jax.jit(lambda x: jnp.sum(x, dtype=jnp.float32))
    return values.nbytes / _best(lambda: jax.block_until_ready(total(values))) / 1e9


def _host_bandwidth(devices: DeviceMesh) -> float:
    """Return the GB/s from pinned host memory to the GPU."""
    values = devices.keep_on_host({"probe": np.ones(PROBE_BYTES // 8, np.float32)})
    return (
        sum(leaf.nbytes for _, leaf in flatten(values))
        / _best(lambda: jax.block_until_ready(devices.put(values)))
        / 1e9
    )


def _best(run: Callable[[], Any]) -> float:
    run()
    return min(seconds(run) for _ in range(10))


if __name__ == "__main__":
    main()
