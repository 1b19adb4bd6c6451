"""The lines that a run writes, and what an interrupted one leaves of them."""

import json

from jax_interp.train.runs.journal import Journal


def test_lines_and_events(tmp_path):
    journal = Journal(tmp_path, 0)
    for step in (1, 2, 3):
        journal.note(step, {"loss": step / 2})
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 1.5}]
    assert list((tmp_path / "tensorboard").iterdir())


def test_what_comes_again_is_dropped_and_cut_lines_too(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1}\n{"step": 2, "loss": 2}\n{"step": 3, "lo')
    Journal(tmp_path, 1).close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 1}\n'
