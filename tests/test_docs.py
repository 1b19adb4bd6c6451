"""README and pages show what was measured, name what exists, and stay within the README's size."""

import re
from pathlib import Path

import pytest

from scripts import demo_tables, update_results, write_cli_reference
from tests.commands import jax_interp

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted(
    {
        (path.name, command, arguments)
        for path in PAGES
        if path.name != "cli.md"
        for command, arguments in re.findall(r"^(?:\S*/|srun .*)?jax-interp (\w+)(.*)$", path.read_text(), re.MULTILINE)
    }
)
LINKS = [
    (path, target)
    for path in PAGES
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    if "://" not in target
]


@pytest.mark.parametrize("path", update_results.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_result_files(path):
    text = path.read_text()
    assert update_results.updated(text, update_results.DOCUMENTS[path]()) == text


def test_other_numbers_would_be_noticed():
    text, write = README.read_text(), update_results.DOCUMENTS[README]
    changed = text.replace(" GiB, process", " GB, process")
    assert changed != text
    assert update_results.updated(changed, write()) == text


def test_demo_shows_every_number_of_steps(monkeypatch):
    ways = {"ours": [20, None], "blend": [19.5, 18], "nearest": [18, 17], "tokenizer": [30, 28]}
    classes = {measure: {"film": ways} for measure in demo_tables.DEMO_MEASURES}
    about = {"device": {"kind": "cpu"}, "shots": 2, "scenes": 1, "windows": {"film": 3}, "weights": "new"}
    earlier = {"num_steps": 4, **about, "weights": "old", **classes}
    lines = [earlier, *({"num_steps": steps, **about, **classes} for steps in (12, 1))]
    monkeypatch.setattr(demo_tables, "results", lambda name: lines)
    _, decibels, _, sharpness, edges = demo_tables.demo_parts()
    assert decibels.startswith("| PSNR, dB | ours, 1 step | ours, 12 steps | blend |")
    assert "| film (3) | 20.00 / – | 20.00 / – | 19.50 / 18.00 |" in decibels
    assert "| film (3) | – | – | 18.00 |" in sharpness
    assert "| film (3) | – | – | 18.00 |" in edges


def test_readme_is_one_screen():
    text = README.read_text()
    assert len(text.split()) <= 900
    rows = re.findall(r"^\|.*\|$", text.split(update_results.BEGIN)[1].split(update_results.END)[0], re.MULTILINE)
    assert len(rows) - 2 <= 8  # without the head and the line below it


def test_command_line_page_is_what_help_prints():
    assert write_cli_reference.DOCUMENT.read_text() == write_cli_reference.reference()


def test_examples_were_found():
    assert {"quickstart.md", "README.md", "memory.md", "several-gpus.md"} <= {page for page, _, _ in EXAMPLES}


@pytest.mark.parametrize(("page", "command", "arguments"), EXAMPLES, ids=lambda value: value.strip()[:40])
def test_flags_of_every_example_exist(page, command, arguments):
    words = {word.rstrip(",") for word in jax_interp(command, "--help").output.split()}
    for flag in re.findall(r"--[a-z0-9-]+", arguments.split("#")[0]):
        assert flag in words


@pytest.mark.parametrize(("path", "target"), LINKS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_links_lead_somewhere(path, target):
    assert (path.parent / target).exists()


def test_every_page_is_in_the_menu():
    menu = set(re.findall(r"\b([a-z0-9-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert menu == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_the_first_page_leads_to_every_other():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs/index.md").read_text()))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} == linked
