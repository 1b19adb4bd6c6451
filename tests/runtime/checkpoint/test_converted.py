"""What a converted folder says about itself."""

import pytest

from jax_interp.config import VideoTokenizerConfig
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.converted import open_component
from tests.convert.checkpoints import DIT, TOKENIZER
from tests.runtime.checkpoint.spoiling import remove_params, rewrite


@pytest.mark.parametrize("component", ["unet", ["diffusion_transformer"], {}, 3, None], ids=str)
def test_what_is_no_network_of_the_table_is_refused(copied, component):
    rewrite(copied / DIT / "config.json", lambda values: values.update(component=component))
    with pytest.raises(CheckpointError, match=r"config\.json: damaged or not written by jax-interp"):
        open_component(copied / DIT)


def test_a_manifest_may_be_read_of_what_is_not_whole(copied):
    remove_params(copied)
    found = open_component(copied / DIT, allow_incomplete=True)
    assert found.component == "diffusion_transformer"
    assert TOKENIZER not in str(found.path)
    assert not isinstance(found.config, VideoTokenizerConfig)
