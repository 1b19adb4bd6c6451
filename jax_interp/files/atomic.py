"""Small files that readers see whole or not at all."""

import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write under a temporary name beside `path`, then rename; `mode` are the file's rights, less the umask."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        partial.touch(mode, exist_ok=False)
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
