"""The table of durations, from output as pytest prints it."""

import pytest

from scripts.write_test_durations import BEGIN, END, TierRun, read_run, replaced, section, table

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
    run = read_run(PRINTED)
    assert run.seconds == pytest.approx({"tests/a/test_x.py": 14.75, "tests/test_y.py": 1.25})
    assert (run.passed, run.wall) == (2, 16.1)


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("", "0 closing lines"),
        (PRINTED.replace("2 passed in", "killed in"), "0 closing lines"),
        (PRINTED + PRINTED, "2 closing lines"),
        (PRINTED.replace("2 passed", "== 1 failed, 1 passed, 3 errors"), "1 failed, 3 errors"),
        ("== 812 passed, 3 skipped, 40 deselected in 270.31s (0:04:30) ==", "--durations=0"),
    ],
)
def test_a_run_that_says_too_little_is_refused(printed, message):
    with pytest.raises(ValueError, match=message):
        read_run(printed)


def test_the_sentence_above_the_table():
    written = section(TierRun({"tests/test_x.py": 30.0}, 812, 270.0), TierRun({"tests/test_x.py": 60.0}, 40, 600.0))
    assert written.startswith("812 quick tests took 4.5 minutes together, 40 slow ones 10.0 minutes.\n\n| tests |")


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


def test_a_document_without_marks_is_refused():
    with pytest.raises(ValueError, match="durations:begin"):
        replaced("before\nafter\n", "new\n")
