"""Imports only point down: which room may import which, read off the import statements."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATION = {"types", "config", "errors", "_version"}
ALLOWED = {
    "types": set(),
    "errors": set(),
    "_version": set(),
    "config": {"errors"},
    "nn": {"types", "config", "errors"},
    "models": FOUNDATION | {"nn"},
    "diffusion": FOUNDATION,
    "media": FOUNDATION,
    "guardrails": FOUNDATION,
    "runtime": FOUNDATION | {"nn"},
    "convert": FOUNDATION | {"nn", "models", "runtime"},
    "pipeline": FOUNDATION | {"nn", "models", "diffusion", "media", "guardrails", "runtime"},
    "cli": FOUNDATION | {"nn", "models", "diffusion", "media", "guardrails", "runtime", "convert", "pipeline"},
    "demo": set(),
    "__main__": {"cli"},
    "__init__": {"_version", "config", "errors", "pipeline", "runtime"},
}
FORBIDDEN = {"torch", "torchvision", "diffusers"}


def modules():
    for folder in ("jax_interp", "convert"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def room(path: Path) -> str:
    top, *rest = path.relative_to(ROOT).parts
    return "convert" if top == "convert" else Path(rest[0]).stem


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def rooms_of(names: set[str]) -> set[str]:
    ours = [name.split(".") for name in names]
    found = {parts[1] for parts in ours if parts[0] == "jax_interp" and len(parts) > 1}
    return found | {"convert" for parts in ours if parts[0] == "convert"}


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    names = imported(path)
    assert not {name.split(".")[0] for name in names} & FORBIDDEN
    here = room(path)
    assert rooms_of(names) - {here} <= ALLOWED[here]


def test_no_room_is_unknown():
    assert {room(path) for path in modules()} <= set(ALLOWED)


def test_the_rule_can_fail(tmp_path):
    source = tmp_path / "bad.py"
    source.write_text("from jax_interp.pipeline.interpolator import Interpolator\nimport convert.mapping.rules\n")
    assert rooms_of(imported(source)) == {"pipeline", "convert"}
    assert not rooms_of(imported(source)) <= ALLOWED["nn"]
