"""Open any PyTorch checkpoint file without PyTorch: every tensor by its state-dict name, none of them read yet."""

import reprlib
from pathlib import Path
from typing import Literal

from convert.formats.foreign_json import read_foreign_json
from convert.formats.limits import MAX_TENSORS
from convert.formats.names import shown
from convert.formats.pytorch.legacy_file import is_legacy, open_legacy_file
from convert.formats.pytorch.torch_file import open_torch_archive
from convert.formats.safetensors_file import open_safetensors
from convert.formats.stored_tensor import FileStamp, StoredTensor
from jax_interp.errors import CheckpointError

__all__ = ["StoredTensor", "open_archive", "select_state_dict"]

SUFFIXES = (".pt", ".pth", ".bin", ".jit", ".ts", ".safetensors")
INDEX_SUFFIX = ".index.json"

_HEAD_BYTES = 512
_NAMED = 20
"""How many faults of one kind a message names."""


def open_archive(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint file by state-dict name, in the file's order.

    `path` ends in one of `SUFFIXES`, or in `.index.json` for a checkpoint in several files, which must be beside it.
    The first bytes tell PyTorch's two formats and safetensors apart. Nothing in a file is executed and no tensor is
    read: memory does not grow with the size of the file, and `convert.formats.limits` bounds time and memory whatever
    the file holds.

    Raises:
        CheckpointError: the file is missing, damaged, of a format that is not read, names a forbidden global, or holds
            more than is read.
    """
    try:
        return _open(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _open(path: Path) -> dict[str, StoredTensor]:
    head = _read_head(path)
    if path.name.endswith(INDEX_SUFFIX):
        return _open_index(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path}: unknown kind of checkpoint, expected one of {', '.join(SUFFIXES)}, {INDEX_SUFFIX}"
        )
    if head.startswith(b"PK\x03\x04"):
        return open_torch_archive(path)
    if is_legacy(head):
        return open_legacy_file(path)
    _refuse_foreign(path, head)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return open_safetensors(path)
    raise CheckpointError(f"{path}: neither a file of torch.save nor safetensors; it is damaged: download it again")


def select_state_dict(
    tensors: dict[str, StoredTensor], which: Literal["model", "ema"] = "model"
) -> dict[str, StoredTensor]:
    """Return the weights of a post-trained checkpoint `{"model": {...}, "ema": {...}}`, under plain state-dict names.

    A file counts as post-trained if it has tensors below `ema`, or all of them are below `model` and a trainer's own
    state. Separators are "-" below `ema` and become ".". A plain state dict is returned unchanged, whichever is asked
    for: it has one set of weights only.

    Raises:
        CheckpointError: the file is post-trained but lacks `which`; the message names what it holds.
    """
    levels = {key.partition(".")[0] for key in tensors}
    if "ema" not in levels and ("model" not in levels or levels - {"model", *_TRAINER_STATE}):
        return tensors
    chosen = {key.partition(".")[2]: tensor for key, tensor in tensors.items() if key.partition(".")[0] == which}
    if not chosen:
        source = next(iter(tensors.values())).source.partition(":")[0]
        there = ", ".join(map(shown, sorted(levels)[:_NAMED]))
        raise CheckpointError(f"{source}: holds no {which} weights, only {there}; choose one of these")
    return {key.replace("-", "."): tensor for key, tensor in chosen.items()} if which == "ema" else chosen


_TRAINER_STATE = ("optimizer", "optim", "scheduler", "lr_scheduler", "grad_scaler", "callbacks", "trainer")


def _read_head(path: Path) -> bytes:
    """Return the first bytes of a file that may be weights.

    Raises:
        CheckpointError: it is missing, a folder, empty, a git-lfs pointer, or a page that a server sent instead.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder, expected a checkpoint file in it")
    try:
        with FileStamp.of(path).open() as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    if not head:
        raise CheckpointError(f"{path}: the file is empty; download it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: a git-lfs pointer, not the weights; run `git lfs pull` or download it again")
    text = head.lstrip()
    is_binary = b"\0" in head[:8]
    if text.startswith(b"<") and not is_binary:
        raise CheckpointError(f"{path}: a web page, not weights: the server answered with a page; download it again")
    if text.startswith(b"{") and not is_binary and not path.name.endswith(INDEX_SUFFIX):
        raise CheckpointError(
            f"{path}: a JSON text, not weights: the server answered with a message; download it again"
        )
    return head


def _refuse_foreign(path: Path, head: bytes) -> None:
    """Raise `CheckpointError` for pickles of anything else, and for PyTorch's tar format, which is not read."""
    if head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5":
        raise CheckpointError(f"{path}: a bare pickle, not a PyTorch checkpoint; it is refused")
    if head[257:262] == b"ustar":
        raise CheckpointError(
            f"{path}: PyTorch's tar format from before version 0.4, which is not read; with a current PyTorch run"
            f" torch.save(torch.load(p), p) on it, if you trust where it comes from"
        )


def _open_index(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of all files that a Hugging Face index names."""
    names = _read_index(path)
    shards: dict[str, dict[str, StoredTensor]] = {}
    for name in sorted(set(names.values())):
        shards[name] = open_archive(path.parent / name)
        if sum(map(len, shards.values())) > MAX_TENSORS:
            raise CheckpointError(f"{path}: its files have more than {MAX_TENSORS:,} tensors, the most that are read")
    missing = [f"{shown(key)} in {name}" for key, name in names.items() if key not in shards[name]]
    if missing:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise CheckpointError(f"{path}: not found: {', '.join(missing[:_NAMED])}{more}; download index and files again")
    tensors: dict[str, StoredTensor] = {}
    for name, shard in shards.items():
        for key, tensor in shard.items():
            if names.get(key, name) != name:
                continue
            if key in tensors:
                raise CheckpointError(
                    f"{path}: {shown(key)} lies in two files and the index does not say which one counts"
                )
            tensors[key] = tensor
    return tensors


def _read_index(path: Path) -> dict[str, str]:
    """Return the file of every tensor, all in the folder of the index."""
    try:
        weight_map = read_foreign_json(path).get("weight_map")
    except ValueError as error:
        raise CheckpointError(
            f"{path}: not an index of checkpoint files, no weight_map can be read ({error}); download it again"
        ) from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: not an index of checkpoint files (no weight_map); download it again")
    if len(weight_map) > MAX_TENSORS:
        raise CheckpointError(f"{path}: names more than {MAX_TENSORS:,} tensors, the most that are read")
    for name in weight_map.values():
        if not isinstance(name, str) or not _is_plain(name):
            raise CheckpointError(
                f"{path}: names {reprlib.repr(name)}; its files must lie in the same folder under plain names"
            )
    return weight_map


def _is_plain(name: str) -> bool:
    """Tell whether `name` is that of a file of weights in the same folder."""
    return name.endswith(SUFFIXES) and "/" not in name and "\\" not in name and name.isprintable()
