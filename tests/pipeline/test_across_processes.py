"""What the guardrails say and a cache holds in one process, as all of them hear it."""

from dataclasses import asdict

import numpy as np
import pytest

from jax_interp.errors import Blocked
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline import across_processes as guarding
from jax_interp.pipeline.prompt.embeddings import Embedding, EmbeddingCache
from jax_interp.runtime import processes


class NotAsked:
    def __getattr__(self, name):
        pytest.fail(f"{name} was asked for in a process that does not check")


@pytest.fixture
def second(monkeypatch):
    """This process is not the first; returns how to say what that one has found."""
    monkeypatch.setattr(processes, "is_first", lambda: False)

    def find(verdict):
        monkeypatch.setattr(processes, "decide", lambda name, value, timeout: asdict(verdict))

    return find


def test_other_processes_show_nothing(second):
    second(Verdict.allow())
    frames = np.full((2, 4, 6, 3), 200, np.uint8)
    shown = guarding.check_frames(NotAsked(), frames, 0)  # type: ignore[arg-type]
    assert (shown.shape, shown.dtype, shown.any()) == (frames.shape, np.uint8, False)


def test_what_the_first_process_blocks_is_blocked_in_all(second):
    second(Verdict.block("frame 3 is not safe", "Violence"))
    with pytest.raises(Blocked, match=r"the video is blocked .*category Violence.*frame 3"):
        guarding.check_frames(NotAsked(), np.zeros((2, 4, 6, 3), np.uint8), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("others_have_it", [True, False])
def test_a_text_that_one_process_has_not_kept_is_encoded_by_all(monkeypatch, tmp_path, others_have_it):
    said = []
    monkeypatch.setattr(processes, "everyone", lambda _, own, timeout: said.append(own) or [own, others_have_it])
    cache = guarding.SharedCache(tmp_path / "cache")
    assert cache.get("network", "rain") is None
    cache.put("network", "rain", Embedding(np.ones((2, 4), np.float32), 2))
    assert (cache.get("network", "rain") is not None) == others_have_it
    assert said == [False, True]
    assert EmbeddingCache(tmp_path / "cache").get("network", "rain") is not None
