"""Read the index of a file of `torch.save` from before PyTorch 1.6, as the face detector's published weights are.

The file has five pickles one behind the other (a magic number, the version, facts about the machine, the content, the
keys of the storages), then every storage as its length and its values. The pickles are read by
`convert.formats.pytorch.unpickle`, which cannot run anything.

The format has no checksums: of its values nothing but their number is compared.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.formats.limits import MAX_TEXT_BYTES
from convert.formats.names import shown
from convert.formats.pytorch.named_views import named_views
from convert.formats.pytorch.pickle_globals import Storage
from convert.formats.pytorch.torch_file import locate_tensor
from convert.formats.pytorch.unpickle import PickleReader
from convert.formats.stored_tensor import ArchiveRecord, FileStamp, StoredTensor
from jax_interp.errors import CheckpointError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
VERSION = 1001

_LENGTH_BYTES = 8
_OPENING = b"\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little")
"""The magic number as a pickle opcode, after the two bytes that state the pickle's protocol."""


def is_legacy(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is of this format."""
    return head[:1] == b"\x80" and head[2:].startswith(_OPENING)


def open_legacy_file(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file by state-dict name, as `open_torch_archive` names them; none of them is read.

    Raises:
        CheckpointError: the file is damaged or of another version or machine, names a forbidden global, or holds
            something that is no tensor.
    """
    stamp = FileStamp.of(path)
    with stamp.open() as file:
        pickles = PickleReader(file.read(MAX_TEXT_BYTES), str(path))
    magic, version, machine, content, keys = (pickles.load() for _ in range(5))
    if (magic, version) != (MAGIC_NUMBER, VERSION):
        # Only a number is shown: what a pickle describes can be endless as text.
        found = version if isinstance(version, int) else "unknown"
        raise CheckpointError(
            f"{path}: not a file of torch.save as before PyTorch 1.6 (version {found}, expected {VERSION}); download it"
            " again"
        )
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointError(f"{path}: was written on a big-endian machine; save it again on a little-endian one")
    views = named_views(content, str(path))
    places = _places(stamp, pickles.position, keys, {view.storage.key: view.storage for view in views.values()})
    return {
        key: locate_tensor(view, stamp, places[view.storage.key], f"{path.name}: {shown(key)}")
        for key, view in views.items()
    }


def _places(stamp: FileStamp, start: int, keys: Any, storages: Mapping[str, Storage]) -> dict[str, ArchiveRecord]:
    """Return the bytes of every storage; they follow each other from byte `start` on, in the order of `keys`.

    The file gives the lengths in values; none is trusted beyond the file's end.
    """
    damaged = f"{stamp.path}: the file is cut short or damaged at its storages; download it again"
    is_known = isinstance(keys, list) and len(keys) == len(storages) and all(type(key) is str for key in keys)
    if not is_known or storages.keys() != {*keys}:
        raise CheckpointError(damaged)
    places = {}
    with stamp.open() as file:
        for key in keys:
            file.seek(start)
            start += _LENGTH_BYTES
            size = int.from_bytes(file.read(_LENGTH_BYTES), "little") * storages[key].itemsize
            if start + size > stamp.size:
                raise CheckpointError(damaged)
            places[key] = ArchiveRecord(start, size)
            start += size
    return places
