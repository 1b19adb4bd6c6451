"""The table of durations, from output as pytest prints it."""

import pytest

from scripts.write_test_durations import BEGIN, END, replaced, seconds_of_files, table

PRINTED = """\
============================= slowest durations =============================
12.50s setup    tests/a/test_x.py::test_one[a-1]
2.25s call     tests/a/test_x.py::test_one[a-1]
1.00s call     tests/test_y.py::test_two
0.25s teardown tests/test_y.py::test_two

(2 durations < 0.005s hidden.  Use -vv to show these durations.)
2 passed in 16.10s
"""


def test_fixtures_count_with_their_files():
    assert seconds_of_files(PRINTED) == pytest.approx({"tests/a/test_x.py": 14.75, "tests/test_y.py": 1.25})


def test_the_longest_come_first_and_all_are_counted():
    quick = {f"tests/test_{number}.py": float(number) for number in range(25)}
    lines = table(quick, {"tests/test_0.py": 100.0}).splitlines()
    assert lines[2] == "| `tests/test_0.py` | 0 | 100 |"
    assert lines[3] == "| `tests/test_24.py` | 24 | 0 |"
    assert lines[-2:] == ["| 5 others | 15 | 0 |", "| all | 300 | 100 |"]


def test_what_stands_around_the_table_stays():
    document = f"before\n{BEGIN}old\n{END}after\n"
    assert replaced(document, "new\n") == f"before\n{BEGIN}new\n{END}after\n"
    assert replaced(replaced(document, "new\n"), "old\n") == document
