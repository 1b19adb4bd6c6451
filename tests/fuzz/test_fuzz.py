"""A few hundred of the fuzzer's cases.

`python -m tests.fuzz` reads more, and those of the readers that are left out here: files that the program wrote itself.
"""

import pytest

from tests.fuzz.readers import READERS
from tests.fuzz.runner import FAULTS, run

OWN_FOLDERS = {"converted network", "embeddings", "pairs"}
CASES = 40


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in READERS if name not in OWN_FOLDERS])
def test_damaged_files_are_read_or_refused(name):
    results = list(run(name, CASES, seed=0))
    assert [result.number for result in results] == list(range(CASES))
    assert [result for result in results if result.outcome in FAULTS] == []
