"""What a comparison is asked for."""

from pathlib import Path

import pytest

from jax_interp.errors import UsageError
from jax_interp.parity.request import ParityRequest

CONVERTED = Path("converted")


def test_dtypes():
    request = ParityRequest(converted=CONVERTED, checkpoint_dir=Path("checkpoints"))
    assert request.precisions == ("float32", "bfloat16")
    assert ParityRequest(converted=CONVERTED, golden=Path("a"), dtype="bfloat16").precisions == ("bfloat16",)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="nothing to compare with: give --checkpoint-dir, --golden or both"):
        ParityRequest(converted=CONVERTED)
    with pytest.raises(UsageError, match="--seed is 4294967296; expected a whole number"):
        ParityRequest(converted=CONVERTED, golden=Path("a"), seed=2**32)
