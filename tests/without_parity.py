"""Runs pytest as it runs where the extra `parity` is not installed: `python -m tests.without_parity [ARGUMENTS]`.

The packages of the extra, and torch's own, are neither found nor imported, whether they are installed or not.
"""

import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution

MISSING = {"torch", "torchgen", "functorch", "diffusers", "peft", "accelerate"}


class FinderOfTheRest:
    """Finds what Python's finder of files finds, but for `MISSING`."""

    @staticmethod
    def find_spec(name: str, *where) -> ModuleSpec | None:
        return None if name.partition(".")[0] in MISSING else PathFinder.find_spec(name, *where)

    @staticmethod
    def find_distributions(*context) -> Iterable[Distribution]:
        return (found for found in PathFinder.find_distributions(*context) if found.name not in MISSING)


if __name__ == "__main__":
    sys.meta_path[:] = [FinderOfTheRest if finder is PathFinder else finder for finder in sys.meta_path]

    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
