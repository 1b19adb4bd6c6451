"""The checksums of a file, of which each byte is read once."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax_interp.errors import CheckpointError

BLOCK_BYTES = 1 << 23


@dataclass(frozen=True)
class Checksums:
    """The size, date and checksums of a file; `md5` is None if it was not asked for."""

    size: int
    modified_ns: int
    sha256: str
    md5: str | None


def checksum(path: Path, advance: Callable[[int], Any], *, with_md5: bool) -> Checksums:
    """Read a file once for all its checksums; `advance` is told how many bytes were read since its last call.

    Raises:
        CheckpointError: the file cannot be read.
    """
    digests = [hashlib.sha256()] + ([hashlib.md5(usedforsecurity=False)] if with_md5 else [])
    buffers = [bytearray(BLOCK_BYTES), bytearray(BLOCK_BYTES)]
    try:
        with path.open("rb", buffering=0) as file, ThreadPoolExecutor(len(digests)) as pool:
            running: list[Any] = []
            turn = 0
            # One buffer is filled while the other one is digested.
            while count := file.readinto(buffers[turn]):
                block = memoryview(buffers[turn])[:count]
                for job in running:
                    job.result()
                running = [pool.submit(digest.update, block) for digest in digests]
                turn = 1 - turn
                advance(count)
            for job in running:
                job.result()
            status = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    sums = [digest.hexdigest() for digest in digests]
    return Checksums(status.st_size, status.st_mtime_ns, sums[0], sums[1] if with_md5 else None)
