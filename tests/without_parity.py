"""Runs pytest as it runs where the extra `parity` is not installed: `python -m tests.without_parity [ARGUMENTS]`.

The packages of the extra, and torch's own, are neither found nor imported, whether they are installed or not.
"""

import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution
from typing import Any

MISSING = {"torch", "torchgen", "functorch", "diffusers", "peft", "accelerate"}


def hide_the_extra() -> None:
    """From here on Python's finder of files does not find `MISSING`."""
    find_spec, find_distributions = PathFinder.find_spec, PathFinder.find_distributions

    def spec_of(_: type[PathFinder], name: str, *where: Any) -> ModuleSpec | None:
        return None if name.partition(".")[0] in MISSING else find_spec(name, *where)

    def distributions_of(*context: Any) -> Iterable[Distribution]:
        return (found for found in find_distributions(*context) if found.name not in MISSING)

    setattr(PathFinder, "find_spec", classmethod(spec_of))  # noqa: B010
    setattr(PathFinder, "find_distributions", staticmethod(distributions_of))  # noqa: B010


if __name__ == "__main__":
    hide_the_extra()

    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
