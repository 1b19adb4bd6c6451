"""Writes trained networks as the published checkpoint files: names, dtypes and containers."""

import copy
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from demo_assets.transformer import DiT
from jax_interp.components import TABLE

DIT_FOLDER, TOKENIZER_FOLDER, T5_FOLDER = (
    TABLE[name].folder for name in ("diffusion_transformer", "tokenizer", "text_encoder")
)
LATENT_CHUNK = 16
UNWANTED = ("version", "byteorder", ".data/", "traced_inputs")
"""Records of a TorchScript archive that the writer adds by itself, or that nothing reads."""


def write_dit(path: Path, network: DiT) -> None:
    """`model.pt`: a bfloat16 state dict with the entries of the published file that inference does not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, longest = network.sizes.width, max(network.sizes.grid)
    state = {f"net.{name}": tensor.detach().bfloat16() for name, tensor in network.state_dict().items()}
    state["net.pos_embedder.seq"] = torch.arange(longest).bfloat16()
    normed = [name.removesuffix(".weight") for name in state if name.endswith((".1.weight", "affline_norm.weight"))]
    normed = [name for name in normed if ".to_" in name or name.endswith("affline_norm")]
    operators = [
        name.removesuffix(".to_out.0.weight") + ".attn_op" for name in state if name.endswith(".to_out.0.weight")
    ]
    state |= {f"{name}._extra_state": torch.empty(0, dtype=torch.uint8) for name in [*normed, *operators]}
    unused = torch.zeros(width)
    state |= {"logvar.0.freqs": unused.bfloat16(), "logvar.0.phases": unused.bfloat16()}
    state["logvar.1.weight"] = unused[None].bfloat16()
    torch.save(state, path)


def write_module(path: Path, module: nn.Module, example: Tensor) -> None:
    """A bfloat16 TorchScript archive without the debug records, which name files of the machine that traced it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The wavelets are stored rounded; integers keep their dtype.
    traced = torch.jit.trace(copy.deepcopy(module).bfloat16().eval(), example.bfloat16(), check_trace=False)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / path.name
        torch.jit.save(traced, str(whole))
        reader = torch._C.PyTorchFileReader(str(whole))
        # The archive's root folder is named after the file.
        writer = torch._C.PyTorchFileWriter(str(path))
        for name in reader.get_all_records():
            if not name.endswith(".debug_pkl") and not name.startswith(UNWANTED):
                record = reader.get_record(name)
                writer.write_record(name, record, len(record))
        writer.write_end_of_file()


def write_statistics(folder: Path, mean: Tensor, std: Tensor, image_mean: Tensor, image_std: Tensor) -> None:
    """`mean_std.pt` from `[C, 2]` (the last column repeated to the published 16) and `image_mean_std.pt` from `[C]`."""
    folder.mkdir(parents=True, exist_ok=True)
    filled = [torch.cat([x, x[:, -1:].expand(-1, LATENT_CHUNK - x.shape[1])], dim=1).contiguous() for x in (mean, std)]
    torch.save(tuple(filled), folder / "mean_std.pt")
    torch.save((image_mean, image_std), folder / "image_mean_std.pt")
