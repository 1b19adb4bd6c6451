import re

import pytest

from convert.catalog import PUBLISHED_MD5, REPOSITORIES, select
from convert.components import COMPONENTS
from jax_interp.errors import UsageError


def ids(repositories):
    return [repository.repo_id for repository in repositories]


def test_default_is_one_transformer_and_what_it_needs():
    chosen = select(["7B"], ["WorldInterpolator"])
    assert ids(chosen) == [
        "nvidia/Cosmos-Predict1-7B-WorldInterpolator",
        "nvidia/Cosmos-Tokenize1-CV8x8x8-720p",
        "google-t5/t5-11b",
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


def test_files_are_those_that_convert_reads():
    for repository in REPOSITORIES:
        component = COMPONENTS[repository.component]
        for source in component.sources:
            assert set(source.names) & set(repository.files), f"{repository.repo_id}: no {source.names}"
        assert set(component.required_files) <= set(repository.files)
        if repository.type in (None, "WorldInterpolator"):
            assert repository.folder == component.folder


def test_md5s_are_of_files_in_the_catalog():
    listed = {repository.path(name) for repository in REPOSITORIES for name in repository.files}
    assert set(PUBLISHED_MD5) <= listed
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in PUBLISHED_MD5.values())
    transformers = {repository.path("model.pt") for repository in REPOSITORIES if repository.size}
    assert transformers <= set(PUBLISHED_MD5)
