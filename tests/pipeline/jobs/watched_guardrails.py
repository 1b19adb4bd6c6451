"""Guardrails for tests of jobs."""

from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.safety.guardrails import FRAME_GUARDRAILS, Checked
from jax_interp.runtime.placement import Placement


class Watched:
    """Guardrails that let everything pass, and note what they are asked."""

    frame_stride = 1
    placed_as, networks, converted_components = "guardrail_models", {}, ()
    placement = Placement()

    def __init__(self):
        self.asked = []
        self.passed = set()

    def start_counting(self): ...

    def go_on_counting(self, facts): ...

    def facts(self):
        return {"state": "on", "guardrails": [], "frame_stride": 1, "frames": 0, "checked_frames": 0, "faces": 0}

    def check_prompt(self, prompt):
        self.asked.append(prompt)
        return Verdict.allow("it is a test")

    check_negative_prompt = check_prompt

    def passed_before(self, prompt, names):
        return False  # every call of the door is to be seen

    def remember_passed(self, prompt, names): ...

    def check_video(self, frames, first_number):
        return Checked({name: Verdict.allow("it is a test") for name in FRAME_GUARDRAILS}, frames)
