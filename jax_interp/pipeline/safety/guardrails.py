"""The guardrails of a run: prompts before generation, frames after it; what they cannot tell about does not pass."""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jax_interp.components import GUARDRAIL_MODELS
from jax_interp.guardrails.faces import Blurred
from jax_interp.guardrails.verdict import Verdict
from jax_interp.media.source import RgbFrames
from jax_interp.pipeline.safety.fail_closed import WITHOUT_GUARDRAILS, FailClosed
from jax_interp.pipeline.safety.settings import TIMEOUT, check_frame_stride
from jax_interp.pipeline.safety.text_guard import TextGuard
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from jax_interp.pipeline.stages.stage import NetworkStage
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.finding import find_component, has_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import ALONE
from jax_interp.runtime.placement import RESIDENT, Placement

Guard = TextGuard | FrameGuard | FaceGuard
GuardT = TypeVar("GuardT", bound=Guard)

PROMPT_GUARDRAILS = ("blocklist", "text_safety")
NEGATIVE_PROMPT_GUARDRAILS = ("text_safety",)
FRAME_GUARDRAILS = ("video_safety", "face_blur")
"""The guardrails by name, in the order in which they are asked; one that blocks is the last."""

GUARD_CLASSES: tuple[type[Guard], ...] = (TextGuard, FrameGuard, FaceGuard)
"""What checks with each of the networks that `components.TABLE` places as `GUARDRAIL_MODELS`."""
_COUNTED = ("frames", "checked_frames", "faces")
_COMPONENTS = {"blocklist": "text_safety"}
"""The converted network that a guardrail needs, if it has another name."""


@dataclass(frozen=True)
class Checked:
    """What the guardrails say about frames."""

    verdicts: Mapping[str, Verdict]
    """By guardrail, in the order in which they were asked."""
    frames: RgbFrames | None
    """The frames with faces pixelated; None if they are blocked."""

    @property
    def verdict(self) -> Verdict:
        """What they say together."""
        return together(self.verdicts, FRAME_GUARDRAILS)


class Guardrails:
    """Checks prompts and frames with the networks of a converted folder.

    ```python
    guardrails = Guardrails.open("converted")
    verdict = guardrails.check_prompt("a street in the rain")
    checked = guardrails.check_video(frames)      # checked.verdict, checked.frames
    ```

    Nothing is read before it is needed. Whatever goes wrong (a network is not there, an exception, values that are not
    numbers, a check that takes too long) blocks: no method that gives a verdict raises, except on an interrupt. All of
    it runs on the first device of this process, whatever the rest runs on.
    """

    def __init__(self, root: Path, folders: Mapping[str, str | None], *, frame_stride: int, timeout: float):
        check_frame_stride(frame_stride)
        self.frame_stride = frame_stride
        self._root, self._folders = root, folders
        self._fail_closed = FailClosed(timeout)
        self._guards: dict[type, Any] = {}
        self._placement = RESIDENT
        self._counts: Counter[str] = Counter()
        self._asked: set[str] = set()
        self._passed: set[tuple[str, tuple[str, ...]]] = set()

    @classmethod
    def open(
        cls,
        root: str | Path,
        *,
        text_safety_dir: str | None = None,
        video_safety_dir: str | None = None,
        face_blur_dir: str | None = None,
        frame_stride: int = 1,
        timeout: float = TIMEOUT,
    ) -> "Guardrails":
        """The guardrails in a folder that `jax-interp convert` made; `check_ready` says whether they are there.

        The `*_dir` names choose among several converted networks of one kind. Of a clip's frames every
        `frame_stride`-th is classified; faces are pixelated on all. A check may take `timeout` seconds, the first of
        each kind reading weights and compiling.

        Raises:
            UsageError: `frame_stride` or `timeout` cannot work.
        """
        folders = {"text_safety": text_safety_dir, "video_safety": video_safety_dir, "face_blur": face_blur_dir}
        return cls(Path(root), folders, frame_stride=frame_stride, timeout=timeout)

    def check_ready(self, *, prompts: bool = True, frames: bool = True) -> Verdict:
        """Whether the guardrails of prompts and of frames could be asked; reads no weights.

        For the door of a run: what is missing is known before anything is generated.
        """
        wanted = ("text_safety",) * prompts + ("video_safety", "face_blur") * frames
        if absent := [name for name in wanted if self._is_absent(name)]:
            these = " ".join(absent)
            return Verdict.block(
                f"{self._root} has no {', '.join(absent)}; run `jax-interp download --components {these}`, then"
                f" `jax-interp convert --output-dir {self._root} --components {these}`, {WITHOUT_GUARDRAILS}"
            )
        opening: dict[str, Callable[[], object]] = {}
        if prompts:
            opening["blocklist"] = lambda: self._guard(TextGuard).blocklist
            opening["text_safety"] = lambda: self._guard(TextGuard).classifier
        if frames:
            opening["video_safety"] = lambda: self._guard(FrameGuard)
            opening["face_blur"] = lambda: self._guard(FaceGuard)
        asked = [self._ask({name: partial(_is_there, get)}) for name, get in opening.items()]
        missing: dict[str, list[str]] = {}  # several may lack the same
        for name, verdict in ((name, verdict) for each in asked for name, verdict in each.items()):
            if not verdict.allowed:
                missing.setdefault(verdict.reason, []).append(name)
        if missing or not opening:
            reasons = (f"{', '.join(names)}: {reason}" for reason, names in missing.items())
            return Verdict.block("; ".join(reasons) or "no guardrail was asked")
        return Verdict.allow("every guardrail is there")

    def check_prompt(self, prompt: str) -> Verdict:
        """Whether `prompt` may be used."""
        return together(self.ask_about_prompt(prompt), PROMPT_GUARDRAILS)

    def ask_about_prompt(self, prompt: str) -> dict[str, Verdict]:
        """What each of the guardrails of prompts says, up to the first that blocks."""
        verdicts = self._ask(
            {
                "blocklist": lambda: self._guard(TextGuard).check_words(prompt),
                "text_safety": lambda: self._guard(TextGuard).classify(prompt),
            }
        )
        self._asked.update(verdicts)
        return verdicts

    def check_negative_prompt(self, prompt: str) -> Verdict:
        """Whether frames may be drawn towards `prompt`; the blocklist has words that negative prompts are made of."""
        verdicts = self._ask({"text_safety": lambda: self._guard(TextGuard).classify(prompt)})
        self._asked.update(verdicts)
        return together(verdicts, NEGATIVE_PROMPT_GUARDRAILS)

    def remember_passed(self, prompt: str, names: tuple[str, ...]) -> None:
        """Note that the guardrails called `names` let `prompt` pass, for `passed_before`."""
        self._passed.add((prompt, names))

    def passed_before(self, prompt: str, names: tuple[str, ...]) -> bool:
        """Whether `prompt` needs no other check by those guardrails: the clips of a batch often have one prompt.

        A classifier that does not stay on the device is read anew for every question.
        """
        if (prompt, names) not in self._passed:
            return False
        self._asked.update(names)
        return True

    def check_video(self, frames: RgbFrames, first_number: int = 0) -> Checked:
        """Whether `frames`, uint8 RGB [F, Y, X, 3], may be shown, and the frames to be shown in their place.

        A long clip is checked piece by piece, in its order; `first_number` is the place of the piece's first frame in
        it. One piece that is blocked blocks the clip.
        """
        kept: list[Blurred] = []
        verdicts = self._ask(
            {
                "video_safety": lambda: self._look_at(np.asarray(frames), first_number),
                "face_blur": lambda: self._blur(np.asarray(frames), kept),
            }
        )
        self._asked.update(verdicts)
        if not together(verdicts, FRAME_GUARDRAILS).allowed:
            return Checked(verdicts, None)
        [blurred] = kept
        self._counts.update(frames=len(blurred.frames), faces=sum(blurred.num_faces))
        return Checked(verdicts, blurred.frames)

    @property
    def networks(self) -> dict[str, NetworkStage[Any]]:
        """Those of the networks that are there, for whoever counts their memory."""
        stages: dict[str, NetworkStage[Any]] = {}
        for guard in self._those_there():
            stages[guard.COMPONENT] = guard.language if isinstance(guard, TextGuard) else guard
        return stages

    @property
    def placed_as(self) -> str:
        """The name by which all of their networks are placed."""
        return GUARDRAIL_MODELS

    @property
    def placement(self) -> Placement:
        """Where all of their networks live."""
        return self._placement

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next check on; blocks that stay are the text classifier's.

        Raises:
            UsageError: it is not for these networks.
        """
        for guard in self._those_there():
            _place(guard, placement)
        self._placement = placement

    def offload(self) -> None:
        """End a stage: what is not resident leaves the device. Every check does so itself."""
        for guard in self._loaded():
            guard.offload()

    def unload(self) -> None:
        """Give the memory of all networks back; the next check reads them again."""
        for guard in self._loaded():
            guard.unload()

    @property
    def founds(self) -> list[ConvertedComponent]:
        """Those of the converted networks that are there, for the run record."""
        self._those_there()
        return [self._guards[kind].found for kind in GUARD_CLASSES if kind in self._guards]

    def start_counting(self) -> None:
        """Forget what was checked so far: `facts` are then about one clip."""
        self._counts.clear()
        self._asked.clear()

    def go_on_counting(self, facts: Mapping[str, Any]) -> None:
        """Count what an earlier run, whose `facts` these are, has checked of the clip."""
        self._asked.update(facts["guardrails"])
        self._counts.update({name: facts[name] for name in _COUNTED})

    def facts(self) -> dict[str, Any]:
        """What was checked, for the run record: JSON values."""
        return {
            "state": "on",
            "guardrails": [name for name in (*PROMPT_GUARDRAILS, *FRAME_GUARDRAILS) if name in self._asked],
            "frame_stride": self.frame_stride,
            **{name: self._counts[name] for name in _COUNTED},
        }

    def _look_at(self, frames: RgbFrames, first_number: int) -> Verdict:
        verdict, count = self._guard(FrameGuard).check(frames, first_number, self.frame_stride)
        self._counts["checked_frames"] += count
        return verdict

    def _blur(self, frames: RgbFrames, kept: list[Blurred]) -> Verdict:
        blurred = self._guard(FaceGuard).blur(frames)
        there = blurred.frames
        if type(there) is not np.ndarray or there.dtype != np.uint8 or there.shape != frames.shape or not len(there):
            raise TypeError("it gave no frames in the place of those that it was given")
        kept.append(blurred)
        return Verdict.allow(f"{sum(blurred.num_faces)} face(s) were found on {len(there)} frame(s)")

    def _ask(self, checks: Mapping[str, Callable[[], Verdict]]) -> dict[str, Verdict]:
        """What each guardrail says, up to the first that blocks."""
        verdicts: dict[str, Verdict] = {}
        for name, check in checks.items():
            verdicts[name] = self._fail_closed.run(name, _COMPONENTS.get(name, name), check)
            if not verdicts[name].allowed:
                break
        return verdicts

    def _is_absent(self, component: str) -> bool:
        """Whether it was not converted at all; what else may be wrong is said where it is opened."""
        with contextlib.suppress(Exception):
            return self._folders[component] is None and not has_component(self._root, component)
        return False

    def _guard(self, kind: type[GuardT]) -> GuardT:
        """The guardrail of that kind, opened; raises what is wrong with it."""
        if kind not in self._guards:
            found = find_component(self._root, kind.COMPONENT, self._folders[kind.COMPONENT])
            guard = kind(found, DeviceMesh(ALONE, jax.local_devices()[:1]))
            _place(guard, self._placement)
            self._guards[kind] = guard
        return self._guards[kind]

    def _those_there(self) -> Sequence[Guard]:
        """Those that can be opened; what is wrong with the others is said by the checks."""
        if not self._fail_closed.broken:
            for kind in GUARD_CLASSES:
                with contextlib.suppress(Exception):
                    self._guard(kind)
        return self._loaded()

    def _loaded(self) -> Sequence[Guard]:
        """Those that were opened; none if a check may still be running, whose networks must be left alone."""
        return () if self._fail_closed.broken else list(self._guards.values())


def together(verdicts: Mapping[str, Verdict], names: Sequence[str]) -> Verdict:
    """What the guardrails called `names` say together: a verdict that allows only if each of them has said so."""
    for name in names:
        if name not in verdicts:
            return Verdict.block(f"{name}: it was not asked")
        verdict = verdicts[name]
        if not verdict.allowed:
            return Verdict.block(f"{name}: {verdict.reason}", verdict.category)
    if not names:
        return Verdict.block("no guardrail was asked")
    return Verdict.allow("every guardrail lets it pass")


def _is_there(get: Callable[[], object]) -> Verdict:
    get()
    return Verdict.allow("it is there")


def _place(guard: Guard, placement: Placement) -> None:
    guard.place(placement if isinstance(guard, TextGuard) else Placement(placement.kind))
