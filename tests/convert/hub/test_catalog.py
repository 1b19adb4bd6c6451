import re
from fnmatch import fnmatchcase

import pytest

from convert.hub.catalog import PUBLISHED_MD5, REPOSITORIES, component_names, select
from convert.networks.components import COMPONENTS
from jax_interp.errors import UsageError


def ids(repositories):
    return [repository.repo_id for repository in repositories]


def test_default_is_one_transformer_and_what_it_needs():
    chosen = select(["7B"], ["WorldInterpolator"])
    assert ids(chosen) == [
        "nvidia/Cosmos-Predict1-7B-WorldInterpolator",
        "nvidia/Cosmos-Tokenize1-CV8x8x8-720p",
        "google-t5/t5-11b",
        "meta-llama/Llama-Guard-3-8B",
        "nvidia/Cosmos-Guardrail1",
        "nvidia/Cosmos-Guardrail1",
        "google/siglip-so400m-patch14-384",
        "nvidia/Cosmos-Guardrail1",
    ]


def test_several_sizes_and_types_take_every_published_combination():
    chosen = select(["7B", "14B"], ["WorldInterpolator", "Video2World"], ["diffusion_transformer"])
    assert [(r.size, r.type) for r in chosen] == [
        ("7B", "WorldInterpolator"),
        ("7B", "Video2World"),
        ("14B", "Video2World"),
    ]


@pytest.mark.parametrize(
    ("sizes", "types", "named"),
    [
        (["14B"], ["WorldInterpolator"], "14B"),
        (["7B", "14B"], ["WorldInterpolator"], "14B"),
        (["7B"], ["Text2World"], "Text2World"),
    ],
)
def test_unpublished_combination_lists_what_exists(sizes, types, named):
    with pytest.raises(UsageError) as caught:
        select(sizes, types)
    assert named in str(caught.value)
    assert "7B WorldInterpolator, 7B Video2World, 14B Video2World" in str(caught.value)


def test_components_narrow_the_choice():
    assert ids(select(["7B"], ["WorldInterpolator"], ["text_encoder"])) == ["google-t5/t5-11b"]
    with pytest.raises(UsageError, match="unknown t5; there are diffusion_transformer, tokenizer, text_encoder"):
        select(["7B"], ["WorldInterpolator"], ["t5"])


def test_everything_that_convert_reads_is_published_and_some_of_it_on_request():
    assert {*component_names()} == {*COMPONENTS, "aegis"}
    assert component_names(on_request=True) == ("prompt_upsampler", "aegis")
    defaults = {repository.component for repository in select(["7B"], ["WorldInterpolator"])}
    assert defaults == {*component_names()} - {*component_names(on_request=True)}


def test_names_may_have_dashes():
    assert select(["7B"], ["WorldInterpolator"], ["text-encoder"]) == select(
        ["7B"], ["WorldInterpolator"], ["text_encoder"]
    )


def test_the_prompt_upsampler_comes_on_request_from_two_repositories():
    chosen = select(["7B"], ["WorldInterpolator"], ["prompt_upsampler"])
    assert ids(chosen) == ["mistralai/Pixtral-12B-2409", "mistral-community/pixtral-12b"]
    assert {repository.folder for repository in chosen} == {"Pixtral-12B"}
    assert not {repository.component for repository in select(["7B"], ["WorldInterpolator"])} & {"prompt_upsampler"}


def test_the_other_text_guardrail_comes_on_request_with_its_adapter():
    chosen = select(["7B"], ["WorldInterpolator"], ["aegis"])
    assert ids(chosen) == ["meta-llama/LlamaGuard-7b", "nvidia/Aegis-AI-Content-Safety-LlamaGuard-Defensive-1.0"]
    guard, adapter = chosen
    component = COMPONENTS["text_safety"]
    assert component.adapter is not None
    assert any(set(source.names) & set(guard.files) for source in component.sources)
    assert set(component.required_files) <= set(guard.files)
    assert guard.folder.endswith(f"/{component.adapter.base}")
    assert adapter.folder == component.adapter.folder
    assert set(adapter.files) >= {"adapter_config.json", *component.adapter.copied}


def test_the_word_lists_are_those_that_convert_copies():
    companion = COMPONENTS["text_safety"].companion
    assert companion is not None
    listed = {repository.path(name) for repository in REPOSITORIES for name in repository.files}
    names = {name.removeprefix(f"{companion.folder}/") for name in listed if name.startswith(companion.folder)}
    patterns = {pattern: {name for name in names if fnmatchcase(name, pattern)} for pattern in companion.files}
    assert all(patterns.values())
    assert set().union(*patterns.values()) == names


def test_files_are_those_that_convert_reads():
    for repository in REPOSITORIES:
        if repository.component == "aegis" or all(name.startswith("blocklist/") for name in repository.files):
            continue
        component = COMPONENTS[repository.component]
        root = repository.folder if repository.size else component.folder
        beside = [other for other in REPOSITORIES if other.component == repository.component]
        paths = [other.path(name) for other in beside for name in other.files]
        files = {path.removeprefix(f"{root}/") for path in paths if path.startswith(f"{root}/")}
        assert len(set(paths)) == len(paths)
        for source in component.sources:
            assert set(source.names) & files, f"{repository.repo_id}: no {source.names}"
        assert set(component.required_files) <= files
        if repository.type in (None, "WorldInterpolator"):
            assert root == component.folder


def test_md5s_are_of_files_in_the_catalog():
    listed = {repository.path(name) for repository in REPOSITORIES for name in repository.files}
    assert set(PUBLISHED_MD5) <= listed
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in PUBLISHED_MD5.values())
    transformers = {repository.path("model.pt") for repository in REPOSITORIES if repository.size}
    assert transformers <= set(PUBLISHED_MD5)
