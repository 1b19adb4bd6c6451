"""The options for the networks of a command; they are the same in every command, made from the table of networks."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from jax_interp.cli.options.groups import Under
from jax_interp.components import TABLE, ComponentRow
from jax_interp.config import Quantization

NetworkFolders: TypeAlias = Mapping[str, str | None]
"""The values of a command's options `--NAME-dir` by the name of the network; None where one is not given."""

GUARDRAILS = tuple(name for name, row in TABLE.items() if row.is_guardrail)
"""The names of the networks of the guardrails."""

CONVERTED = "Folder that `jax-interp convert` made."
"""The help text for a folder of converted networks."""


def _which_converted(row: ComponentRow) -> Any:
    """Return the option that chooses among several converted networks of one kind."""
    return typer.Option(help=f"Which {row.title}, if several are converted.")


@dataclass(frozen=True)
class EachFolder:
    """The annotation of a field `folders`, which expands into an option for the folder of each network.

    ```python
    folders: Annotated[NetworkFolders, EachFolder()] = field(default_factory=dict)

    # --tokenizer-dir mine: folders["tokenizer"] == "mine"
    ```
    """

    option: Callable[[ComponentRow], Any] = _which_converted

    def part(self, under: Under) -> "_Folders":
        """Return these options under the heading of `under`."""
        options = {name: self.option(row) for name, row in TABLE.items()}
        for option in options.values():
            option.rich_help_panel = under.panel
        return _Folders(options)


@dataclass(frozen=True)
class _Folders:
    by_network: Mapping[str, Any]

    def options(self) -> Iterator[inspect.Parameter]:
        kind = inspect.Parameter.KEYWORD_ONLY
        for name, option in self.by_network.items():
            yield inspect.Parameter(f"{name}_dir", kind, default=None, annotation=Annotated[str | None, option])

    def take(self, values: dict[str, Any]) -> NetworkFolders:
        return {name: values.get(f"{name}_dir") for name in self.by_network}


@dataclass(frozen=True)
class NetworkOptions:
    """The options for the converted networks, their quantisation, and the adapters that are merged into them."""

    checkpoint_dir: Annotated[Path, typer.Option(help=CONVERTED)] = Path("converted")
    folders: Annotated[NetworkFolders, EachFolder()] = field(default_factory=dict)
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="FILE[=STRENGTH] of a low-rank adapter that is merged into the transformer; may be given several"
            " times."
        ),
    ] = None
    quantization: Annotated[
        Quantization | None,
        typer.Option(
            help="int8: run the transformer and the text encoder in 8 bits, and keep the language models' weights in"
            " them: faster and half the memory, slightly less exact. int8-rotated: the same with a rotation before"
            " rounding, which is more exact where a few channels are much larger than the others. int8-smoothed: with"
            " the factors of a calibration, for folders of `jax-interp convert --calibrate`.",
            show_default="what each network is stored in",
        ),
    ] = None
