import numpy as np
import pytest

from convert.formats.pytorch.named_views import named_views
from convert.formats.pytorch.pickle_globals import ModuleRecord, Opaque, Storage, TensorView
from jax_interp.errors import CheckpointError

VIEW = TensorView(Storage(np.dtype(np.float32), "0", 12), np.dtype(np.float32), 0, (3, 4), (4, 1))
LIMITS = "convert.formats.pytorch.named_views."


def test_names_are_the_ways_to_the_tensors():
    module = ModuleRecord("__torch__.A", {"w": VIEW, "training": True, "sub": ModuleRecord("__torch__.B", {"b": VIEW})})
    content = {"a": [VIEW, (VIEW, {"7": VIEW})], "step": 3, "none": None, "module": module}
    assert list(named_views(content, "model.pt")) == ["a.0", "a.1.0", "a.1.1.7", "module.w", "module.sub.b"]
    assert named_views(VIEW, "model.pt") == {"0": VIEW}


def test_what_is_no_tensor_is_named_with_its_escapes():
    with pytest.raises(CheckpointError) as caught:
        named_views({"a\x1b[31m": Opaque("io.BytesIO")}, "model.pt")
    assert str(caught.value).startswith("model.pt: a\\x1b[31m is neither a tensor")


@pytest.mark.parametrize(
    ("limit", "content", "message"),
    [
        ("MAX_TENSORS", {f"w{i}": VIEW for i in range(5)}, "more than 4 tensors"),
        ("MAX_NAME_LETTERS", {"abc": VIEW, "de": VIEW}, "more than 4 letters together"),
        ("MAX_NAME", {"abcde": VIEW}, "more than 4 letters"),
        ("MAX_NAME", {"a": {"b": {"c": VIEW}}}, "more than 4 letters"),
        ("MAX_VALUES", [VIEW, VIEW], "more than 4 values"),
        ("MAX_VALUES", [None] * 4, "more than 4 values"),
        ("MAX_VALUES", ModuleRecord("__torch__.A", dict.fromkeys("abcd", 1)), "more than 4 values"),
        ("MAX_DEPTH", [[[[[VIEW]]]]], "nested deeper than 4 levels"),
    ],
)
def test_the_limits_hold_while_the_content_is_walked(monkeypatch, limit, content, message):
    monkeypatch.setattr(LIMITS + limit, 4)
    with pytest.raises(CheckpointError, match=message):
        named_views(content, "model.pt")
    monkeypatch.setattr(LIMITS + limit, 1000)
    assert named_views({"content": VIEW, "more": content} if limit == "MAX_VALUES" else content, "model.pt")
