"""Converted networks of the real sizes with random weights, written without a PyTorch checkpoint before them.

```
python -m benchmarks.random_networks WORK dit-7b tokenizer t5-11b
```

There are also dit-14b, dit-7b-video2world, dit-14b-video2world, pixtral-12b, llama-guard-3-8b, video-safety and
face-blur.

With `--quantization int8` the networks that have large weights are stored in 8 bits.

WORK/NAME then is a folder for `jax-interp generate --checkpoint-dir`, one for each transformer. Random weights tell how
long things take and what memory they need; they say nothing about how a video looks.
"""

import argparse
import math
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_args

import ml_dtypes
import numpy as np

from convert.networks.component import EXTRA_FOLDER
from convert.networks.components import COMPONENTS
from convert.source.provenance import SourceRecord
from convert.target.manifest import write_description
from convert.target.quantize import quantize_streams
from jax_interp.components import TABLE
from jax_interp.config import (
    CV8X8X8_720P,
    DIT_7B,
    DIT_14B,
    LLAMA_3_1_8B,
    PIXTRAL_12B,
    RETINAFACE_RESNET50,
    T5_11B,
    VIDEO_SAFETY,
    Quantization,
)
from jax_interp.nn.params import unflatten
from jax_interp.runtime.checkpoint.description import PARAMS_FOLDER
from jax_interp.runtime.checkpoint.param_files import ArrayStream, write_params
from tests.guardrails.text.llama_tokenizer import write_files
from tests.guardrails.text.word_lists import write_blocklist
from tests.pixtral_tokenizer import write_tokenizer

NETWORKS: dict[str, tuple[str, Any]] = {
    "dit-7b": ("diffusion_transformer", DIT_7B),
    "dit-14b": ("diffusion_transformer", DIT_14B),
    "dit-7b-video2world": ("diffusion_transformer", DIT_7B),
    "dit-14b-video2world": ("diffusion_transformer", DIT_14B),
    "tokenizer": ("tokenizer", CV8X8X8_720P),
    "t5-11b": ("text_encoder", T5_11B),
    "pixtral-12b": ("prompt_upsampler", PIXTRAL_12B),
    "llama-guard-3-8b": ("text_safety", LLAMA_3_1_8B),
    "video-safety": ("video_safety", VIDEO_SAFETY),
    "face-blur": ("face_blur", RETINAFACE_RESNET50),
}
FOLDERS = {f"dit-{size.lower()}-video2world": f"Cosmos-Predict1-{size}-Video2World" for size in ("7B", "14B")}
"""The folders of networks that do not have their component's default folder."""
T5_TOKENIZER = Path(__file__).parents[1] / "tests/data/golden/checkpoints/google-t5/t5-11b/tokenizer.json"
NORMAL = np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32)
"""The values of which every weight is one, scaled, because drawing 14 billion would take minutes."""


def write_network(root: Path, name: str, quantization: Quantization = "none") -> Path:
    """Write network `name` of `NETWORKS` below `root` as `jax-interp convert` would; return its folder."""
    kind, config = NETWORKS[name]
    component = COMPONENTS[kind]
    leaves = component.plan(config)
    streams = {leaf.path: random_stream(leaf.path, leaf.shape) for leaf in leaves}
    settings: dict[str, Any] = {"dtype": "bfloat16", "weights": "model"}
    quantization = TABLE[kind].runs_in(quantization)
    if quantization != "none":
        settings["quantization"] = quantization
        abstract = component.abstract(config, quantization)
        leaves, streams = quantize_streams(leaves, streams, abstract, quantization, config)
    folder = root / FOLDERS.get(name, component.folder)
    folder.mkdir(parents=True)
    write_params(folder / PARAMS_FOLDER, unflatten(streams))
    if kind == "text_encoder":
        (folder / EXTRA_FOLDER).mkdir()
        shutil.copyfile(T5_TOKENIZER, folder / EXTRA_FOLDER / T5_TOKENIZER.name)
    if kind == "prompt_upsampler":
        write_tokenizer(folder / EXTRA_FOLDER)
    if kind == "text_safety":
        write_files(folder / EXTRA_FOLDER)
        syllables = ("bo", "dri", "fe", "gu", "lan", "mi", "nop", "tar")
        words = ["".join(parts) for parts in product(syllables, repeat=6)]
        # About as many as the published lists have, and as WordNet has nouns.
        write_blocklist(folder / "blocklist", words[:400], words[-1500:], words[:117_000])
    write_description(
        folder,
        component=kind,
        config=config,
        settings=settings,
        sources=[SourceRecord(f"random-{name}", 0, 0, f"random-{name}", None, None)],
        leaves=leaves,
        streams=streams,
    )
    return folder


def random_stream(path: str, shape: tuple[int, ...]) -> ArrayStream:
    """Return bfloat16 weights that keep activations near unit scale.

    They are normal over the root of the fan-in; norms are 1, biases 0.
    """
    layer = shape[1:] if "blocks/" in path else shape
    if path.endswith("bias") or "mean" in path:
        values = np.zeros(1 << 16, np.float32)
    elif len(layer) < 2 or "std" in path:
        values = np.ones(1 << 16, np.float32)
    else:
        values = NORMAL * np.float32(math.prod(layer[:-1]) ** -0.5)
    source = values.astype(ml_dtypes.bfloat16)

    def pieces(rows: int) -> Iterator[np.ndarray]:
        offset = len(path)
        for start in range(0, shape[0] if shape else 1, rows):
            part = (min(rows, shape[0] - start), *shape[1:]) if shape else ()
            size = math.prod(part)
            repeats = -(-(size + offset) // len(source))
            yield np.tile(source, repeats)[offset : offset + size].reshape(part)
            offset = (offset + 7919) % (1 << 15)

    return ArrayStream(shape, source.dtype, pieces)


def main(work: Path, names: list[str], quantization: Quantization = "none") -> None:
    """Write the networks called `names`, and link those that are not transformers into every transformer's folder."""
    for dit in [name for name in names if name.startswith("dit")]:
        write_network(work / dit, dit, quantization)
    for name in [name for name in names if not name.startswith("dit")]:
        folder = write_network(work / "shared", name, quantization).relative_to(work / "shared")
        for dit in work.glob("dit-*"):
            (dit / folder).parent.mkdir(parents=True, exist_ok=True)
            (dit / folder).symlink_to(work / "shared" / folder)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("work", type=Path)
    arguments.add_argument("names", nargs="+", choices=NETWORKS)
    arguments.add_argument("--quantization", choices=get_args(Quantization), default="none")
    options = arguments.parse_args()
    main(options.work, options.names, options.quantization)
