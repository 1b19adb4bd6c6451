"""What a user asks of a clip: one frozen value, kept as JSON with the job, from which its request is made.

The same value always gives the same request, so that a server that was killed goes on with the pairs that are there.
"""

import dataclasses
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from jax_interp.app.settings import AppSettings
from jax_interp.diffusion.branches import Branch, branches
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import UsageError
from jax_interp.files.json_file import parse_json
from jax_interp.files.json_schema import JsonFault, decode
from jax_interp.files.names import check_text
from jax_interp.media.shape import Aspect
from jax_interp.media.timeline.settings import Timeline
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings, Video2WorldSettings

PipelineName: TypeAlias = Literal["interpolate", "continue"]
PrecisionChoice: TypeAlias = Literal["bfloat16", "float32", "int8", "int8-rotated"]

MOST_PROMPT = 4000
"""The characters of a prompt; the text encoder reads 512 tokens."""
MOST_STEPS = 200

# Short texts, because a number like 1e999999999 takes minutes to parse.
_RATE = re.compile(r"|source|[0-9.]{1,12}x?|[0-9]{1,9}/[0-9]{1,9}")
_NUMBER = re.compile(r"|[0-9.]{1,12}|[0-9]{1,9}/[0-9]{1,9}")
_ASPECT = re.compile(r"|auto|stretch|[0-9]{1,5}x[0-9]{1,5}")

RESULT = "result.mp4"
FRAMES = "frames"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The choices for one clip; texts are as the command line's options take them."""

    pipeline: PipelineName = "interpolate"
    prompt: str = ""
    rate: str = ""
    """As `--rate`; empty for upstream's pace, at which every pair becomes ten frames."""
    slow_motion: str = "1"
    """As `--slow-motion`."""
    steps: int = 35
    precision: PrecisionChoice = "bfloat16"
    """What the transformer computes in; those of int8 have its weights and products in 8 bits."""
    aspect: str = ""
    """As `--aspect`; empty leaves it to the timeline."""
    frame_stride: int = 1
    guidance: float = -1.0
    seed: int = 11
    frames: bool = True
    """Whether the frames are kept as PNG too."""
    given_frames: int = 1
    """Of a clip that is continued: its last frames that the result begins with, 1 or 9."""
    length: int = 121
    """Of a clip that is continued: the frames of the result."""
    upsample: bool = False
    """Whether the prompt upsampler writes the prompt."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for what no clip can be asked."""
        check_text("prompt", self.prompt)
        faults = []
        if len(self.prompt) > MOST_PROMPT:
            faults.append(f"prompt has {len(self.prompt)} characters; {MOST_PROMPT} are read at most")
        if not 1 <= self.steps <= MOST_STEPS:
            faults.append(f"steps is {self.steps}; expected 1 to {MOST_STEPS}")
        faults += [
            f"{name} is {text[:40]!r}; expected {expected}"
            for name, text, pattern, expected in (
                ("rate", self.rate, _RATE, "60, 60000/1001, 2x or source"),
                ("slow_motion", self.slow_motion, _NUMBER, "a number from 1 on, as 4 or 2.5"),
                ("aspect", self.aspect, _ASPECT, "auto, stretch, or a width and height as 960x704"),
            )
            if not pattern.fullmatch(text.strip())
        ]
        if self.frame_stride < 1:
            faults.append(f"frame_stride is {self.frame_stride}; expected 1 or more")
        if faults:
            raise UsageError("; ".join(faults))
        self._timeline()
        self._shape()

    @classmethod
    def parse(cls, values: Any) -> "Asked":
        """Return the value of `values`, a mapping as `as_json` writes it; what it lacks is as by default.

        Raises:
            UsageError: a key is unknown, or a value is of the wrong type or cannot work.
        """
        if not isinstance(values, dict):
            raise UsageError(f"settings: expected an object, not {type(values).__name__}")
        defaults = dataclasses.asdict(cls())
        if unknown := sorted(str(key)[:40] for key in values.keys() - defaults.keys()):
            raise UsageError(f"settings: {', '.join(unknown)} is unknown; there are {', '.join(defaults)}")
        try:
            return decode(cls, defaults | values)
        except JsonFault as fault:
            raise UsageError(f"settings: {fault}") from fault

    @classmethod
    def of_text(cls, text: str) -> "Asked":
        """Return what `as_json` wrote."""
        return cls.parse(parse_json(text))

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def settled(self, *, has_upsampler: bool) -> "Asked":
        """Return this with the upsampler chosen as the command line does: where a prompt counts and is missing."""
        counts = Branch.CONDITIONAL in branches(self.guidance)
        return replace(self, upsample=has_upsampler and counts and not self.prompt)

    def job(self, folder: Path, inputs: tuple[Path, ...], app: AppSettings) -> Job:
        """Return the job whose results go into `folder`; raises `UsageError` for values that cannot work."""
        is_timed = self.pipeline == "interpolate"
        return Job(
            inputs=inputs,
            video=folder / RESULT,
            settings=self._settings(app),
            upsampler=UpsamplerSettings() if self.upsample else None,
            frames_folder=folder / FRAMES if self.frames else None,
            timeline=self._timeline() if is_timed else Timeline(),
            aspect=self._shape() if is_timed else None,
        )

    def request(self, job: Job, app: AppSettings) -> GenerateRequest:
        """Return the request of `job`, which `job()` made."""
        networks = replace(
            app.networks,
            dtype="float32" if self.precision == "float32" else app.networks.dtype,
            quantization=self.precision if self.precision in ("int8", "int8-rotated") else app.networks.quantization,
        )
        return GenerateRequest(
            jobs=(job,),
            networks=networks,
            guardrails=app.guardrails,
            memory=app.memory,
            devices=app.devices,
            keeps_finished=True,
        )

    def _settings(self, app: AppSettings) -> RunSettings:
        sampling = SampleSettings(guidance=self.guidance, seed=self.seed, num_steps=self.steps)
        size = self._shape()
        if self.pipeline == "interpolate":
            return InterpolationSettings(
                prompt=self.prompt,
                sampling=sampling,
                frame_stride=self.frame_stride,
                height=app.height,
                width=app.width,
            )
        height, width = size.size if size is not None and size.size is not None else (app.height, app.width)
        settings = Video2WorldSettings(
            prompt=self.prompt,
            sampling=sampling,
            num_input_frames=self.given_frames,
            height=height,
            width=width,
            num_video_frames=self.length,
        )
        if not self.upsample:
            settings.check_prompt()
        return settings

    def _timeline(self) -> Timeline:
        return Timeline(rate=self.rate.strip() or None, slow_motion=self.slow_motion.strip() or "1")

    def _shape(self) -> Aspect | None:
        return Aspect.parse(self.aspect.strip()) if self.aspect.strip() else None
