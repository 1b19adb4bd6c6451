from pathlib import Path

import numpy as np
import pytest

from convert.formats.stored_tensor import FileStamp, StoredTensor
from convert.source.wrappers import unwrapped, wrapper_of
from jax_interp.errors import CheckpointError

PATH = Path("model.pt")
TENSOR = StoredTensor((1,), np.dtype(np.float32), "model.pt: x", FileStamp(PATH, 4, 0), 0)


def names(*keys, own=""):
    found, outer = unwrapped(dict.fromkeys(keys, TENSOR), own, PATH)
    return list(found), outer


@pytest.mark.parametrize(
    "outer",
    ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "_fsdp_wrapped_module."],
)
def test_what_every_key_begins_with_is_left_out(outer):
    assert names(f"{outer}net.a", f"{outer}net.b.module.c") == (["net.a", "net.b.module.c"], outer)


def test_what_only_some_keys_begin_with_is_theirs():
    assert names("module.a", "b") == (["module.a", "b"], "")
    assert names("module._orig_mod.a", "module.b") == (["_orig_mod.a", "b"], "module.")


def test_wrapped_parts_of_a_network_are_unwrapped_wherever_they_are():
    keys = ("net._orig_mod.a", "net.blocks.0._checkpoint_wrapped_module.b", "net.c", "module_x._orig_mod_y.d")
    assert names(*keys) == (["net.a", "net.blocks.0.b", "net.c", "module_x._orig_mod_y.d"], "")


def test_the_wrapper_of_the_published_file_is_there_afterwards():
    for outer in ("", "module.", "_orig_mod.module."):
        assert names(f"{outer}body.a", own="module.") == (["module.body.a"], outer)
    assert wrapper_of(["module.a", "module.b"]) == "module."
    assert wrapper_of(["module.a", "b"]) == wrapper_of([]) == ""


def test_a_key_that_is_nothing_but_a_wrapper_stays():
    assert names("module.") == (["module."], "")
    assert names() == ([], "")


def test_two_keys_that_become_one_are_refused():
    with pytest.raises(CheckpointError, match=r"model\.pt: two tensors have the name net\.a without"):
        names("net.a", "net._orig_mod.a")
