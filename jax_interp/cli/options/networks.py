"""The options that name the folder of a network, made from the table of networks: the same ones in every command."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any

import typer

from jax_interp.components import TABLE, ComponentRow

NetworkFolders = Mapping[str, str | None]
"""What a command's options `--NAME-dir` say, by the name of the network; None where one is not given."""

NONE_GIVEN: NetworkFolders = MappingProxyType({})

GUARDRAILS = tuple(name for name, row in TABLE.items() if row.is_guardrail)
"""The networks of the guardrails."""


def with_network_folders(
    option: Callable[[ComponentRow], Any], names: Iterable[str] = tuple(TABLE)
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for the folder of each network in `names`, in the place of its parameter `folders`.

    ```python
    @with_network_folders(which_converted(), ["tokenizer"])
    def command(folders: NetworkFolders = NONE_GIVEN): ...    # --tokenizer-dir mine: folders == {"tokenizer": "mine"}
    ```
    """
    of_parameter = {f"{name}_dir": name for name in names}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(**values: Any) -> None:
            folders = {name: values.pop(parameter) for parameter, name in of_parameter.items()}
            command(**values, folders=folders)

        signature, parameters = inspect.signature(command), []
        for parameter in signature.parameters.values():
            if parameter.name == "folders":
                parameters += [_parameter(each, option(TABLE[name])) for each, name in of_parameter.items()]
            else:
                parameters.append(parameter)
        with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate


def which_converted(panel: str | None = None) -> Callable[[ComponentRow], Any]:
    """The option that chooses among several converted networks of one kind; `panel` is its heading in the help."""
    return lambda row: typer.Option(help=f"Which {row.title}, if several are converted.", rich_help_panel=panel)


def _parameter(name: str, option: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[str | None, option])
