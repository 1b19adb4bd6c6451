"""The guardrails of a run: they check prompts before it and frames after it, and block what they cannot check."""

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
from jax_interp.config import Quantization
from jax_interp.errors import Blocked
from jax_interp.guardrails.frames.faces import Blurred
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
"""The names of the guardrails, in the order in which they check; after one that blocks no other is run."""

GUARD_CLASSES: tuple[type[Guard], ...] = (TextGuard, FrameGuard, FaceGuard)
"""The class of each guardrail whose network `components.TABLE` places as `GUARDRAIL_MODELS`."""
_COUNTED = ("frames", "checked_frames", "faces")
_COMPONENTS = {"blocklist": "text_safety"}
"""The converted network that a guardrail needs, where their names differ."""


@dataclass(frozen=True)
class Checked:
    """The result of checking frames."""

    verdicts: Mapping[str, Verdict]
    """The verdicts by guardrail, in the order of the checks."""
    frames: RgbFrames | None
    """The frames with faces pixelated; None if they are blocked."""

    @property
    def verdict(self) -> Verdict:
        """The combined verdict of the guardrails of frames."""
        return combine_verdicts(self.verdicts, FRAME_GUARDRAILS)


class Guardrails:
    """Checks prompts and frames with the networks of a converted folder.

    ```python
    guardrails = Guardrails.open("converted")
    verdict = guardrails.check_prompt("a street in the rain")
    checked = guardrails.check_video(frames)      # checked.verdict, checked.frames
    ```

    Nothing is read before it is needed. Every failure (a missing network, an exception, values that are not numbers, a
    check that takes too long) blocks: no method that returns a verdict raises, except on an interrupt. The networks run
    on the first device of this process, whatever the rest of the run uses.
    """

    def __init__(
        self,
        root: Path,
        folders: Mapping[str, str | None],
        *,
        frame_stride: int,
        timeout: float,
        quantization: Quantization | None = None,
    ):
        check_frame_stride(frame_stride)
        self.frame_stride = frame_stride
        self._root, self._folders = root, folders
        self._quantization: Quantization | None = quantization
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
        quantization: Quantization | None = None,
    ) -> "Guardrails":
        """Open the guardrails in a folder that `jax-interp convert` made; `check_ready` tells whether all are there.

        The `*_dir` names choose among several converted networks of one kind. Every `frame_stride`-th frame of a clip
        is classified; faces are pixelated on all frames. A check may take `timeout` seconds, which includes reading
        weights and compiling at the first check of each kind. `quantization` is that of
        `Interpolator.from_pretrained`; of the guardrails only the classifier of prompts has 8-bit weights.

        Raises:
            UsageError: `frame_stride` or `timeout` cannot work.
        """
        folders = {"text_safety": text_safety_dir, "video_safety": video_safety_dir, "face_blur": face_blur_dir}
        return cls(Path(root), folders, frame_stride=frame_stride, timeout=timeout, quantization=quantization)

    def check_ready(self, *, prompts: bool = True, frames: bool = True) -> Verdict:
        """Tell whether the guardrails of prompts and of frames can be used; this reads no weights.

        A run calls it first, so that what is missing is reported before anything is generated.
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
        missing: dict[str, list[str]] = {}  # guardrails by reason, because several may lack the same package
        for name, verdict in ((name, verdict) for each in asked for name, verdict in each.items()):
            if not verdict.allowed:
                missing.setdefault(verdict.reason, []).append(name)
        if missing or not opening:
            reasons = (f"{', '.join(names)}: {reason}" for reason, names in missing.items())
            return Verdict.block("; ".join(reasons) or "no guardrail was asked")
        return Verdict.allow("every guardrail is there")

    def require_ready(self, what: str, *, prompts: bool = True) -> None:
        """Raise `Blocked`, which names `what`, unless the guardrails of frames, and of `prompts`, can be used."""
        ready = self.check_ready(prompts=prompts)
        if not ready.allowed:
            raise Blocked(what, ready)

    def check_prompt(self, prompt: str) -> Verdict:
        """Tell whether `prompt` may be used."""
        return combine_verdicts(self.prompt_verdicts(prompt), PROMPT_GUARDRAILS)

    def prompt_verdicts(self, prompt: str) -> dict[str, Verdict]:
        """Return the verdict of each guardrail of prompts, up to the first that blocks."""
        verdicts = self._ask(
            {
                "blocklist": lambda: self._guard(TextGuard).check_words(prompt),
                "text_safety": lambda: self._guard(TextGuard).classify(prompt),
            }
        )
        self._asked.update(verdicts)
        return verdicts

    def check_negative_prompt(self, prompt: str) -> Verdict:
        """Tell whether frames may be drawn towards `prompt`.

        The blocklist is not applied, because it has words that ordinary negative prompts are made of.
        """
        verdicts = self._ask({"text_safety": lambda: self._guard(TextGuard).classify(prompt)})
        self._asked.update(verdicts)
        return combine_verdicts(verdicts, NEGATIVE_PROMPT_GUARDRAILS)

    def remember_passed(self, prompt: str, names: tuple[str, ...]) -> None:
        """Record for `passed_before` that the guardrails called `names` let `prompt` pass."""
        self._passed.add((prompt, names))

    def passed_before(self, prompt: str, names: tuple[str, ...]) -> bool:
        """Tell whether those guardrails have let `prompt` pass already: the clips of a batch often share a prompt.

        A repeated check would be slow, because a classifier that is not resident is read again for every check.
        """
        if (prompt, names) not in self._passed:
            return False
        self._asked.update(names)
        return True

    def check_video(self, frames: RgbFrames, first_number: int = 0) -> Checked:
        """Check `frames`, uint8 RGB [F, Y, X, 3]; the result has the frames that may be shown in their place.

        A long clip is checked in chunks, in order; `first_number` is the index of the chunk's first frame in the clip.
        One chunk that is blocked blocks the clip.
        """
        kept: list[Blurred] = []
        verdicts = self._ask(
            {
                "video_safety": lambda: self._look_at(np.asarray(frames), first_number),
                "face_blur": lambda: self._blur(np.asarray(frames), kept),
            }
        )
        self._asked.update(verdicts)
        if not combine_verdicts(verdicts, FRAME_GUARDRAILS).allowed:
            return Checked(verdicts, None)
        [blurred] = kept
        self._counts.update(frames=len(blurred.frames), faces=sum(blurred.num_faces))
        return Checked(verdicts, blurred.frames)

    @property
    def networks(self) -> dict[str, NetworkStage[Any]]:
        """The networks that can be opened, by name."""
        stages: dict[str, NetworkStage[Any]] = {}
        for guard in self._those_there():
            stages[guard.COMPONENT] = guard.language if isinstance(guard, TextGuard) else guard
        return stages

    @property
    def placed_as(self) -> str:
        """The name by which all networks of the guardrails are placed."""
        return GUARDRAIL_MODELS

    @property
    def placement(self) -> Placement:
        """The placement of all networks of the guardrails."""
        return self._placement

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next check on; its resident blocks are those of the text classifier.

        Raises:
            UsageError: the placement is not possible for these networks.
        """
        for guard in self._those_there():
            _place(guard, placement)
        self._placement = placement

    def offload(self) -> None:
        """End a stage: parameters that are not resident leave the device. Every check does so itself."""
        for guard in self._loaded():
            guard.offload()

    def unload(self) -> None:
        """Free the memory of all networks; the next check reads them again."""
        for guard in self._loaded():
            guard.unload()

    @property
    def converted_components(self) -> list[ConvertedComponent]:
        """The converted networks that can be opened, for the run record."""
        self._those_there()
        return [self._guards[kind].converted for kind in GUARD_CLASSES if kind in self._guards]

    def start_counting(self) -> None:
        """Reset the counts, so that `facts` are about one clip."""
        self._counts.clear()
        self._asked.clear()

    def go_on_counting(self, facts: Mapping[str, Any]) -> None:
        """Add the counts of an earlier run of the same clip, whose `facts` these are."""
        self._asked.update(facts["guardrails"])
        self._counts.update({name: facts[name] for name in _COUNTED})

    def facts(self) -> dict[str, Any]:
        """Return the counts of what was checked, for the run record, as JSON values."""
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
        """Return the verdict of each check, up to the first that blocks."""
        verdicts: dict[str, Verdict] = {}
        for name, check in checks.items():
            verdicts[name] = self._fail_closed.run(name, _COMPONENTS.get(name, name), check)
            if not verdicts[name].allowed:
                break
        return verdicts

    def _is_absent(self, component: str) -> bool:
        """Tell whether a network was not converted at all; other faults are reported where it is opened."""
        with contextlib.suppress(Exception):
            return self._folders[component] is None and not has_component(self._root, component)
        return False

    def _guard(self, kind: type[GuardT]) -> GuardT:
        """Open the guardrail of that kind, or return it if it is open; raise what is wrong with it."""
        if kind not in self._guards:
            converted = find_component(self._root, kind.COMPONENT, self._folders[kind.COMPONENT])
            guard = kind(converted.quantized(self._quantization), DeviceMesh(ALONE, jax.local_devices()[:1]))
            _place(guard, self._placement)
            self._guards[kind] = guard
        return self._guards[kind]

    def _those_there(self) -> Sequence[Guard]:
        """Return the guardrails that can be opened; the checks report what is wrong with the others."""
        if not self._fail_closed.broken:
            for kind in GUARD_CLASSES:
                with contextlib.suppress(Exception):
                    self._guard(kind)
        return self._loaded()

    def _loaded(self) -> Sequence[Guard]:
        """Return the guardrails that were opened; none if an abandoned check may still be using their networks."""
        return () if self._fail_closed.broken else list(self._guards.values())


def combine_verdicts(verdicts: Mapping[str, Verdict], names: Sequence[str]) -> Verdict:
    """Return the combined verdict of the guardrails called `names`: it allows only if each of them has allowed."""
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
