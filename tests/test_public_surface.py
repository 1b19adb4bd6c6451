"""What `jax_interp` exports is enough to write down every type that its signatures and its errors name."""

import ast
import builtins
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from types import ModuleType
from typing import Any

import pytest

import convert
import jax_interp

ASSEMBLED = {"Interpolator", "Video2World", "Guardrails", "Planner"}
"""Opened or returned by what is public: their constructors and fields take the program's own parts."""


PARTS = {"Between", "ClipCodec", "ConvertedComponent", "Entries", "EulerSampler", "NetworkStage"}
"""Ranges of settings, and what the program's own parts ask for; no caller names them."""


def names_in(annotation: ast.expr | None) -> set[str]:
    """Identifiers of an annotation; what stands in quotes is read too, shapes of arrays are not."""
    found: set[str] = set()
    if annotation is None:
        return found
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


def annotations_of(value: Any, name: str) -> set[str]:
    """Identifiers in the signatures of a function, or of the public methods, properties and fields of a class."""
    return set().union(*(_own_annotations(each, name) for each in lineage(value)))


def lineage(value: Any) -> list[Any]:
    """A function, or a class and those of the project that it inherits from."""
    if not inspect.isclass(value):
        return [value]
    return [value, *(each for each in value.__mro__[1:] if each.__module__.startswith("jax_interp"))]


def _own_annotations(value: Any, name: str) -> set[str]:
    [node] = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    functions, found = [node], set()
    if isinstance(node, ast.ClassDef):
        functions = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        functions = [child for child in functions if not child.name.startswith("_")]
        if name not in ASSEMBLED:
            fields = [child for child in node.body if isinstance(child, ast.AnnAssign)]
            found |= set().union(*(names_in(field.annotation) for field in fields))
    for function in functions:
        assert isinstance(function, ast.FunctionDef)
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        found |= set().union(names_in(function.returns), *(names_in(argument.annotation) for argument in arguments))
    return found


def raised_by(value: object) -> set[str]:
    """Errors that the docstrings of a function, or of a class and its public methods, name under `Raises:`."""
    members = [value]
    if inspect.isclass(value):
        names = [name for each in lineage(value) for name in vars(each) if not name.startswith("_")]
        members += [getattr(value, name) for name in names]
    sections = (re.split(r"\n\s*Raises:\n", inspect.getdoc(member) or "") for member in members)
    lines = (line for _, *raises in sections for part in raises for line in part.split("\n\n")[0].splitlines())
    heads = (re.match(r"\s*((?:[A-Z]\w+(?:, )?)+):", line) for line in lines)
    return {name for head in heads if head for name in head[1].split(", ")}


def home(value: object) -> ModuleType:
    return importlib.import_module(value.__module__)


EXPORTS = {
    name: getattr(jax_interp, name)
    for name in jax_interp.__all__
    if inspect.isclass(getattr(jax_interp, name)) or inspect.isfunction(getattr(jax_interp, name))
}


@pytest.mark.parametrize("name", EXPORTS)
def test_types_of_signatures_are_exported(name):
    value = EXPORTS[name]
    named = annotations_of(value, name)
    homes = [home(each) for each in lineage(value)]
    ours = {each for each in named if any(_is_ours(getattr(place, each, None), each) for place in homes)}
    assert ours - set(jax_interp.__all__) == set()


def _is_ours(found: object, name: str) -> bool:
    """Whether it is one of the project's classes or callables; arrays and texts are written down without an alias."""
    is_class = inspect.isclass(found) and found.__module__.startswith("jax_interp")
    return (is_class and name not in PARTS) or name in {"ConditionNoise", "PairProgress"}


@pytest.mark.parametrize("name", EXPORTS)
def test_errors_that_docstrings_name_are_exported(name):
    raised = raised_by(EXPORTS[name])
    assert {error for error in raised if not hasattr(builtins, error)} <= set(jax_interp.__all__)


def test_the_walk_sees_what_it_is_to_see():
    walked = annotations_of(jax_interp.Interpolator, "Interpolator")
    assert {"Guardrails", "MeshShape", "Adapter", "UpsamplerSettings", "ConditionNoise", "Planner"} <= walked
    assert {"UsageError", "CheckpointError", "Blocked", "OutOfMemory"} <= raised_by(jax_interp.Interpolator)


def test_every_name_is_there_and_listed_once():
    assert sorted(set(jax_interp.__all__)) == sorted(jax_interp.__all__)
    assert set(jax_interp.__all__) - {"__version__"} == set(jax_interp._HOME)
    assert all(hasattr(jax_interp, name) for name in jax_interp.__all__)


@pytest.mark.parametrize("package", ["jax_interp", "convert"])
def test_importing_costs_nothing(package):
    code = f"import sys, {package}; print([name for name in ('jax', 'numpy', 'typer') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_functions_of_convert_outlive_the_import_of_its_modules():
    import convert.conversion
    import convert.exporting
    import convert.inspection

    assert all(inspect.isfunction(getattr(convert, name)) for name in convert.__all__)


@pytest.mark.parametrize("name", convert.__all__)
def test_functions_of_convert_say_how_they_are_called(name):
    text = inspect.getdoc(getattr(convert, name)) or ""
    assert f"convert.{name}(" in text
    assert "Raises:" in text
