from contextlib import suppress

import pytest

pytest.importorskip("torch")

import torch

from convert.formats.pytorch.pickle_globals import CALLS, CONSTANTS, STORAGE_DTYPES, DamagedPickle, Opaque
from tests.convert.archives import numpy_dtype


@pytest.mark.parametrize("name", CONSTANTS)
def test_dtypes_are_those_of_torch(name):
    assert CONSTANTS[name] == numpy_dtype(getattr(torch, name.removeprefix("torch.")))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.parametrize("name", sorted(STORAGE_DTYPES.keys() - {"torch.storage.UntypedStorage"}))
def test_storage_types_are_those_of_torch(name):
    theirs = getattr(torch, name.removeprefix("torch."))(0).dtype
    assert STORAGE_DTYPES[name] == numpy_dtype(theirs)


def test_every_storage_type_of_torch_with_a_numpy_dtype_is_known():
    names = {f"torch.{kind.__name__}" for kind in torch._storage_classes if kind.__module__ == "torch"}
    quantized = {name for name in names if name.startswith("torch.Q")}
    assert names - quantized == STORAGE_DTYPES.keys() - {"torch.storage.UntypedStorage"}


ARGUMENTS = [(), ("text",), ([1], 2), ({"a": 1}, True, {}), (None,) * 6]


@pytest.mark.parametrize("name", CALLS)
def test_no_call_gives_back_anything_that_acts(name):
    """Whatever an allowed name makes of plain arguments, it is data or nothing."""
    for args in ARGUMENTS:
        with suppress(DamagedPickle, ValueError, LookupError, AttributeError, TypeError):
            made = CALLS[name](args)
            assert made is None or type(made) in (str, int, list, tuple, dict, Opaque)
