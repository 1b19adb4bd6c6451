"""Settings that lie beside the weights as JSON: what the shapes of tensors do not tell."""

import reprlib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from convert.formats.foreign_json import read_foreign_json
from convert.formats.locating import find_file
from convert.formats.names import shown
from jax_interp.errors import CheckpointError

_LARGEST = (1 << 31) - 1


class CheckpointSettings:
    """Entries looked up by key; what is wrong is collected, so that one message names it all."""

    def __init__(self, path: Path, values: Mapping[str, Any], section: str = "", faults: list[str] | None = None):
        self.path = path
        self._values = values
        self._section = section
        self._faults = [] if faults is None else faults

    @classmethod
    def read(cls, folder: Path, names: tuple[str, ...]) -> "CheckpointSettings":
        """The first of the files `names` that is in `folder`.

        Raises:
            CheckpointError: there is none of them, or it is not a JSON object.
        """
        settings = cls.find(folder, names)
        if settings is None:
            raise CheckpointError(
                f"{folder}: lacks {' or '.join(names)}, which tells what the weights do not (how wide a head is, how"
                " positions turn it); download it from where the weights are from and put it beside them"
            )
        return settings

    @classmethod
    def find(cls, folder: Path, names: tuple[str, ...]) -> "CheckpointSettings | None":
        """As `read`, but None if there is none of them. `names` are as `find_file` takes them."""
        path = next((path for name in names if (path := find_file(folder, name))), None)
        if path is None:
            return None
        try:
            return cls(path, read_foreign_json(path))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not a model's settings ({error}); download it again") from error

    def has(self, key: str) -> bool:
        """Whether there is such an entry, and it is not null."""
        return self._values.get(key) is not None

    def states(self, key: str) -> bool:
        """Whether there is such an entry, be it null."""
        return key in self._values

    def get(self, key: str, default: Any = None) -> Any:
        """The entry as it is; `default` if it is absent or null."""
        return self._values[key] if self.has(key) else default

    def entries(self) -> Mapping[str, Any]:
        """All of them, as they are."""
        return self._values

    def section(self, key: str) -> "CheckpointSettings":
        """The entry `key`, an object of entries; an absent one is empty."""
        values = self.get(key, {})
        if not isinstance(values, dict):
            self.fault(key, "expected an object of entries")
            values = {}
        return CheckpointSettings(self.path, values, f"{self._section}{key}.", self._faults)

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number; without a default the entry must be there."""
        value = self.get(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max:
            return value
        self.fault(key, "expected a positive number")
        return 1.0

    def integer(self, key: str, default: int | None = None) -> int:
        """A positive whole number of 31 bits; without a default the entry must be there."""
        value = self.number(key, default)
        if value != int(value) or value > _LARGEST:
            self.fault(key, f"expected a whole number up to {_LARGEST:,}")
            return 1
        return int(value)

    def flag(self, key: str) -> bool:
        """True or false; an absent entry is false."""
        value = self.get(key, False)
        if not isinstance(value, bool):
            self.fault(key, "expected true or false")
        return value is True

    def expect(self, key: str, *wanted: Any, default: Any = None) -> None:
        """The entry must be one of `wanted`; if it is absent it is `default`."""
        if self.get(key, default) not in wanted:
            self.fault(key, f"expected {' or '.join(map(repr, wanted))}", default)

    def expect_given(self, fixed: Mapping[str, Any]) -> None:
        """Entries of these names, where there are any, must have these values."""
        for key, value in fixed.items():
            self.expect(key, value, default=value)

    def expect_only(self, known: Collection[str], fixed: Mapping[str, Any]) -> None:
        """There may be no entries but `known`, null ones, and those of `fixed` with their values."""
        self.expect_given(fixed)
        for key in self._values:
            if key not in known and key not in fixed and self.has(key):
                self.fault(key, "not known to this version, expected no such entry")

    def agree(self, found: Mapping[str, Any]) -> None:
        """Entries of these names, where there are any, must be what was found in the weights."""
        for key, value in found.items():
            if self.has(key) and self.get(key) != value:
                self.fault(key, f"but the weights say {value!r}")

    def fault(self, key: str, text: str, default: Any = None) -> None:
        """Note that an entry is wrong: `text` says what was expected."""
        if self.has(key):
            said = f"is {reprlib.repr(self.get(key))}"
        else:
            said = "is missing" if default is None else f"is missing, which means {default!r}"
        self._faults.append(f"{self._section}{shown(key)} {said}, {text}")

    def check(self) -> None:
        """Raise `CheckpointError` for everything that was wrong."""
        if self._faults:
            raise CheckpointError(
                f"{self.path}: not settings of a model that this version runs, or not of the weights beside it:"
                f" {'; '.join(self._faults)}"
            )
