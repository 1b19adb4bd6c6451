import logging

import ml_dtypes
import numpy as np
import pytest

from convert.target.finite import _BLOCK, FiniteCheck, is_finite
from jax_interp.errors import CheckpointError

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_anywhere_is_noticed(rng, dtype, bad):
    values = rng.standard_normal((3, _BLOCK // 2 + 1)).astype(dtype)
    values[0, 0], values[0, 1], values[0, 2] = ml_dtypes.finfo(dtype).max, ml_dtypes.finfo(dtype).min, -0.0
    assert is_finite(values)
    for place in (0, values.size // 2, values.size - 1):
        changed = values.copy()
        changed.reshape(-1)[place] = bad
        assert not is_finite(changed)
        assert not is_finite(changed.T)
        assert not is_finite(changed[:, ::-1])


@pytest.mark.parametrize("pattern", [0x7F80, 0xFF80, 0x7F81, 0xFFFF, 0x7FC0])
def test_every_kind_of_bits_that_is_no_number(pattern):
    assert not is_finite(np.array([0, pattern], np.uint16).view(ml_dtypes.bfloat16))
    assert is_finite(np.array([0, 0x7F7F, 0xFF7F], np.uint16).view(ml_dtypes.bfloat16))


def test_scalars_and_nothing_at_all():
    assert is_finite(np.array(1, np.float32))
    assert not is_finite(np.array(np.nan, ml_dtypes.bfloat16))
    assert is_finite(np.empty((0, 3), ml_dtypes.bfloat16))


def test_such_weights_are_refused_by_name_and_number():
    values = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    with pytest.raises(CheckpointError, match=r"model\.pt: w: 1 NaN and 2 infinite of 4 weights.*--allow-non-finite"):
        FiniteCheck(refuses=True)(values, "model.pt: w")
    FiniteCheck(refuses=True)(np.arange(3), "model.pt: whole numbers")


def test_or_noted_for_one_warning(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jax_interp"), "propagate", True)
    check = FiniteCheck(refuses=False)
    check.report("net")
    assert not caplog.text
    for i in range(7):
        check(np.array([np.nan], np.float32), f"model.pt: w{i}")
    check.report("net")
    assert "net: has weights that are not finite: model.pt: w0: 1 NaN and 0 infinite of 1" in caplog.text
    assert "and 2 more tensors" in caplog.text
