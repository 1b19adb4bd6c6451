"""Read the index of a file of `torch.save` from before PyTorch 1.6, as some well-known weights still are.

Five pickles one behind the other (a magic number, the version, facts about the machine, the content, the keys of the
storages), then every storage as its length and its values. The pickles are read by `convert.unpickle`, which cannot run
anything.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from convert.pickle_globals import Storage
from convert.stored_tensor import FileStamp, StoredTensor
from convert.torch_file import MAX_PICKLE_BYTES, locate, named_views
from convert.unpickle import unpickle
from jax_interp.errors import CheckpointError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
VERSION = 1001

_LENGTH_BYTES = 8


def open_legacy_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by state-dict name, as `torch_file.open_torch_archive` names them; none of them is read.

    Raises:
        CheckpointError: the file is damaged or of another version or machine, names a forbidden global, or holds
            something that is no tensor.
    """
    stamp = FileStamp.of(path)
    with stamp.open() as file:
        head = BytesIO(file.read(MAX_PICKLE_BYTES))
    magic, version, machine, content, keys = (unpickle(head, str(path)) for _ in range(5))
    if (magic, version) != (MAGIC_NUMBER, VERSION):
        raise CheckpointError(f"{path}: not a file of torch.save ({magic!r}, version {version!r}); download it again")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointError(f"{path}: was written on a big-endian machine; save it again on a little-endian one")
    views = named_views(content, str(path))
    places = _places(stamp, head.tell(), keys, {view.storage.key: view.storage for view in views.values()}.values())
    return {key: locate(view, stamp, places[view.storage.key], f"{path.name}: {key}") for key, view in views.items()}


def _places(stamp: FileStamp, start: int, keys: Any, storages: Iterable[Storage]) -> dict[str, tuple[int, int]]:
    """First byte and length of every storage, of which the file gives the lengths in values."""
    damaged = f"{stamp.path}: the file is cut short or damaged at its storages; download it again"
    known = {storage.key: storage for storage in storages}
    if not isinstance(keys, list) or len(known) != len(keys) or known.keys() != {str(key) for key in keys}:
        raise CheckpointError(damaged)
    places = {}
    with stamp.open() as file:
        for key in keys:
            file.seek(start)
            count = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            size = count * (known[key].dtype or np.dtype(np.uint8)).itemsize
            start += _LENGTH_BYTES
            if start + size > stamp.size:
                raise CheckpointError(damaged)
            places[key] = start, size
            start += size
    return places
