"""The settings of a run, one frozen value for each pipeline, checked before anything is loaded."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from jax_interp.diffusion.branches import Branch, branches
from jax_interp.diffusion.settings import SampleSettings, check_steps
from jax_interp.errors import UsageError
from jax_interp.files.names import check_text
from jax_interp.media.output_rate import FASTEST, SLOWEST
from jax_interp.media.timeline.settings import Keyframes
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.mesh_shape import ALONE, AXES, MeshShape


@dataclass(frozen=True, kw_only=True)
class InterpolationSettings:
    """All settings of a run, except its input, its networks and where the result goes."""

    prompt: str = ""
    negative_prompt: str | None = None
    """None stands for upstream's default text, "" for the all-zero embedding."""
    sampling: SampleSettings = field(default_factory=SampleSettings)
    num_frame_pairs: int | None = None
    """Pairs to interpolate; None takes all pairs of the clip."""
    frame_stride: int = 1
    frame_index_start: int = 0
    height: int = 704
    width: int = 1280
    num_video_frames: int = 10
    pairs_per_batch: int = 1
    keyframes: Keyframes = "decoded"
    """Whether the first and last frame of a pair come back as the network decodes them, or as they were given."""

    @property
    def followed_negative_prompt(self) -> str:
        """The negative prompt, if it is the caller's own and frames are drawn towards it; otherwise the empty string.

        Below a guidance of 0 its weight in a prediction is positive; at -1, the default, it is the whole weight.
        """
        return _followed_negative_prompt(self)

    def together(self, pairs: int) -> "InterpolationSettings":
        """Return these settings with `pairs` pairs in a pass over the weights."""
        return replace(self, pairs_per_batch=pairs)

    def workload(self, mesh: MeshShape = ALONE, shard_axes: tuple[str, ...] = AXES[:2]) -> Workload:
        """Return what decides how much memory a run with these settings takes on each device of `mesh`."""
        return Workload(
            height=self.height,
            width=self.width,
            num_video_frames=self.num_video_frames,
            pairs_per_batch=self.pairs_per_batch,
            branches=len(branches(self.sampling.guidance)),
            mesh=mesh,
            shard_axes=shard_axes,
        )

    def __post_init__(self) -> None:
        """Raise `UsageError` for values that can never work; sizes are checked against the networks later."""
        faults = list(_faults(self))
        if _is_whole(self.pairs_per_batch) and self.pairs_per_batch < 1:
            faults.append(f"--pairs-per-batch is {self.pairs_per_batch}; expected 1 or more")
        if faults:
            raise UsageError("; ".join(faults))


INPUT_FRAMES = (1, 9)
"""The numbers of frames that Video2World continues."""


@dataclass(frozen=True, kw_only=True)
class Video2WorldSettings:
    """All settings of a run of Video2World, except its input, its networks and where the result goes."""

    prompt: str = ""
    negative_prompt: str | None = None
    """None stands for upstream's default text; "" leaves guidance without effect, as upstream does."""
    sampling: SampleSettings = field(default_factory=lambda: SampleSettings(guidance=7.0, seed=1))
    num_input_frames: int = 1
    """The last frames of the input that are continued, 1 or 9."""
    height: int = 704
    width: int = 1280
    num_video_frames: int = 121

    @property
    def followed_negative_prompt(self) -> str:
        """As `InterpolationSettings.followed_negative_prompt`."""
        return _followed_negative_prompt(self)

    @property
    def num_frame_pairs(self) -> int:
        """A clip is made as a whole: 1."""
        return 1

    def together(self, pairs: int) -> "Video2WorldSettings":
        """Return these settings: there are no pairs to pass together."""
        return self

    def workload(self, mesh: MeshShape = ALONE, shard_axes: tuple[str, ...] = AXES[:2]) -> Workload:
        """Return what decides how much memory a run with these settings takes on each device of `mesh`."""
        return Workload(
            height=self.height,
            width=self.width,
            num_video_frames=self.num_video_frames,
            branches=1 if mesh.data == 1 else len(branches(self.sampling.guidance)),
            mesh=mesh,
            shard_axes=shard_axes,
            in_pieces=True,
        )

    def check_prompt(self) -> None:
        """Raise `UsageError` if guidance would push from the negative prompt towards nothing."""
        guidance = self.sampling.guidance
        if not self.prompt.strip() and guidance != 0 and Branch.CONDITIONAL in branches(guidance):
            raise UsageError(
                f"--guidance {guidance:g} without a prompt: there is nothing to guide by; give --prompt, have the"
                " prompt upsampler write one, or pass --guidance 0, which follows the empty prompt alone"
            )

    def __post_init__(self) -> None:
        """Raise `UsageError` for values that can never work; sizes are checked against the networks later."""
        faults = list(_faults(self))
        if self.sampling.condition_noise != "fixed":
            faults.append("--condition-noise: this model has the fixed noise only")
        if self.num_input_frames not in INPUT_FRAMES:
            faults.append(
                f"--num-input-frames is {self.num_input_frames}; expected {' or '.join(map(str, INPUT_FRAMES))}"
            )
        if faults:
            raise UsageError("; ".join(faults))


LARGEST_GUIDANCE = 3.4e38
"""The largest guidance, of either sign: networks are combined in float32, in which larger ones are infinite."""

RunSettings: TypeAlias = InterpolationSettings | Video2WorldSettings
"""The settings of a run of either pipeline."""


def _followed_negative_prompt(settings: RunSettings) -> str:
    own = settings.negative_prompt is not None and settings.negative_prompt != DEFAULT_NEGATIVE_PROMPT
    return settings.negative_prompt or "" if own and settings.sampling.guidance < 0 else ""


def _faults(settings: RunSettings) -> Iterator[str]:
    """Yield what can never work, of what both pipelines have."""
    sampling = settings.sampling
    if wrong := list(_wrong_types(settings)):
        yield from wrong
        return  # the checks below compare values
    check_steps(sampling.num_steps)
    for name, text in (("--prompt", settings.prompt), ("--negative-prompt", settings.negative_prompt)):
        check_text(name, text or "")
    if not SLOWEST <= sampling.fps <= FASTEST:
        yield f"--fps is {sampling.fps}; expected frames a second, from {float(SLOWEST)} to {FASTEST}"
    if not abs(sampling.guidance) <= LARGEST_GUIDANCE:
        yield f"--guidance is {sampling.guidance}; expected a finite number, up to {LARGEST_GUIDANCE:g}"
    if not 0 <= sampling.seed < 2**32:
        yield f"--seed is {sampling.seed}; expected a whole number from 0 to {2**32 - 1}"
    noise = sampling.condition_noise
    if not callable(noise) and noise not in ("fixed", "random"):
        yield f"--condition-noise is {noise!r}; expected fixed or random"


def _wrong_types(settings: RunSettings) -> Iterator[str]:
    """Yield which values are of another type: a Python program can give any, and would fail with them far from here."""
    sampling = settings.sampling
    for name, text in (("--prompt", settings.prompt), ("--negative-prompt", settings.negative_prompt)):
        if not isinstance(text, str | None):
            yield f"{name} is {text!r}; expected a text"
    for name, value in (("--guidance", sampling.guidance), ("--fps", sampling.fps)):
        if not _is_taken(float, value):
            yield f"{name} is {value!r}; expected a number"
    whole = {
        "--seed": sampling.seed,
        "--num-steps": sampling.num_steps,
        "--height": settings.height,
        "--width": settings.width,
        "--num-video-frames": settings.num_video_frames,
    }
    if isinstance(settings, Video2WorldSettings):
        whole["--num-input-frames"] = settings.num_input_frames
    else:
        whole |= {
            "--frame-stride": settings.frame_stride,
            "--frame-index-start": settings.frame_index_start,
            "--num-frame-pairs": 1 if settings.num_frame_pairs is None else settings.num_frame_pairs,
            "--pairs-per-batch": settings.pairs_per_batch,
        }
    for name, value in whole.items():
        if not _is_whole(value):
            yield f"{name} is {value!r}; expected a whole number"


def _is_whole(value: Any) -> bool:
    return _is_taken(operator.index, value)


def _is_taken(convert: Callable[[Any], Any], value: Any) -> bool:
    """Tell whether `convert` takes `value`, which may be a number of Python, numpy or JAX, but no text."""
    if isinstance(value, str | bytes):
        return False
    try:
        convert(value)
    except (TypeError, ValueError):
        return False
    return True
