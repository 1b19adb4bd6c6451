import pytest

from jax_interp.byte_sizes import GIB, format_bytes, gib, gib_or_more, parse_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0.0 kB"),
        (999_999, "1000.0 kB"),
        (10**6, "1.0 MB"),
        (700, "0.7 kB"),
        (8_050_000, "8.1 MB"),
        (45 * 10**9, "45.0 GB"),
    ],
)
def test_files_are_counted_in_powers_of_ten(size, text):
    assert format_bytes(size) == text


def test_a_unit_may_be_asked_for():
    assert format_bytes(80 * 10**9 + 1, "GB", digits=0) == "80 GB"
    assert format_bytes(0, "MB") == "0.0 MB"
    assert format_bytes(GIB // 4, "GiB", digits=2) == "0.25 GiB"


def test_only_what_is_to_be_provided_is_rounded_up():
    assert gib(6 * GIB) == gib_or_more(6 * GIB) == "6.0 GiB"
    assert (gib(6 * GIB + 1), gib_or_more(6 * GIB + 1)) == ("6.0 GiB", "6.1 GiB")


@pytest.mark.parametrize("size", [GIB, 3 * GIB + 1, 7 * GIB - 1, 12_345_678_901])
def test_a_budget_of_what_is_advised_holds_it(size):
    assert parse_bytes(gib_or_more(size)) >= size


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), (" 5.5 gib ", 11 * GIB // 2), ("512mb", 512 * 10**6), ("2097152b", 2**21), ("17", 17)],
)
def test_amounts_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "8XB", "8GB9", "inf", "nan", "1e999GB", "0x10", "8,5GB"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="expected an amount of bytes"):
        parse_bytes(text)
