"""The settings of a training run, frozen values that are checked before anything is loaded."""

from dataclasses import dataclass, field, replace
from typing import Literal

from jax_interp.config import Precision
from jax_interp.errors import UsageError

UPSTREAM_RATE = 2**-14.3
"""Learning rate of upstream's full post-training (Video2World; the interpolator's own is 0.0 and trains nothing)."""

Keep = Literal["inputs", "attention", "products"]


@dataclass(frozen=True)
class LogNormal:
    """A log-normal distribution, `multiplier · exp(N(mean, deviation))`."""

    mean: float
    deviation: float
    multiplier: float = 1.0


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """The distributions of noise levels, known frames and text dropout, by default upstream's for the interpolator."""

    sigma: LogNormal = LogNormal(0.0, 1.0, 2.0)
    """The noise level of a sample. Upstream's multiplier is the root of the configured latent frames, before one is
    dropped (4 for the interpolator, 16 for Video2World)."""
    augment_sigma: LogNormal = LogNormal(-3.0, 2.0)
    """The noise level of the known frames."""
    text_dropout: float = 0.5
    """The probability that a sample's text embedding becomes zero."""
    known: Literal["ends", "first"] = "ends"
    """The latent frames that are known: the first and the last, or the first `k`, where `k` is drawn once a batch."""
    max_known: int = 2
    """The largest `k` if the first frames are known."""


VIDEO2WORLD_NOISE = NoiseSettings(sigma=LogNormal(0.0, 1.0, 4.0), text_dropout=0.2, known="first")


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The settings of the loss."""

    log_variance: bool = True
    """Whether the learned log-variance weighs noise levels against each other (Karras et al. 2024, equation 14)."""
    reduce: Literal["mean", "sum"] = "mean"
    """`mean` is over all elements; `sum` is over a sample's elements, with the mean over samples."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The settings of AdamW, its learning rate schedule, clipping and averaging."""

    learning_rate: float = 5e-5
    warmup_steps: int = 100
    decay: Literal["constant", "linear", "cosine"] = "cosine"
    """The decay of the learning rate from the end of the warm-up to the last step."""
    final_factor: float = 0.1
    """The share of the rate that is left at the last step, if it decays."""
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = 1e-10
    weight_decay: float = 0.1
    """The decoupled weight decay, times the learning rate, of every trained parameter."""
    clip_norm: float = 1.0
    """The largest global norm of the gradients."""
    ema_rate: float | None = 0.1
    """The width of the average over past weights relative to the steps so far (Karras et al. 2024, section 3.2); None
    keeps no average."""


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """A low-rank adapter (Hu et al. 2021): `x W + scale · (x A) B` with `A` and `B` trained."""

    rank: int = 8
    scale: float = 1.0
    """The factor of the adapter's product; PEFT's `lora_alpha` is `scale · rank`."""
    targets: tuple[str, ...] = ("q", "v")
    """The adapted layers of every block: names of `train.steps.lora.SHORT_NAMES`, or path patterns such as `mlp/*`."""

    def __post_init__(self) -> None:
        faults = []
        if not 1 <= self.rank <= 512:
            faults.append(f"--lora-rank is {self.rank}; expected 1 to 512")
        if not 0 < self.scale < float("inf"):
            faults.append(f"--lora-scale is {self.scale}; expected a positive number")
        if faults:
            raise UsageError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The settings of the encoding of a window of video to latents."""

    pixels: Literal["inference", "upstream"] = "inference"
    """`inference` scales levels as v / 128 - 1, resizes as generation does, and normalises the last frame as a picture.
    `upstream` resizes, truncates and scales levels as v / 127.5 - 1, and normalises the last frame as video too."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of a training run, all but its data, its network and where the result goes."""

    steps: int = 2000
    batch_size: int = 1
    """The number of samples of an optimizer step, over all devices."""
    accumulate: int = 1
    """The number of passes that a batch is divided into; the result is that of one pass, within rounding."""
    seed: int = 0
    dtype: Precision = "bfloat16"
    """The dtype that the network computes in. Trained weights, averages and the optimizer's state are float32."""
    learned_positions: bool = True
    """Whether the network adds its learned positions, as it does when it generates. Upstream's experiments leave them
    out, and so train another function."""
    lora: LoraSettings | None = None
    """The adapter that is trained instead of the network; None trains the network."""
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    data: DataSettings = field(default_factory=DataSettings)
    optimizer_on_host: bool = False
    """Whether float32 weights, moments and averages are in host memory, from which a step takes them block by block."""
    stream_base: bool = False
    """Whether the network beside an adapter is kept in host memory and streamed through the device block by block, once
    forwards and once backwards a step."""
    keep: Keep = "inputs"
    """What of every block is kept for the way back, where the rest is computed again. `attention`: also the result of
    self-attention, a vector of the network's width a token and block, if cuDNN computes it. `products`: these, and the
    results of all linear layers, so that only what is cheap is computed again."""
    recipe: Literal["default", "upstream"] = "default"
    """Only the default recipe refuses rates and warm-ups that train little or nothing."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for values that cannot work."""
        faults = []
        if self.steps < 1:
            faults.append(f"--steps is {self.steps}; expected 1 or more")
        if self.batch_size < 1 or self.accumulate < 1 or self.batch_size % self.accumulate:
            faults.append(
                f"--batch-size is {self.batch_size} and --accumulate {self.accumulate}; expected a batch that divides"
                " into as many equal parts"
            )
        if not 0 <= self.seed < 2**32:
            faults.append(f"--seed is {self.seed}; expected a whole number from 0 to {2**32 - 1}")
        if not 0 <= self.noise.text_dropout <= 1:
            faults.append(f"--text-dropout is {self.noise.text_dropout}; expected 0 to 1")
        if self.optimizer_on_host and self.lora is not None:
            faults.append("--optimizer-on-host: an adapter's state is small; leave it out with --lora-rank")
        if self.stream_base and self.lora is None:
            faults.append("--stream-base: only the network beside an adapter can be streamed; add --lora-rank")
        if self.stream_base and self.keep != "inputs":
            faults.append(f"--keep-activations {self.keep}: with --stream-base only the inputs of blocks are kept")
        faults += self._optimizer_faults()
        if faults:
            raise UsageError("; ".join(faults))

    def without_lora(self) -> "TrainSettings":
        """Return these settings for training the network itself."""
        return replace(self, lora=None)

    def _optimizer_faults(self) -> list[str]:
        chosen, faults = self.optimizer, []
        lowest = "0 or more" if self.recipe == "upstream" else "more than 0, or nothing is trained"
        if not (0 <= chosen.learning_rate < float("inf")) or (self.recipe == "default" and chosen.learning_rate == 0):
            faults.append(f"--learning-rate is {chosen.learning_rate}; expected {lowest}")
        if chosen.warmup_steps < 0:
            faults.append(f"--warmup-steps is {chosen.warmup_steps}; expected 0 or more")
        if self.recipe == "default" and chosen.warmup_steps >= self.steps:
            faults.append(
                f"--warmup-steps is {chosen.warmup_steps} of {self.steps} steps, so the full rate is never reached;"
                " expected fewer"
            )
        if not chosen.clip_norm > 0:
            faults.append(f"--clip-norm is {chosen.clip_norm}; expected more than 0")
        if chosen.ema_rate is not None and not 0 < chosen.ema_rate < 0.289:  # beyond, no exponent has that width
            faults.append(f"--ema-rate is {chosen.ema_rate}; expected more than 0 and less than 0.289")
        return faults


def upstream_settings(settings: TrainSettings) -> TrainSettings:
    """Return `settings` with upstream's choices for the interpolator or, with `lora`, for its adapters.

    They reproduce the recorded steps of the original, and do not train well: the learning rate of the interpolator is
    0, learned positions are off and the warm-up is longer than the run.
    """
    lora = settings.lora is not None
    optimizer = replace(
        settings.optimizer,
        learning_rate=1e-4 if lora else 0.0,
        warmup_steps=0 if lora else 2500,
        decay="constant",
        ema_rate=None if lora else 0.1,
    )
    return replace(
        settings,
        recipe="upstream",
        learned_positions=False,
        optimizer=optimizer,
        data=replace(settings.data, pixels="upstream"),
    )
