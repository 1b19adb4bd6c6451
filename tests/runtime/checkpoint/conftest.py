import shutil

import pytest


@pytest.fixture
def copied(converted, tmp_path):
    """The golden networks, converted, to be spoilt."""
    return shutil.copytree(converted, tmp_path / "converted")
