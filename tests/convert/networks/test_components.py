import pytest

from convert.mapping.ops import keep
from convert.networks.components import (
    COMPONENTS,
    DIFFUSION_TRANSFORMER,
    PROMPT_UPSAMPLER,
    TEXT_ENCODER,
    TOKENIZER,
    named,
)
from jax_interp.config import CV8X8X8_720P, DIT_7B, DIT_14B, PIXTRAL_12B, T5_11B
from jax_interp.errors import UsageError
from jax_interp.nn.params import flatten

PUBLISHED = [(DIFFUSION_TRANSFORMER, DIT_7B), (DIFFUSION_TRANSFORMER, DIT_14B), (TOKENIZER, CV8X8X8_720P)]
PUBLISHED += [(TEXT_ENCODER, T5_11B), (PROMPT_UPSAMPLER, PIXTRAL_12B)]


@pytest.mark.parametrize(("component", "config"), PUBLISHED)
def test_every_line_of_a_table_is_used_and_every_array_has_one(component, config):
    leaves = component.plan(config)
    assert {leaf.path for leaf in leaves} == {path for path, _ in flatten(component.abstract(config))}
    literal = {rule.src for rule in component.rules if "{level}" not in rule.src}
    assert literal <= {leaf.pattern for leaf in leaves}
    assert all(entry.reason for entry in component.ignored)
    for table in component.other_tables:
        patterns = {leaf.pattern for leaf in component.plan(config, [f"{table.mark}weight"])}
        assert patterns == {rule.src for rule in table.rules(config)}
        assert any(pattern.startswith(table.mark) for pattern in patterns)
        assert all(entry.reason for entry in table.ignored)


def test_the_marks_of_tables_tell_them_apart():
    for component, config in PUBLISHED:
        for table in component.other_tables:
            sources = [rule.src for rule in table.rules(config)]
            assert component.table(sources) is table
        assert component.table([rule.src for rule in component.rules]).ignored == component.ignored


@pytest.mark.parametrize(("component", "config"), PUBLISHED)
def test_every_key_is_exported_to_one_file(component, config):
    for leaf in component.plan(config):
        homes = [source.exported for source in component.sources if leaf.keys[0].startswith(source.keys)]
        assert len(homes) == 1, leaf.keys[0]


def test_exports_have_names_that_are_found_again():
    for component in COMPONENTS.values():
        assert all(source.exported in source.names for source in component.sources)
        assert all(key.startswith(source.prefix) for source in component.sources for key in source.keys)


def test_the_published_sizes_come_out():
    def parameters(component, config):
        return sum(leaf.size for _, leaf in flatten(component.abstract(config)))

    assert parameters(DIFFUSION_TRANSFORMER, DIT_7B) == pytest.approx(7.24e9, rel=1e-3)
    assert parameters(TOKENIZER, CV8X8X8_720P) == pytest.approx(1.05e8, rel=1e-2)
    stack = next(leaf for leaf in DIFFUSION_TRANSFORMER.plan(DIT_7B) if leaf.path == "blocks/mlp/up/kernel")
    assert (stack.shape, len(stack.keys)) == ((28, 4096, 16384), 28)
    assert any(leaf.op is keep for leaf in DIFFUSION_TRANSFORMER.plan(DIT_7B))


def test_components_are_named_by_flag_and_folder():
    assert [component.flag for component in COMPONENTS.values()][:4] == [
        "--diffusion-transformer-dir",
        "--tokenizer-dir",
        "--text-encoder-dir",
        "--prompt-upsampler-dir",
    ]
    assert PROMPT_UPSAMPLER.folder == "Pixtral-12B"
    assert TEXT_ENCODER.folder == "google-t5/t5-11b"
    assert named(()) == tuple(COMPONENTS.values())
    assert named(("text-encoder", "diffusion_transformer")) == (DIFFUSION_TRANSFORMER, TEXT_ENCODER)
    with pytest.raises(UsageError, match="unknown a, b; there are diffusion_transformer"):
        named(("a", "tokenizer", "b"))
