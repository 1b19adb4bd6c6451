"""The table of networks; and whoever has something of its own for each network has it for exactly those."""

import dataclasses
import inspect
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import typer

from benchmarks import random_networks
from convert.hub.catalog import ALTERNATIVES, REPOSITORIES, component_names
from convert.networks.components import COMPONENTS
from jax_interp import Interpolator
from jax_interp.cli.main import app
from jax_interp.components import GUARDRAIL_MODELS, PLACEMENT_NAMES, TABLE, placement_name
from jax_interp.config import DIT_14B, PixtralConfig, to_json
from jax_interp.nn.params import flatten
from jax_interp.parity.comparison.inputs import DRAWS
from jax_interp.parity.comparison.ours import OURS
from jax_interp.pipeline.memory.footprint import footprint
from jax_interp.pipeline.memory.plan import OFFLOADED_FIRST, Planner
from jax_interp.pipeline.safety.guardrails import (
    FRAME_GUARDRAILS,
    GUARD_CLASSES,
    NEGATIVE_PROMPT_GUARDRAILS,
    PROMPT_GUARDRAILS,
    Guardrails,
)
from jax_interp.pipeline.stage_classes import STAGE_CLASSES, planned
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.checkpoint.converted import open_component
from tests.commands import jax_interp
from tests.guardrails.tiny_guards import link_networks

ROWS = list(TABLE.values())
GUARDRAILS = {row.name for row in ROWS if row.is_guardrail}
PLAN_NAMES = [name for row in ROWS for name in row.plan_names]
ROOT = Path(__file__).parents[1]

rows = pytest.mark.parametrize("row", ROWS, ids=TABLE)


def test_the_names_of_the_table():
    assert list(TABLE) == [row.name for row in ROWS]
    assert {row.placed_as for row in ROWS} == set(PLACEMENT_NAMES)
    assert max(Counter(PLACEMENT_NAMES).values()) == 1
    for facts in (PLAN_NAMES, [row.folder for row in ROWS], [row.title for row in ROWS]):
        assert len(set(facts)) == len(facts)


def test_names_of_plans():
    assert TABLE["tokenizer"].plan_names == ("tokenizer",)
    assert TABLE["face_blur"].plan_names == ("guardrail_models/face_blur",)
    pixtral = TABLE["prompt_upsampler"].released_as("12B")
    assert isinstance(pixtral, PixtralConfig)
    assert TABLE["prompt_upsampler"].plan_configs(pixtral) == {
        "prompt_upsampler/pictures": pixtral.vision,
        "prompt_upsampler/language": pixtral.text,
    }
    assert {placement_name(name) for name in PLAN_NAMES} == set(PLACEMENT_NAMES)
    assert TABLE["diffusion_transformer"].released_as("14B") == DIT_14B


def test_flags_have_dashes():
    assert TABLE["text_encoder"].flag == "--text-encoder-dir"


@rows
def test_configurations_are_of_the_class_that_the_table_says(row):
    assert row.released
    assert all(type(config) is row.config for config in row.released.values())
    for config in row.released.values():
        assert row.plan_configs(config).keys() == set(row.plan_names)


@rows
def test_a_converted_folder_of_each_is_opened(row, tmp_path):
    config = row.released_as("7B")
    described = {"format_version": 1, "component": row.name, "config": to_json(config), "dtype": row.precision}
    (tmp_path / "config.json").write_text(json.dumps(described))
    source = {"name": "a", "size": 1, "modified_ns": 0, "sha256": "b", "md5": "c", "published_md5": None}
    manifest = {
        "sources": [source],
        "params": {"a": {"shape": [1], "dtype": row.precision, "source": "a", "op": "copy"}},
        "files": {"a": 1},
        "settings": {"dtype": row.precision, "weights": "model"},
        "component": row.name,
        "format_version": 1,
        "jax_interp": "0",
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert open_component(tmp_path, allow_incomplete=True).config == config


def test_every_network_has_a_converter_and_there_are_no_others():
    assert list(COMPONENTS) == list(TABLE)
    assert all((each.folder, each.flag) == (TABLE[name].folder, TABLE[name].flag) for name, each in COMPONENTS.items())
    assert all(each.rules for each in COMPONENTS.values())


@rows
def test_what_is_converted_is_what_the_stages_read(row):
    """The parameters of the converter's network are those of the stages: of several, each has a folder of its own."""
    config = row.released_as("7B")
    stages = [STAGE_CLASSES[name].structure(part, "float32") for name, part in row.plan_configs(config).items()]
    converted = COMPONENTS[row.name].abstract(config)
    kept_together = list(converted.values()) if row.parts else [converted]
    assert sorted(shapes(each) for each in kept_together) == sorted(shapes(stage.abstract) for stage in stages)


def shapes(tree):
    return sorted((path, leaf.shape) for path, leaf in flatten(tree))


def test_every_network_has_a_stage_and_there_are_no_others():
    assert list(STAGE_CLASSES) == PLAN_NAMES


@rows
def test_every_network_is_planned(row):
    networks = planned(row.name, row.released_as("7B"), row.precision)
    for name, network in networks.items():
        found = footprint(network.stage, network.config, network.precision, Workload())
        assert min(found.params, found.activations) > 2**20, name
    plan = Planner(networks, Workload()).plan({})
    assert plan.stages.keys() == set(row.plan_names)
    assert plan.placements.keys() == {row.placed_as}


def test_what_leaves_the_device_first_is_what_no_run_must_have():
    assert OFFLOADED_FIRST == ("prompt_upsampler", GUARDRAIL_MODELS, "text_encoder")


@pytest.fixture(scope="module")
def everything(tmp_path_factory, converted, guarded):
    """A converted folder with every network of the table, tiny."""
    from tests.convert.pixtral_checkpoints import write_pixtral  # needs torch

    root = tmp_path_factory.mktemp("everything")
    outcome = jax_interp(
        "convert", "--checkpoint-dir", write_pixtral(root / "checkpoints"), "--output-dir", root / "converted"
    )
    assert outcome.code == 0, outcome.output
    for folder in (converted, guarded):
        link_networks(root / "converted", folder)
    return root / "converted"


def test_a_run_has_the_stages_of_the_table(everything):
    interpolator = Interpolator.from_pretrained(everything, prompt_upsampler=True, guardrails=True)
    stages = interpolator._networks.each
    assert {name: type(stage) for name, stage in stages.items()} == STAGE_CLASSES
    for name, stage in stages.items():
        row = TABLE[stage.converted.component]
        assert name in row.plan_names
        assert stage.precision == row.precision, name
    assert interpolator.placements.keys() == set(PLACEMENT_NAMES)
    assert [name for name in interpolator.placements if name in OFFLOADED_FIRST] == list(OFFLOADED_FIRST)


def test_every_network_can_be_downloaded_and_nothing_else():
    assert set(component_names()) == TABLE.keys() | ALTERNATIVES.keys()
    assert set(ALTERNATIVES.values()) <= TABLE.keys()


@rows
def test_the_hub_has_the_folder_of_the_table(row):
    repositories = [each for each in REPOSITORIES if each.component == row.name]
    assert any(each.path(name).startswith(f"{row.folder}/") for each in repositories for name in each.files)
    assert {each.on_request for each in repositories} == {row.used == "on request"}


def test_the_guardrails_have_a_class_for_each_of_their_networks():
    assert {kind.COMPONENT for kind in GUARD_CLASSES} == GUARDRAILS
    asked = {*PROMPT_GUARDRAILS, *FRAME_GUARDRAILS} - {"blocklist"}  # which is no network
    assert asked == GUARDRAILS
    assert set(NEGATIVE_PROMPT_GUARDRAILS) <= GUARDRAILS


def options(command):
    """The options of a command by their parameters' names."""
    return {param.name: param for param in typer.main.get_command(app).commands[command].params}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("generate", TABLE),
        ("memory", TABLE),
        ("convert", TABLE),
        ("check", GUARDRAILS),
        ("upsample", ["prompt_upsampler"]),
    ],
)
def test_options_that_name_a_networks_folder(command, names):
    there = {name for name in options(command) if re.fullmatch(r"(?!checkpoint|output|converted).*_dir", name)}
    assert there == {f"{name}_dir" for name in names}
    for name in names:
        assert TABLE[name].flag in options(command)[f"{name}_dir"].opts


@pytest.mark.parametrize("command", ["generate", "memory"])
def test_options_that_say_what_networks_compute_in(command):
    by_flag = {flag: param for param in options(command).values() for flag in param.opts}
    for row in ROWS:
        assert row.precision_flag is None or by_flag[row.precision_flag].default == row.precision
    flags = {flag for flag in by_flag if flag.endswith("dtype")}
    assert flags == {row.precision_flag for row in ROWS if row.precision_flag}


def test_options_that_offload_and_place():
    found = options("generate")
    offload = [name.removeprefix("offload_").removesuffix("_model") for name in found if name.startswith("offload_")]
    assert sorted(offload) == sorted(PLACEMENT_NAMES)
    assert all(name in found["placement"].help for name in PLACEMENT_NAMES)


def test_arguments_that_name_a_networks_folder():
    def names(function):
        return {name.removesuffix("_dir") for name in inspect.signature(function).parameters if name.endswith("_dir")}

    assert names(Guardrails.open) == GUARDRAILS
    assert names(Interpolator.from_pretrained) == TABLE.keys() - GUARDRAILS


def test_benchmarks_have_random_weights_for_every_network():
    assert {kind for kind, _ in random_networks.NETWORKS.values()} == TABLE.keys()
    assert all(config in TABLE[kind].released.values() for kind, config in random_networks.NETWORKS.values())


def test_a_fact_of_the_table_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TABLE["tokenizer"].folder = "elsewhere"  # type: ignore[misc]


def test_the_recipe_names_files_that_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text()
    paths = re.findall(r"`((?:jax_interp|convert|tests)/[\w./]*)`", text)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_network_can_be_compared_with_pytorchs():
    names = {name.removeprefix(f"{GUARDRAIL_MODELS}/") for name in PLAN_NAMES}
    assert OURS.keys() == DRAWS.keys() == names
