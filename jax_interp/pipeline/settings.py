"""The settings of an interpolation as one frozen value, checked before anything is loaded."""

import math
from dataclasses import dataclass, field

from jax_interp.diffusion.branches import branches
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
        own = self.negative_prompt is not None and self.negative_prompt != DEFAULT_NEGATIVE_PROMPT
        return self.negative_prompt or "" if own and self.sampling.guidance < 0 else ""

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
        check_steps(self.sampling.num_steps)
        for name, text in (("--prompt", self.prompt), ("--negative-prompt", self.negative_prompt)):
            check_text(name, text or "")
        faults = []
        if not SLOWEST <= self.sampling.fps <= FASTEST:
            faults.append(f"--fps is {self.sampling.fps}; expected frames a second, from {float(SLOWEST)} to {FASTEST}")
        if not math.isfinite(self.sampling.guidance):
            faults.append(f"--guidance is {self.sampling.guidance}; expected a finite number")
        if not 0 <= self.sampling.seed < 2**32:
            faults.append(f"--seed is {self.sampling.seed}; expected a whole number from 0 to {2**32 - 1}")
        noise = self.sampling.condition_noise
        if not callable(noise) and noise not in ("fixed", "random"):
            faults.append(f"--condition-noise is {noise!r}; expected fixed or random")
        if self.pairs_per_batch < 1:
            faults.append(f"--pairs-per-batch is {self.pairs_per_batch}; expected 1 or more")
        if faults:
            raise UsageError("; ".join(faults))
