"""Text embeddings on disk: a cache that fills itself, and files that a user carries from one machine to another.

Both are safetensors files with the texts or checksums in their metadata; only the rows of the prompt are stored.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jax_interp.errors import CheckpointError, JaxInterpError, UsageError
from jax_interp.files.atomic import write_atomically
from jax_interp.files.disk import why_not_written
from jax_interp.files.json_file import parse_json
from jax_interp.files.json_schema import decode
from jax_interp.files.private_folder import prepare_private_folder, user_cache_folder
from jax_interp.terminal import one_line

logger = logging.getLogger("jax_interp")

PROMPT_TOKENS = 512
"""The number of tokens that a prompt is padded or cut to, which is the number of rows of every embedding that a network
reads."""

MAX_ENTRY_BYTES = 1 << 26
"""The largest number of bytes of a cache entry that is read: `PROMPT_TOKENS` rows of 32,768 numbers."""

FILE_FORMAT = "jax-interp text embeddings 1"


@dataclass(frozen=True)
class Embedding:
    """One encoded text: one row for each token, without padding."""

    rows: Float[np.ndarray, "S D"]
    num_tokens: int
    """The number of tokens of the whole text; larger than the number of rows if the text was cut."""

    def padded(self) -> Float[np.ndarray, "P D"]:
        """Return `PROMPT_TOKENS` rows in float32; the rows after the prompt are zero."""
        out = np.zeros((PROMPT_TOKENS, self.rows.shape[1]), np.float32)
        out[: len(self.rows)] = self.rows
        return out


class EmbeddingCache:
    """A folder of embeddings with one file for each pair of network and text.

    Any number of the user's processes may share it, because files are written atomically. An entry that fails its
    checksum is computed again. A folder that cannot be written, or that other users can write to, costs a warning,
    never the run. Other users must not write there because an embedding in the cache replaces a text that was checked.
    """

    def __init__(self, folder: Path | None = None):
        self._chosen = folder

    @property
    def folder(self) -> Path:
        """The folder of the cache.

        Raises:
            OSError: it is to be in the user's cache folder, and the user has none.
        """
        return default_folder() if self._chosen is None else Path(self._chosen)

    def get(self, network: str, text: str) -> Embedding | None:
        """Return the embedding of `text` by the network with identity `network`; None if it is absent or damaged."""
        if not self._is_private:
            return None
        path = self._path(network, text)
        try:
            _refuse_no_file(path, MAX_ENTRY_BYTES)
            with safe_open(path, framework="numpy") as file:
                rows, metadata = file.get_tensor("rows"), file.metadata()
            embedding = Embedding(rows, int(metadata["tokens"]))
            if metadata["sha256"] != _checksum(embedding):
                raise ValueError("wrong checksum")
            if faults := _faults({text: rows}):
                raise ValueError("; ".join(faults))
            return embedding
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            fault = one_line(str(error))
            logger.warning("%s: damaged entry of the embedding cache (%s); encoding its text again", path, fault)
            return None

    def put(self, network: str, text: str, embedding: Embedding) -> None:
        """Store `embedding` for `get` with the same `network` and `text`."""
        if not self._is_private:
            return
        path = self._path(network, text)
        metadata = {"tokens": str(embedding.num_tokens), "sha256": _checksum(embedding)}
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, save({"rows": embedding.rows}, metadata), mode=0o600)
        except OSError as error:
            logger.warning("%s: %s; until then this text is encoded anew each time", path, why_not_written(path, error))

    @cached_property
    def _is_private(self) -> bool:
        """Whether nobody else can write to the folder; a fault is logged once."""
        try:
            prepare_private_folder(self.folder)
        except OSError as error:
            logger.warning(
                "the cache of text embeddings cannot be written or trusted (%s): every run encodes its prompts anew."
                " Set XDG_CACHE_HOME to a folder that only you can write to, or keep none (--no-embedding-cache)",
                error,
            )
            return False
        return True

    def _path(self, network: str, text: str) -> Path:
        key = hashlib.sha256(f"{network}\0{text}".encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.safetensors"


def default_folder() -> Path:
    """Return `jax-interp/embeddings` in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`)."""
    return user_cache_folder() / "embeddings"


def save_embeddings(path: str | Path, embeddings: Mapping[str, Float[np.ndarray, "S D"]]) -> None:
    """Write texts and their embeddings, as `TextEncoder.encode` returns them, into one `.safetensors` file.

    Zero rows at the end are left out. The file replaces one of the same name.

    Raises:
        UsageError: an embedding is not 1 to 512 rows of finite numbers, or widths differ; the message names every one.
        JaxInterpError: the file cannot be written.
    """
    path = Path(path)
    arrays = {text: np.asarray(rows).astype(np.float32) for text, rows in embeddings.items()}
    faults = _faults(arrays)
    if not arrays or faults:
        raise UsageError(f"{path}: cannot save embeddings: " + ("; ".join(faults) or "there are none"))
    tensors = {f"{index:06d}": _without_padding(rows) for index, rows in enumerate(arrays.values())}
    metadata = {"format": FILE_FORMAT, "texts": json.dumps(list(arrays))}
    try:
        write_atomically(path, save(tensors, metadata))
    except OSError as error:
        raise JaxInterpError(f"{path}: {why_not_written(path, error)}") from error


def load_embeddings(path: str | Path) -> dict[str, Float[np.ndarray, "S D"]]:
    """Read a file that `save_embeddings` wrote: return float32 rows without padding, by text.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    try:
        _refuse_no_file(path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FILE_FORMAT:
                raise CheckpointError(f"{path}: not a file of text embeddings; write one with `save_embeddings`")
            texts = decode(list[str], parse_json(metadata["texts"]))
            arrays = {text: file.get_tensor(f"{i:06d}").astype(np.float32) for i, text in enumerate(texts)}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file of text embeddings") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged file of text embeddings ({one_line(str(error))}); write it again"
        ) from error
    if faults := _faults(arrays):
        raise CheckpointError(f"{path}: " + "; ".join(faults) + "; write it again")
    return arrays


def _refuse_no_file(path: Path, most_bytes: int | None = None) -> None:
    """Raise `ValueError` for a path that would block a reader (a pipe, a device) or fill the memory."""
    if not path.is_file() and path.exists():
        raise ValueError("it is not a file")
    if most_bytes is not None and path.stat().st_size > most_bytes:
        raise ValueError(f"it is larger than {most_bytes} bytes")


def _faults(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Return the reasons why `arrays` cannot be embeddings of one network."""
    faults = [
        f"{text[:40]!r} has shape {rows.shape}, expected finite numbers [1 to {PROMPT_TOKENS}, width]"
        for text, rows in arrays.items()
        if rows.ndim != 2 or not 0 < len(rows) <= PROMPT_TOKENS or not np.isfinite(rows).all()
    ]
    widths = sorted({rows.shape[-1] for rows in arrays.values() if rows.ndim == 2})
    return faults + ([f"widths differ: {widths}"] if len(widths) > 1 else [])


def _without_padding(rows: np.ndarray) -> np.ndarray:
    length = int(np.flatnonzero(rows.any(axis=1)).max(initial=0)) + 1
    return np.ascontiguousarray(rows[:length])


def _checksum(embedding: Embedding) -> str:
    rows = np.ascontiguousarray(embedding.rows)
    return hashlib.sha256(f"{embedding.num_tokens} {rows.dtype} {rows.shape} ".encode() + rows.tobytes()).hexdigest()
