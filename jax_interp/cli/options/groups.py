"""Groups of options: declared once as the fields of a frozen dataclass, and expanded into the signature of a command.

```python
@dataclass(frozen=True)
class SizeOptions:
    height: Annotated[int, typer.Option(help="Output height.")] = 704
    width: Annotated[int, typer.Option(help="Output width.")] = 1280

@with_options
def command(size: Annotated[SizeOptions, Under("Sampling")]) -> None: ...

# --height 64: size == SizeOptions(64, 1280)
```
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import wraps
from typing import Annotated, Any, Protocol, get_args, get_origin, runtime_checkable

_KIND = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True)
class Under:
    """The way in which a command shows a group, for example `Under("Sampling", only=("height", "width"))`."""

    panel: str | None = None
    """The heading in the help."""
    only: tuple[str, ...] | None = None
    """The options of the group that the command has, in this order; the others keep their defaults. None shows all."""
    help: Mapping[str, str] = field(default_factory=dict)
    """Help texts that replace the group's own, by the name of the option."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults that replace the group's own, by the name of the option."""


class Part(Protocol):
    """Some options of a command, and the single value that they become; for example, the folders of all networks."""

    def options(self) -> Iterator[inspect.Parameter]:
        """Return a keyword parameter for each option."""
        ...

    def take(self, values: dict[str, Any]) -> Any:
        """Return the value of this part, made from `values` by the names of the options."""
        ...


@runtime_checkable
class Expands(Protocol):
    """An annotation of a field that stands for several options, for example `cli.options.networks.EachFolder()`."""

    def part(self, under: Under) -> Part:
        """Return these options as a part of a command that shows them as `under` says."""
        ...


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the groups among the parameters of `command` by their options, in place."""
    signature = inspect.signature(command)
    parts = {name: _part(parameter, Under()) for name, parameter in signature.parameters.items()}

    @wraps(command)
    def with_each_option(**values: Any) -> None:
        command(**{name: part.take(values) for name, part in parts.items()})

    parameters = [option for part in parts.values() for option in part.options()]
    with_each_option.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_each_option.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_each_option


@dataclass(frozen=True)
class _Option:
    parameter: inspect.Parameter

    def options(self) -> Iterator[inspect.Parameter]:
        yield self.parameter

    def take(self, values: dict[str, Any]) -> Any:
        return values.get(self.parameter.name, self.parameter.default)


@dataclass(frozen=True)
class _Group:
    group: type
    parts: Mapping[str, Part]
    only: tuple[str, ...] | None

    def options(self) -> Iterator[inspect.Parameter]:
        each = [option for part in self.parts.values() for option in part.options()]
        if self.only is None:
            return iter(each)
        by_name = {option.name: option for option in each}
        return iter([by_name[name] for name in self.only])

    def take(self, values: dict[str, Any]) -> Any:
        return self.group(**{name: part.take(values) for name, part in self.parts.items()})


def _part(parameter: inspect.Parameter, outer: Under) -> Part:
    """Return the part for `parameter` of a command, or of a group that is shown as `outer` says."""
    kind, notes = parameter.annotation, []
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
    under = next((note for note in notes if isinstance(note, Under)), outer)
    if is_dataclass(kind) and isinstance(kind, type):
        inside = replace(under, only=None)
        return _Group(kind, {each.name: _part(_parameter(each), inside) for each in fields(kind)}, under.only)
    for note in notes:
        if isinstance(note, Expands):
            return note.part(under)
    return _Option(_shown(parameter, kind, notes, under))


def _shown(parameter: inspect.Parameter, kind: Any, notes: list[Any], under: Under) -> inspect.Parameter:
    """Return `parameter` with the help, heading and default of `under`."""
    [info] = notes
    info = copy.copy(info)
    info.rich_help_panel = info.rich_help_panel or under.panel
    info.help = under.help.get(parameter.name, info.help)
    default = under.defaults.get(parameter.name, parameter.default)
    return inspect.Parameter(parameter.name, _KIND, default=default, annotation=Annotated[kind, info])


def _parameter(each: Field[Any]) -> inspect.Parameter:
    default = inspect.Parameter.empty if each.default is MISSING else each.default
    return inspect.Parameter(each.name, _KIND, default=default, annotation=each.type)
