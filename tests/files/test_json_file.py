"""JSON files are read strictly, within limits, and never with an error that is not foreseen."""

import json
import random
from typing import Any

import pytest

from jax_interp.files.json_file import MAX_BYTES, JsonFault, parse_json, read_json
from tests.damages import FILE_DAMAGES, TEXT_DAMAGES, refuse_reading

VALUES = {"component": "tokenizer", "sizes": [1, 2.5, None], "text": "日本 \U0001f600", "inner": {"a": True}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "values.json"
    path.write_text(json.dumps(VALUES, indent=1))
    return path


def test_what_is_whole_is_read(path):
    assert read_json(path, dict[str, Any]) == VALUES
    path.write_text(json.dumps(VALUES, ensure_ascii=False), "utf-8")
    assert read_json(path, dict[str, Any]) == VALUES


NOT_WRONG = {"no entries", "hostile key"}
"""Of an object that may have any keys."""


@pytest.mark.parametrize("damage", [*FILE_DAMAGES, *(name for name in TEXT_DAMAGES if name not in NOT_WRONG)])
@pytest.mark.timeout(20)
def test_every_damage_is_a_fault(path, damage):
    (FILE_DAMAGES | TEXT_DAMAGES)[damage](path)
    error = FileNotFoundError if damage in ("missing", "broken link") else JsonFault
    with pytest.raises(error):
        read_json(path, dict[str, Any])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "it has the key 'a' twice in one object"),
        (b'{"a": {"b": 1, "b": 1}}', "it has the key 'b' twice in one object"),
        (b'{"a": NaN}', "it has NaN, which is not a number of JSON"),
        (b"[-Infinity]", "it has -Infinity, which is not a number of JSON"),
        (b"[1e999]", "it has 1e999, which is too large for a number"),
        (b"[" + b"9" * 5000 + b"]", "it has a number of too many digits"),
        (b'"a\xff"', "it is not UTF-8 at byte 2"),
        (b'["\\ud800"]', "it has half of a surrogate pair, which is no character"),
        (b'{"\\udfff\\ud800": 1}', "it has half of a surrogate pair, which is no character"),
        (b"[" * 200_000, "its values are nested too deeply"),
        (b"", "it is not JSON (Expecting value at line 1, column 1)"),
        (b'{"a": 1}\n}', "it is not JSON (Extra data at line 2, column 1)"),
    ],
)
def test_faults_say_what_is_wrong(content, message):
    with pytest.raises(JsonFault) as error:
        parse_json(content)
    assert str(error.value) == message


def test_escaped_pairs_are_characters():
    assert parse_json(b'"\\ud83d\\ude00 \\\\ud800"') == "\U0001f600 \\ud800"


def test_a_file_that_is_too_large_is_not_read(path):
    path.write_bytes(b'{"a": "' + b"x" * MAX_BYTES + b'"}')
    with pytest.raises(JsonFault, match=f"larger than {MAX_BYTES} bytes"):
        read_json(path, dict[str, Any])
    path.write_text('{"a": 1}')
    with pytest.raises(JsonFault, match="larger than 7 bytes"):
        read_json(path, dict[str, Any], max_bytes=7)


def test_a_file_that_may_not_be_read_is_a_fault(path, monkeypatch):
    refuse_reading(monkeypatch, path)
    with pytest.raises(JsonFault, match=r"cannot be read .Permission denied"):
        read_json(path, dict[str, Any])


def test_every_beginning_of_a_file_is_a_fault(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(JsonFault):
            read_json(path, dict[str, Any])


def test_changed_bytes_give_an_object_or_a_fault():
    draw, content = random.Random(0), json.dumps(VALUES).encode()
    faults = 0
    for _ in range(3000):
        changed = bytearray(content)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(changed))] = draw.choice((draw.randrange(256), *b'{}[]",:\\u09e'))
        try:
            json.dumps(parse_json(bytes(changed)), ensure_ascii=False).encode()
        except JsonFault:
            faults += 1
    assert 1000 < faults < 3000
