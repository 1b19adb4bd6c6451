"""Formatting and parsing amounts of bytes.

Memory is counted in GiB, as `nvidia-smi` and JAX do, and disks and downloads in GB, as their makers and the hub do.
"""

import math

GIB = 2**30
UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": GIB}
"""The number of bytes of each unit, by the unit's name."""


def format_bytes(size: int, unit: str | None = None, *, digits: int = 1) -> str:
    """Format `size` bytes, as "1.4 GB", with `digits` digits after the point, rounded to the nearest.

    `unit` is one of `UNITS`; without it, it is the largest of kB, MB and GB that `size` has at least one of.
    """
    if unit is None:
        unit = next((name for name in ("GB", "MB") if size >= UNITS[name]), "kB")
    return f"{size / UNITS[unit]:.{digits}f} {unit}"


def gib(size: int) -> str:
    """Format `size` bytes of memory, as "6.0 GiB", rounded to the nearest tenth."""
    return format_bytes(size, "GiB")


def gib_or_more(size: int) -> str:
    """Format like `gib`, but rounded up: for an amount that a user should provide, so that it suffices for `size`."""
    return f"{math.ceil(10 * size / GIB) / 10:.1f} GiB"


def parse_bytes(text: str) -> int:
    """Parse `8GB`, `5.5 GiB`, `512mib` or a bare number of bytes into bytes; upper and lower case mean the same.

    Raises:
        ValueError: the text is no finite amount of one of `UNITS`.
    """
    units = {"": 1} | {name.lower(): size for name, size in UNITS.items()}
    stripped = text.strip().lower()
    number = stripped.rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        return int(float(number) * units[stripped[len(number) :].strip()])
    except (KeyError, OverflowError, ValueError) as error:
        raise ValueError(f"{text}: expected an amount of bytes like 8GB or 6GiB") from error
