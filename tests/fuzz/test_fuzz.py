"""Some of the fuzzer's cases for every reader; `python -m tests.fuzz` reads more."""

import pytest

from tests.fuzz import planted
from tests.fuzz.readers import READERS
from tests.fuzz.runner import CLASSES, FAULTS, run

CASES = 40


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name):
    results = list(run(name, CASES, seed=0))
    assert [result.number for result in results] == list(range(CASES))
    assert [result for result in results if result.outcome in FAULTS] == []
    assert any(result.outcome == "refused" for result in results)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        # To notice a hang takes its patience.
        pytest.param(act, outcome, marks=[pytest.mark.thorough] if outcome == "hang" else [])
        for act, outcome in planted.PLANTED.items()
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_class_is_told(act, outcome):
    """Two cases, so that those after one that kills the process, or has to be ended, are read too."""
    results = list(run(act.__name__, 2, seed=0, module=planted.__name__, patience=8))
    assert [(result.number, result.outcome) for result in results] == [(0, outcome), (1, outcome)]
    assert outcome in CLASSES
