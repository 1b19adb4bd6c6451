import pytest

from convert.formats.names import MAX_SHOWN, shown


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("net.blocks.0.weight", "net.blocks.0.weight"),
        ("größe.重み", "größe.重み"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc\0", "a\\nb\\tc\\x00"),
        ("a\ud800b", "a\\ud800b"),
        ("a\u202eb", "a\\u202eb"),
        ("a\x9bb", "a\\x9bb"),
    ],
)
def test_what_does_not_print_is_escaped(name, expected):
    assert shown(name) == expected
    assert shown(name).encode()


def test_long_names_are_cut():
    assert shown("a" * MAX_SHOWN) == "a" * MAX_SHOWN
    assert shown("a" * (1 << 20)) == "a" * MAX_SHOWN + "..."
