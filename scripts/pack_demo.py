"""Put trained networks into the checkpoint folder of `make demo`, in upstream's layout, in bfloat16.

```
python -m scripts.pack_demo WORK --output jax_interp/demo/checkpoints      # WORK is that of scripts/train_demo.py
```

The parameters become converted networks, `jax-interp export` names them as upstream does, and PyTorch, which is
needed for nothing else, packs the transformer and the statistics as the published files are packed. The text encoder,
which is random, is written by `scripts/demo_training/text.py`.
"""

import argparse
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch
from safetensors.torch import load_file

from convert.exporting import export_checkpoints
from convert.networks.components import DIFFUSION_TRANSFORMER, TOKENIZER
from convert.source.provenance import SourceRecord
from convert.target.manifest import write_description
from jax_interp.nn.params import check_complete, unflatten
from jax_interp.runtime.checkpoint.description import PARAMS_FOLDER
from jax_interp.runtime.checkpoint.param_files import ArrayStream, write_params
from scripts.demo_training import tokenizer, transformer

DIT_FOLDER, TOKENIZER_FOLDER = "Cosmos-Predict1-7B-WorldInterpolator", "Cosmos-Tokenize1-CV8x8x8-720p"


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an `.npz` by parameter path; bfloat16 that was stored as whole numbers is restored."""
    with np.load(path, allow_pickle=False) as stored:
        return {
            name: stored[name].view(ml_dtypes.bfloat16) if stored[name].dtype == np.uint16 else stored[name]
            for name in stored.files
        }


def write_converted(folder: Path, component: Any, config: Any, arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays` as a converted network in bfloat16."""
    check_complete(unflatten(dict(arrays)), component.abstract(config))
    half = {path: np.asarray(jnp.asarray(array).astype(jnp.bfloat16)) for path, array in arrays.items()}
    streams = {path: ArrayStream.of(array) for path, array in half.items()}
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(half[path]).tobytes() for path in sorted(half))).hexdigest()
    source = SourceRecord("trained parameters", sum(array.nbytes for array in half.values()), 0, digest, None, None)
    folder.mkdir(parents=True)
    write_params(folder / PARAMS_FOLDER, unflatten(dict(streams)))
    write_description(
        folder,
        component=component.name,
        config=config,
        settings={"trained": {}},
        sources=[source],
        leaves=component.plan(config),
        streams=streams,
    )


def pack(work: Path, output: Path) -> None:
    """Write both networks below `output`; existing folders of theirs are replaced."""
    with tempfile.TemporaryDirectory() as scratch:
        converted, exported = Path(scratch) / "converted", Path(scratch) / "exported"
        write_converted(
            converted / DIT_FOLDER, DIFFUSION_TRANSFORMER, transformer.CONFIG, read(work / "transformer.npz")
        )
        write_converted(converted / TOKENIZER_FOLDER, TOKENIZER, tokenizer.CONFIG, read(work / "tokenizer.npz"))
        export_checkpoints(converted, exported)
        for name in (DIT_FOLDER, TOKENIZER_FOLDER):
            shutil.rmtree(output / name, ignore_errors=True)
            (output / name).mkdir(parents=True)
        pack_transformer(exported / DIT_FOLDER, output / DIT_FOLDER)
        pack_tokenizer(exported / TOKENIZER_FOLDER, output / TOKENIZER_FOLDER)


def pack_transformer(source: Path, target: Path) -> None:
    """Write `model.pt`, with the entries of the published file that inference does not read."""
    state = load_file(source / "model.safetensors")
    longest = max(transformer.CONFIG.grid)
    state["net.pos_embedder.seq"] = torch.arange(longest).bfloat16()
    normed = [name.removesuffix(".weight") for name in state if name.endswith((".1.weight", "affline_norm.weight"))]
    normed = [name for name in normed if ".to_" in name or name.endswith("affline_norm")]
    operators = [name.removesuffix(".to_out.0.weight") + ".attn_op" for name in state if ".to_out." in name]
    state |= {f"{name}._extra_state": torch.empty(0, dtype=torch.uint8) for name in [*normed, *operators]}
    unused = torch.zeros(128).bfloat16()
    state |= {"logvar.0.freqs": unused, "logvar.0.phases": unused, "logvar.1.weight": unused[None].clone()}
    torch.save(state, target / "model.pt")


def pack_tokenizer(source: Path, target: Path) -> None:
    """Write encoder and decoder as safetensors, and their statistics as the tuples that are published."""
    for name in ("encoder", "decoder"):
        shutil.copyfile(source / f"{name}.safetensors", target / f"{name}.safetensors")
    for name in ("mean_std", "image_mean_std"):
        tables = load_file(source / f"{name}.safetensors")
        torch.save(tuple(tables[key] for key in sorted(tables)), target / f"{name}.pt")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("work", type=Path)
    arguments.add_argument("--output", type=Path, default=Path("jax_interp/demo/checkpoints"))
    options = arguments.parse_args()
    pack(options.work, options.output)
