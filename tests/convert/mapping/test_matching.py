import jax
import numpy as np
import pytest

from convert.mapping.matching import check_tensors, plan_leaves
from convert.mapping.ops import channel_table, keep, transpose
from convert.mapping.rules import Ignored, Rule
from jax_interp.errors import CheckpointError

RULES = (
    Rule("embed.weight", "embedding"),
    Rule("layers.{i}.linear.weight", "blocks/linear/kernel", transpose),
    Rule("layers.{i}.norm.weight", "blocks/norm/scale"),
    Rule("down.{level}.conv.{part}.weight", "down_{level}/conv_{part}/kernel", transpose),
    Rule("stats", "stats", channel_table),
)
IGNORED = (Ignored("*_extra_state", "bookkeeping"), Ignored("logvar.*", "training"))


def struct(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


ABSTRACT = {
    "embedding": struct(7, 4),
    "blocks": {"linear": {"kernel": struct(3, 4, 5)}, "norm": {"scale": struct(3, 4)}},
    "down_0": {"conv_10": {"kernel": struct(2, 3)}},
    "stats": struct(16, 2),
}
SHAPES = {
    "embed.weight": (7, 4),
    **{f"layers.{i}.linear.weight": (5, 4) for i in range(3)},
    **{f"layers.{i}.norm.weight": (4,) for i in range(3)},
    "down.0.conv.10.weight": (3, 2),
    "stats": (32,),
    "layers.1.norm._extra_state": (0,),
}


def tensors(changes=None, dtypes=None):
    shapes = {key: shape for key, shape in (SHAPES | (changes or {})).items() if shape is not None}
    return {key: struct_of(shape, (dtypes or {}).get(key, np.float32)) for key, shape in shapes.items()}


def struct_of(shape, dtype):
    return np.broadcast_to(np.zeros((), dtype), shape)


def report(changes=None, rules=RULES, ignored=IGNORED, dtypes=None):
    return check_tensors(plan_leaves(rules, ABSTRACT), ignored, tensors(changes, dtypes))


def faults(found):
    return [len(group) for group in (found.unknown, found.doubled, found.missing, found.misshapen)]


def test_plan_reads_a_stack_and_numbered_places_off_the_table():
    leaves = {leaf.path: leaf for leaf in plan_leaves(RULES, ABSTRACT)}
    stack = leaves["blocks/linear/kernel"]
    assert stack.keys == ("layers.0.linear.weight", "layers.1.linear.weight", "layers.2.linear.weight")
    assert (stack.stacked, stack.part_shape, stack.op) == (True, (4, 5), transpose)
    assert stack.pattern == "layers.{i}.linear.weight"
    single = leaves["down_0/conv_10/kernel"]
    assert (single.keys, single.stacked, single.part_shape) == (("down.0.conv.10.weight",), False, (2, 3))
    assert leaves["embedding"].op is keep


def test_a_fitting_checkpoint_has_no_fault():
    report().check("model.pt")
    assert faults(report()) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "group", "text"),
    [
        ({"layers.3.linear.weight": (5, 4)}, "unknown", "layers.3.linear.weight"),
        ({"layers.01.linear.weight": (5, 4)}, "unknown", "layers.01.linear.weight"),
        ({"xembed.weight": (7, 4)}, "unknown", "xembed.weight"),
        ({"embedXweight": (7, 4)}, "unknown", "embedXweight"),
        ({"layers.1.norm.weight": None}, "missing", "layers.1.norm.weight (for blocks/norm/scale)"),
        ({"embed.weight": None}, "missing", "embed.weight"),
        ({"layers.2.linear.weight": (4, 5)}, "misshapen", "layers.2.linear.weight: float32 (4, 5), expected (5, 4)"),
        ({"stats": (33,)}, "misshapen", "stats"),
        ({"stats": (2, 16)}, "misshapen", "stats"),
    ],
)
def test_each_fault_is_named(changes, group, text):
    found = report(changes)
    assert faults(found) == [name == group for name in ("unknown", "doubled", "missing", "misshapen")]
    assert getattr(found, group)[0].startswith(text)


def test_keys_claimed_twice_are_named_with_both_claims():
    found = report(ignored=(*IGNORED, Ignored("layers.0.*", "wrongly")))
    assert found.doubled[0] == "layers.0.linear.weight: blocks/linear/kernel and ignored as layers.0.*"
    assert faults(found)[1] == 2
    twice = {"a": struct(2), "b": struct(2)}
    leaves = plan_leaves((Rule("x", "a"), Rule("x", "b")), twice)
    assert check_tensors(leaves, (), {"x": struct_of((2,), np.float32)}).doubled == ["x: a and b"]


def test_a_stack_has_one_dtype():
    found = report(dtypes={"layers.2.norm.weight": np.float16})
    assert found.misshapen == ["layers.2.norm.weight: float16, but layers.0.norm.weight of the same stack is float32"]


def test_all_faults_come_in_one_message():
    found = report({"extra": (1,), "embed.weight": None, "layers.0.norm.weight": (9,), "down.0.conv.10.weight": None})
    with pytest.raises(CheckpointError) as error:
        found.check("some/model.pt")
    text = str(error.value)
    for part in ("some/model.pt", "extra", "embed.weight", "layers.0.norm.weight", "down.0.conv.10.weight"):
        assert part in text


def test_shapes_are_checked_without_memory():
    huge = {"w": struct(1 << 20, 1 << 20)}
    leaves = plan_leaves((Rule("w", "w", transpose),), huge)
    tensor = struct_of((1 << 20, 1 << 20), np.float32)
    assert faults(check_tensors(leaves, (), {"w": tensor})) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ((), "0 rules"),
        ((Rule("a", "w"), Rule("b", "w")), "2 rules"),
        ((Rule("a.{i}.{j}", "w"),), "at most one"),
    ],
)
def test_a_wrong_table_is_refused(rules, text):
    with pytest.raises(ValueError, match=text):
        plan_leaves(rules, {"w": struct(2, 2)})


def test_a_placeholder_that_repeats_must_repeat_its_number():
    rule = Rule("a.{i}.weight", "level_{i}/again_{i}")
    (leaf,) = plan_leaves((rule,), {"level_3": {"again_3": struct(2)}})
    assert leaf.keys == ("a.3.weight",)
    with pytest.raises(ValueError, match="0 rules"):
        plan_leaves((rule,), {"level_3": {"again_4": struct(2)}})
