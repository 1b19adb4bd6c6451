"""What tests of guarded runs look at: the output folder, the run record, and the frames that were written."""

import json

import imageio.v3 as iio
import numpy as np

from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.safety.guardrails import Checked, Guardrails
from tests.guardrails.tiny_guards import MARK

BAD = f"a {MARK} in the rain"


def left(tmp_path):
    """All that lies in the output folder, hidden or not."""
    return sorted(path.name for path in (tmp_path / "out").rglob("*")) if (tmp_path / "out").exists() else []


def record(tmp_path, name="output"):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())


def frames(folder):
    return np.stack([iio.imread(path) for path in sorted(folder.glob("*.png"))]).astype(int)


def block_from_second_pair(monkeypatch):
    """From now on the frames of every pair but the first are unsafe."""
    check = Guardrails.check_video

    def second(self, frames, first_number=0):
        if first_number:
            return Checked({"video_safety": Verdict.block("frame 9 shows violence", "Violence")}, None)
        return check(self, frames, first_number)

    monkeypatch.setattr(Guardrails, "check_video", second)
