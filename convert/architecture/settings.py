"""The JSON settings beside the weights, which tell what the shapes of tensors do not."""

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
    """The entries of a JSON file of settings; what is wrong with them is collected for one message of `check`.

    ```python
    settings = CheckpointSettings.read(folder, ("config.json",))
    layers = settings.integer("num_hidden_layers")
    settings.expect("hidden_act", "silu")
    settings.check()
    ```
    """

    def __init__(self, path: Path, values: Mapping[str, Any], section: str = "", faults: list[str] | None = None):
        self.path = path
        self._values = values
        self._section = section
        self._faults = [] if faults is None else faults

    @classmethod
    def read(cls, folder: Path, names: tuple[str, ...]) -> "CheckpointSettings":
        """Return the settings in the first of the files `names` that is in `folder`.

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
        """Return what `read` returns, or None where `folder` has none of `names`, which `find_file` looks up."""
        path = next((path for name in names if (path := find_file(folder, name))), None)
        if path is None:
            return None
        try:
            return cls(path, read_foreign_json(path))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not a model's settings ({error}); download it again") from error

    def has(self, key: str) -> bool:
        """Tell whether the entry `key` is there and not null."""
        return self._values.get(key) is not None

    def states(self, key: str) -> bool:
        """Tell whether the entry `key` is there, even if it is null."""
        return key in self._values

    def get(self, key: str, default: Any = None) -> Any:
        """Return the entry as it is; `default` if it is absent or null."""
        return self._values[key] if self.has(key) else default

    def entries(self) -> Mapping[str, Any]:
        """Return all entries, as they are."""
        return self._values

    def section(self, key: str) -> "CheckpointSettings":
        """Return the entry `key`, an object of entries; an absent one is empty."""
        values = self.get(key, {})
        if not isinstance(values, dict):
            self.fault(key, "expected an object of entries")
            values = {}
        return CheckpointSettings(self.path, values, f"{self._section}{key}.", self._faults)

    def number(self, key: str, default: float | None = None) -> float:
        """Return a positive number; without a default the entry must be there."""
        value = self.get(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max:
            return value
        self.fault(key, "expected a positive number")
        return 1.0

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a positive whole number of 31 bits; without a default the entry must be there."""
        value = self.number(key, default)
        if value != int(value) or value > _LARGEST:
            self.fault(key, f"expected a whole number up to {_LARGEST:,}")
            return 1
        return int(value)

    def flag(self, key: str) -> bool:
        """Return the entry `key`, which must be true or false; an absent one is false."""
        value = self.get(key, False)
        if not isinstance(value, bool):
            self.fault(key, "expected true or false")
        return value is True

    def expect(self, key: str, *wanted: Any, default: Any = None) -> None:
        """Note a fault unless the entry `key` is one of `wanted`; an absent one counts as `default`."""
        if self.get(key, default) not in wanted:
            self.fault(key, f"expected {' or '.join(map(repr, wanted))}", default)

    def expect_given(self, fixed: Mapping[str, Any]) -> None:
        """Note a fault for every entry that is there and differs from its value in `fixed`."""
        for key, value in fixed.items():
            self.expect(key, value, default=value)

    def expect_only(self, known: Collection[str], fixed: Mapping[str, Any]) -> None:
        """Note a fault for every entry but those in `known`, null ones, and those that equal `fixed`."""
        self.expect_given(fixed)
        for key in self._values:
            if key not in known and key not in fixed and self.has(key):
                self.fault(key, "not known to this version, expected no such entry")

    def agree(self, found: Mapping[str, Any]) -> None:
        """Note a fault for every entry that is there and differs from what was found in the weights."""
        for key, value in found.items():
            if self.has(key) and self.get(key) != value:
                self.fault(key, f"but the weights say {value!r}")

    def fault(self, key: str, text: str, default: Any = None) -> None:
        """Note that the entry `key` is wrong; `text` says what was expected."""
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
