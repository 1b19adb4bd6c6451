import shutil

import pytest

from tests.convert.checkpoints import TOKENIZER

# The tokenizer is seven of eight files, and hardly a test here spoils it.
WITHOUT_TOKENIZER = shutil.ignore_patterns(TOKENIZER)


@pytest.fixture
def copied(converted, tmp_path):
    """The golden networks but the tokenizer, converted, to be spoilt."""
    return shutil.copytree(converted, tmp_path / "converted", ignore=WITHOUT_TOKENIZER)


@pytest.fixture
def spoilt(quantized, tmp_path):
    """The same in 8 bits."""
    return shutil.copytree(quantized, tmp_path / "spoilt", ignore=WITHOUT_TOKENIZER)
