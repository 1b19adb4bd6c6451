import pytest

from convert.formats.foreign_json import parse_foreign_json, read_foreign_json
from convert.formats.limits import MAX_JSON_VALUES, MAX_TEXT_BYTES


def test_an_object_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, {"b": null}], "ö": "\\ud83d\\ude00"}', "utf-8")
    assert read_foreign_json(tmp_path / "a.json") == {"a": [1, {"b": None}], "ö": "😀"}
    assert parse_foreign_json(b"\xef\xbb\xbf{}") == {}, "with a byte order mark"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "Expecting value"),
        (b"[1]", "no JSON object"),
        (b'{"a": 1', "delimiter"),
        (b'{"a": 1, "a": 2}', "a key appears twice"),
        (b'{"x": {"a": 1, "a": 2}}', "a key appears twice"),
        (b'{"\xff": 1}', "can't decode"),
        (b'{"\xed\xa0\x80": 1}', "can't decode"),
        (b'{"\\ud800": 1}', "surrogates"),
        ('{"a": 1}'.encode("utf-16"), "can't decode"),
        (b'{"a": ' + b"1" * 5000 + b"}", "4300 digits"),
        (b'{"a": ' * 100_000, "nested too deep"),
        (b'{"a": ' + b"[" * 100_000, "nested too deep"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_foreign_json(text)


def test_as_much_as_the_limits_and_no_more(tmp_path):
    values = b'{"a": [' + b"0," * (MAX_JSON_VALUES - 2) + b"0]}"
    assert len(parse_foreign_json(values)["a"]) == MAX_JSON_VALUES - 1
    with pytest.raises(ValueError, match=f"more than {MAX_JSON_VALUES:,} values"):
        parse_foreign_json(values.replace(b"[", b"[0,"))
    text = b'{"a": "' + b"a" * (MAX_TEXT_BYTES - 9) + b'"}'
    (tmp_path / "a.json").write_bytes(text)
    assert len(read_foreign_json(tmp_path / "a.json")["a"]) == MAX_TEXT_BYTES - 9
    (tmp_path / "a.json").write_bytes(text + b" ")
    with pytest.raises(ValueError, match=f"more than the {MAX_TEXT_BYTES:,} that are read"):
        read_foreign_json(tmp_path / "a.json")
