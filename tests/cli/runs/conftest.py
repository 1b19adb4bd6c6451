"""`jax-interp generate` on the golden clip, with tiny guardrails."""

import pytest

from tests import golden
from tests.commands import jax_interp
from tests.guardrails.tiny_guards import link_networks, write_guardrails


@pytest.fixture(scope="module")
def calm_networks(converted, tmp_path_factory):
    """The golden networks beside tiny guardrails to which all frames are safe."""
    root = tmp_path_factory.mktemp("calm")
    checkpoints = write_guardrails(root / "pt", calm=True)
    outcome = jax_interp("convert", "--checkpoint-dir", checkpoints, "--output-dir", root / "all")
    assert outcome.code == 0, outcome.output
    return link_networks(root / "all", converted)


@pytest.fixture
def generate(calm_networks, tmp_path):
    """Run `generate` on the golden clip."""
    fixed = ("--video-save-folder", tmp_path / "out", "--height", 64, "--width", 96, "--num-steps", 1)
    fixed += ("--num-frame-pairs", 2, "--dtype", "float32", "--negative-prompt", "")
    source = ("--input", golden.CLIP)

    def run(*arguments, source=source, checkpoints=calm_networks):
        return jax_interp("generate", *source, "--checkpoint-dir", checkpoints, *fixed, *arguments)

    return run
