"""Imports only point down: which room may import which, read off the import statements."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATION = {"types", "config", "errors", "_version", "byte_sizes", "files", "terminal"}
SMALLEST = {"types", "config", "errors"}
TABLE = {"components"}
NETWORKS = FOUNDATION | {"nn", "models"}
STAGES = NETWORKS | TABLE | {"diffusion", "media", "guardrails", "runtime", "pipeline.stages"}
VALUES = {"diffusion", "media", "runtime", "pipeline", "pipeline.prompt", "pipeline.memory", "pipeline.safety"}
"""Rooms whose settings make up a request; `tests/cli/test_without_jax.py` holds that none of those imports JAX."""
ALLOWED = {
    "types": set(),
    "errors": set(),
    "_version": set(),
    "byte_sizes": set(),
    "config": {"errors", "files"},
    "components": {"config", "types"},
    "files": {"byte_sizes", "errors"},
    "terminal": {"errors"},
    "nn": SMALLEST | {"files"},
    "models": SMALLEST | {"nn"},
    "diffusion": SMALLEST,
    "media": FOUNDATION,
    "evaluation": FOUNDATION | {"media"},
    "guardrails": FOUNDATION,
    "runtime": FOUNDATION | TABLE | {"nn"},
    "convert.formats": {"errors", "types"},
    "convert.mapping": {"errors", "types", "nn", "convert.formats"},
    "convert.tables": {"config", "convert.mapping"},
    "convert.architecture": {"errors", "config", "convert.formats", "convert.mapping", "convert.tables"},
    "convert.networks": NETWORKS | TABLE | {"convert.mapping", "convert.tables", "convert.architecture"},
    "convert.hub": FOUNDATION | TABLE,
    "convert.lora": FOUNDATION
    | TABLE
    | {"nn", "runtime", "convert.formats", "convert.architecture"}
    | {"convert.networks", "convert.source"},
    "convert.source": FOUNDATION
    | {"convert", "convert.formats", "convert.mapping", "convert.architecture", "convert.networks", "convert.hub"},
    "convert.target": FOUNDATION | {"runtime", "convert", "convert.formats", "convert.mapping", "convert.source"},
    "convert": NETWORKS
    | TABLE
    | {"runtime"}
    | {f"convert.{room}" for room in ("formats", "mapping", "networks", "source", "target", "hub")},
    "train": FOUNDATION,
    "train.optimization": {"train"},
    "train.objective": NETWORKS | {"diffusion", "train"},
    "train.steps": NETWORKS | {"diffusion", "runtime", "train", "train.objective", "train.optimization"},
    "train.data": STAGES | {"pipeline.prompt", "train", "train.steps"},
    "train.runs": STAGES | {"train", "train.data", "train.steps", "train.objective", "train.optimization"},
    "pipeline.stages": STAGES,
    "pipeline.prompt": STAGES,
    "pipeline.memory": STAGES | {"pipeline", "pipeline.prompt"},
    "pipeline.safety": STAGES | {"pipeline", "pipeline.prompt"},
    "pipeline": STAGES | {"pipeline.prompt", "pipeline.memory", "pipeline.safety"},
    "pipeline.calibration": STAGES | {"pipeline", "pipeline.prompt"},
    "pipeline.requests": FOUNDATION | TABLE | VALUES,
    "pipeline.jobs": STAGES
    | {"pipeline", "pipeline.prompt", "pipeline.memory", "pipeline.safety", "pipeline.requests", "convert.lora"},
    "app": STAGES
    | {"pipeline", "pipeline.prompt", "pipeline.memory", "pipeline.safety", "pipeline.requests", "pipeline.jobs"}
    | {"evaluation", "convert"},
    "cli.terminal": FOUNDATION,
    "cli.options": FOUNDATION | TABLE | VALUES | {"pipeline.requests", "train", "convert.hub", "app", "cli.terminal"},
    "cli.runs": STAGES
    | {"pipeline", "pipeline.prompt", "pipeline.memory", "pipeline.safety", "pipeline.requests", "pipeline.jobs"}
    | {"pipeline.calibration"}
    | {"train", "train.data", "train.steps", "train.runs", "convert", "convert.lora", "convert.target", "convert.hub"}
    | {"cli.options", "cli.terminal", "evaluation", "app", "parity", "parity.comparison"},
    "cli.commands": FOUNDATION
    | TABLE
    | VALUES
    | {"pipeline.requests", "train.data", "train.runs", "convert", "convert.lora", "convert.hub", "app", "parity"}
    | {"cli.options", "cli.terminal", "cli.runs"},
    "cli": FOUNDATION | {"cli.commands", "cli.terminal"},
    "parity": FOUNDATION | TABLE,
    "parity.peers": {"config", "errors", "nn", "convert.formats", "convert.architecture"},
    "parity.golden": STAGES | {"pipeline", "parity", "evaluation"},
    "parity.comparison": NETWORKS
    | TABLE
    | {"runtime", "parity", "parity.peers", "parity.golden", "convert"}
    | {f"convert.{room}" for room in ("mapping", "networks", "source", "target")},
    "demo": set(),
    "__main__": {"cli", "cli.terminal"},
    "__init__": {"_version", "config", "errors", "diffusion", "guardrails", "media", "runtime"}
    | {"pipeline", "pipeline.prompt", "pipeline.safety", "pipeline.memory", "pipeline.requests", "pipeline.jobs"}
    | {"pipeline.stages", "pipeline.calibration"},
}
"""What each room may import. Where a package is divided into rooms, its own name stands for the files beside them."""

COORDINATION = "jax_interp.runtime.processes"
COORDINATED = {"jax_interp/pipeline/across_processes.py", "jax_interp/pipeline/jobs/agreements.py"}
"""The files in which processes speak to each other: whoever looks for the order in which they do finds it there."""

SERVER = {"gradio", "gradio_client", "fastapi", "starlette", "uvicorn"}
"""Libraries of the extra `app`, which only `jax_interp/app/web/` may import: nothing else needs the extra."""

DIVIDED = {"cli", "convert", "parity", "pipeline", "train"}
FORBIDDEN = {"torch", "torchvision", "diffusers", "accelerate"}
PEERS = {"parity.peers"}
"""The rooms of PyTorch's networks, which the command `parity` alone imports."""


def modules():
    for folder in ("jax_interp", "convert"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def room(path: Path) -> str:
    """The room of a file, as `runtime`, `pipeline.stages` or `convert.formats`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return _room_of(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def _room_of(module: tuple[str, ...]) -> str:
    parts = module if module[0] == "convert" else module[1:]
    folder = ROOT / ("." if module[0] == "convert" else "jax_interp") / "/".join(parts[:2])
    return ".".join(parts[:2]) if parts[0] in DIVIDED and parts[1:] and folder.is_dir() else parts[0]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def speaks_to_other_processes(path: Path) -> bool:
    """Whether it imports `COORDINATION`, which may be imported by its name or out of its package, or a part of it."""
    package, name = COORDINATION.rsplit(".", 1)
    nodes = list(ast.walk(ast.parse(path.read_text())))
    taken = {(node.module, alias.name) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return (package, name) in taken or any(f"{each}.".startswith(f"{COORDINATION}.") for each in imported(path))


def rooms_of(names: set[str]) -> set[str]:
    ours = [tuple(name.split(".")) for name in names]
    return {_room_of(parts) for parts in ours if parts[0] == "convert" or (parts[0] == "jax_interp" and parts[1:])}


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    names = imported(path)
    here = room(path)
    assert here in PEERS or not {name.split(".")[0] for name in names} & FORBIDDEN
    assert rooms_of(names) - {here} <= ALLOWED[here]


def test_only_the_server_needs_its_libraries():
    web = ROOT / "jax_interp/app/web"
    users = [path for path in modules() if {name.split(".")[0] for name in imported(path)} & SERVER]
    assert users
    assert all(path.is_relative_to(web) for path in users)


def test_only_few_files_speak_to_other_processes():
    own = ROOT / COORDINATION.replace(".", "/")
    others = (path for path in modules() if not path.is_relative_to(own))
    assert {str(path.relative_to(ROOT)) for path in others if speaks_to_other_processes(path)} == COORDINATED


@pytest.mark.parametrize(
    "statement",
    [
        "from jax_interp.runtime import mesh, processes",
        "from jax_interp.runtime.processes import agree",
        "from jax_interp.runtime.processes.watch import Watch",
        "import jax_interp.runtime.processes",
    ],
)
def test_every_way_to_speak_to_them_is_seen(tmp_path, statement):
    source = tmp_path / "bad.py"
    source.write_text(statement + "\n")
    assert speaks_to_other_processes(source)
    source.write_text("from jax_interp.runtime import mesh\nimport jax_interp.runtime.processes_of_another_kind\n")
    assert not speaks_to_other_processes(source)


def test_no_room_is_unknown():
    assert {room(path) for path in modules()} <= set(ALLOWED)


def test_the_rule_can_fail(tmp_path):
    source = tmp_path / "bad.py"
    source.write_text("from jax_interp.pipeline.interpolator import Interpolator\nimport convert.mapping.rules\n")
    assert rooms_of(imported(source)) == {"pipeline", "convert.mapping"}
    assert not rooms_of(imported(source)) <= ALLOWED["nn"]
