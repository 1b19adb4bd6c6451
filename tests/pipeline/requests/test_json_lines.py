"""Lines of JSON, and the words for what is wrong with them."""

import json

import pytest

from jax_interp.pipeline.requests.json_lines import MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_LINES, read_json_lines

ONE = b'{"a": "b"}'


def read(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    return read_json_lines(path)


def faults(tmp_path, content):
    """By line number, as people count."""
    return {number + 1: text for number, text in read(tmp_path, content).faults.items()}


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        (b"", []),
        (ONE, [0]),
        (ONE + b"\n\n" + ONE + b"\n", [0, 2]),
        (ONE + b"\r\n \t\r\n" + ONE + b"\r\n", [0, 2]),
        (b"\xef\xbb\xbf" + ONE + b"\n" + ONE, [0, 1]),
        (ONE + b"\n\xef\xbb\xbf" + ONE, [0, 1]),
        (b"\xef\xbb\xbf\n" + ONE, [1]),
    ],
)
def test_objects_have_the_numbers_of_their_lines(tmp_path, content, numbers):
    lines = read(tmp_path, content)
    assert lines.objects == {number: {"a": "b"} for number in numbers}
    assert not lines.faults


@pytest.mark.parametrize("char", "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\x1f\t\u00a0\ufeff😀")
def test_strings_hold_what_is_in_them(tmp_path, char):
    for text in (f'{{"a": "b{char}c"}}', json.dumps({"a": f"b{char}c"})):
        assert read(tmp_path, text.encode()).objects == {0: {"a": f"b{char}c"}}


FAULTS = {
    "pretty": (b'{\n "a": "b"\n}', {1: "one object over several lines, up to line 3; expected one object a line"}),
    "two that are pretty": (b'{\n"a": 1\n}\n\n{\n"a": 1\n},\n', {1: "up to line 3", 5: "up to line 7"}),
    "pretty behind a good one": (ONE + b'\r\n{\r\n"a": 1}\r\n' + ONE, {2: "up to line 3"}),
    "pretty with a mark": (b'\xef\xbb\xbf{\n"a": 1\n}', {1: "up to line 3"}),
    "a list over lines": (
        b"[\n" + ONE + b",\n" + ONE + b"\n]\n",
        {1: "a list up to line 4; expected one"},
    ),
    "a list on a line": (b"[" + ONE + b"," + ONE + b"]", {1: "a list; expected one object a line, without brackets"}),
    "an end that is missing": (ONE + b'\n{"a":\n' + ONE + b"\n", {2: "an object that does not end on its line"}),
    "a quote that is missing": (b'{"a": "b\n' + ONE + b"\n", {1: "an object that does not end on its line"}),
    "the rest of what has no end": (b'{"a": {\n"b": 1,\n"c": 2\n' + ONE, {1: "does not end on its line"}),
    "a comma behind": (ONE + b",\n" + ONE, {1: "a comma behind the object; expected one object a line"}),
    "a comma inside": (b'{"a": "b",}\n{"a": [1,]}', {1: "a comma before the closing bracket", 2: "a comma before the"}),
    "two on a line": (ONE + b" " + ONE, {1: "another object behind the first at column 12"}),
    "more on a line": (ONE + b" # no", {1: "something else behind the first at column 12"}),
    "two of a key": (b'{"a": 1, "b": {"c": 1, "c": 2}}', {1: "'c' is there twice"}),
    "no numbers": (b'{"a": NaN}\n{"a": -Infinity}', {1: "NaN is not JSON", 2: "-Infinity is not JSON"}),
    "no objects": (b'3\n"x"\nnull\ntrue', dict.fromkeys((1, 2, 3, 4), "no object; expected one object a line")),
    "no JSON": (b"hello\n{'a': 1}", {1: "Expecting value at column 1", 2: "in double quotes at column 2"}),
    "deep": (b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}\n" + ONE, {1: "is nested too deeply"}),
    "other bytes": (
        ONE + b'\n{"a": "\xfc"}\n' + ONE,
        {2: "byte 0xFC at column 8 is not UTF-8; save"},
    ),
    "compressed": (b"\x1f\x8b\x08\0", {1: "a zero byte at column 4"}),
    "a zero byte": (ONE + b'\n{"a": "\0"}', {2: "a zero byte at column 8"}),
    "half a character": (b'{"a": "\\ud83d"}', {1: "holds half of a surrogate pair"}),
    "a long line": (ONE + b"\n" + b" " * (MAX_LINE_BYTES + 1) + b"\n" + ONE, {2: "is longer than 1 MiB"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_have_the_line_where_they_begin(tmp_path, name):
    content, expected = FAULTS[name]
    found = faults(tmp_path, content)
    assert found.keys() == expected.keys()
    assert all(part in found[number] for number, part in expected.items())


def test_lines_beside_a_broken_one_are_read(tmp_path):
    assert read(tmp_path, ONE + b'\n{\n"a": 1\n}\n' + ONE).objects.keys() == {0, 4}


def test_whole_numbers_of_any_length_are_numbers(tmp_path):
    assert read(tmp_path, b'{"a": ' + b"9" * 10**5 + b"}").objects[0]["a"] == float("inf")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_wide_characters_are_named(tmp_path, encoding):
    with pytest.raises(ValueError, match="is UTF-16 or UTF-32, expected UTF-8; save it as UTF-8"):
        read(tmp_path, ONE.decode().encode(encoding))


@pytest.mark.parametrize(
    ("size", "piece", "says"),
    [(MAX_FILE_BYTES + 1, b" ", "is larger than 64 MiB"), (MAX_LINES + 1, b"\n", "has more than 100000 lines")],
)
def test_files_have_a_limit(tmp_path, size, piece, says):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, piece * size)


@pytest.mark.parametrize("line", [b"{\n", b'["x",\n', b'{"a": "\n', b'{"a": [\n'])
def test_many_broken_lines_are_not_looked_at_over_and_over(tmp_path, line, monkeypatch):
    """What is behind a broken line is parsed for the first faults only."""
    looks, decode = [], json.JSONDecoder.raw_decode

    def counted(self, text, idx=0):
        looks.append(text)
        return decode(self, text, idx)

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", counted)
    found = faults(tmp_path, line * 20_000)
    assert len(found) == 20_000
    # one of each line by itself, and the first twenty together with those behind
    assert len(looks) <= 20_000 + 20
