"""What a comparison found: values that say whether they hold, and the report that is made of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from jax_interp.components import TABLE
from jax_interp.parity.tolerances import BF16_RATIO, PEER_BLOCK_F32, PEER_F32

VERSION = 1
"""The version of the report. Keys may be added under the same version; none is removed or changes."""


def relative_error(ours: Any, theirs: Any) -> float:
    """Return |ours - theirs| / |theirs| in float64; what is not a number, or of another shape, is infinitely wrong."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return float("inf")
    with np.errstate(over="ignore", invalid="ignore"):
        size = float(np.linalg.norm(theirs))
        error = float(np.linalg.norm(ours - theirs))
    # Of two networks that give nothing but zeros neither is wrong.
    relative = error / size if size else (0.0 if error == 0 else float("inf"))
    return relative if np.isfinite(relative) else float("inf")


def error_ratio(ours: float, theirs: float) -> float:
    """Return our error over the peer's own. It is infinite if either is no finite number, as nothing is known then."""
    if not (np.isfinite(ours) and np.isfinite(theirs)):
        return float("inf")
    return ours / theirs if theirs else (0.0 if ours == 0 else float("inf"))


@dataclass(frozen=True)
class Difference:
    """One array of a converted network that is not what the checkpoint gives."""

    block: str
    """The part of the network, as "block 3" or "final_linear"."""
    array: str
    """The path of the array in the converted network."""
    values: int
    """How many of its values differ."""
    error: float
    """The relative error of the array; infinite with a value that is no finite number, where the checkpoint has nothing
    but zeros, and with a `misfit`."""
    misfit: str | None = None
    """Why values could not be compared, so that the network was not run: "is missing", or which other shape or dtype
    the array has. None if they were compared."""


@dataclass(frozen=True)
class WeightsFinding:
    """The comparison of the stored weights with the checkpoint's, to the bit."""

    arrays: int
    """How many tensors of the checkpoint were compared."""
    differences: tuple[Difference, ...] = ()

    @property
    def held(self) -> bool:
        """Whether no bit differs."""
        return not self.differences


@dataclass(frozen=True)
class BlockError:
    """The error of one block in float32 on the peer's own input."""

    block: str
    error: float
    tolerance: float = PEER_BLOCK_F32

    @property
    def held(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class OutputError:
    """The error of a network's output; the largest one if it has several outputs."""

    error: float
    tolerance: float
    tolerance_name: str
    peer_error: float | None = None
    """PyTorch's own error in bfloat16, both against PyTorch in float32; None in float32."""

    @property
    def ratio(self) -> float | None:
        """Our error in bfloat16 over PyTorch's own, infinite if either is not finite; None in float32."""
        if self.peer_error is None:
            return None
        return error_ratio(self.error, self.peer_error)

    @property
    def held(self) -> bool:
        """Whether the error, or the ratio in bfloat16, is within the tolerance."""
        return (self.error if self.ratio is None else self.ratio) <= self.tolerance

    @property
    def remark(self) -> str:
        """What is behind an error that is no finite number; empty if each is finite."""
        errors = {"our error": self.error, "PyTorch's own": 0.0 if self.peer_error is None else self.peer_error}
        faulty = [name for name, error in errors.items() if not np.isfinite(error)]
        return f"not finite: {' and '.join(faulty)}, as with a NaN or another shape" if faulty else ""

    @classmethod
    def float32(cls, error: float) -> "OutputError":
        """Return the finding of a network in float32."""
        return cls(error, PEER_F32, "PEER_F32")

    @classmethod
    def bfloat16(cls, pairs: Sequence[tuple[float, float]]) -> "OutputError":
        """Return the finding of the largest ratio of these (our error, PyTorch's own), one pair for each output."""
        every = [cls(ours, BF16_RATIO, "BF16_RATIO", theirs) for ours, theirs in pairs]
        return max(every, key=lambda finding: finding.ratio or 0.0)


@dataclass(frozen=True)
class NetworkFinding:
    """Everything that was found out about one network."""

    network: str
    """Its name in memory plans, as "prompt_upsampler/pictures"."""
    folder: str
    """Its folder in the checkpoints and in the converted folder."""
    peer: str
    """The class that computed the other side."""
    weights: WeightsFinding
    configuration: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Settings that differ: (converted, as the checkpoint has it) by name."""
    blocks: tuple[BlockError, ...] = ()
    float32: OutputError | None = None
    bfloat16: OutputError | None = None
    skipped: str | None = None
    """Why it was not run, if it was not."""

    @property
    def title(self) -> str:
        """Its name, with its folder if that is not the default one, as of several transformers."""
        component = self.network.split("/")[0]
        usual = component in TABLE and self.folder == TABLE[component].folder
        return self.network if usual else f"{self.network} ({self.folder})"

    @property
    def held(self) -> bool:
        """Whether everything that was compared holds."""
        outputs = [finding for finding in (self.float32, self.bfloat16) if finding is not None]
        held = [*(finding.held for finding in outputs), *(block.held for block in self.blocks)]
        return self.weights.held and not self.configuration and all(held)

    def faults(self) -> Iterator[str]:
        """Yield what does not hold, one sentence each, naming the network and the block."""
        for name, (ours, theirs) in self.configuration.items():
            yield f"{self.title}, configuration: {name} is {ours}, the checkpoint says {theirs}"
        for each in self.weights.differences:
            wrong = (
                f"{each.values:,} value(s) of {each.array} are not the checkpoint's (relative error {each.error:.1e})"
            )
            yield f"{self.title}, {each.block}: {f'{each.array} {each.misfit}' if each.misfit else wrong}"
        for block in self.blocks:
            if not block.held:
                yield (
                    f"{self.title}, {block.block}: float32 error {block.error:.1e} on the peer's input is above"
                    f" PEER_BLOCK_F32, {block.tolerance:g}"
                )
        for name, finding in (("float32", self.float32), ("bfloat16", self.bfloat16)):
            if finding is not None and not finding.held:
                shown = finding.error if finding.ratio is None else finding.ratio
                what = "error" if finding.ratio is None else "ratio"
                remark = f": {finding.remark}" if finding.remark else ""
                yield (
                    f"{self.title}, output: {name} {what} {shown:.2g} is above {finding.tolerance_name},"
                    f" {finding.tolerance:g}{remark}"
                )


@dataclass(frozen=True)
class GoldenFinding:
    """One recorded output of upstream, replayed."""

    file: str
    output: str
    """The array that was compared, as "sample"."""
    dtype: str
    value: float
    """A relative error, a ratio, or a share of the values, as `measure` says."""
    measure: str
    tolerance: float
    tolerance_name: str
    at_least: bool = False
    """Whether `value` must be at least `tolerance`, not at most."""

    @property
    def held(self) -> bool:
        """Whether the value is within the tolerance."""
        return self.value >= self.tolerance if self.at_least else self.value <= self.tolerance

    def fault(self) -> str:
        """Return what does not hold in a sentence."""
        side = "below" if self.at_least else "above"
        return (
            f"{self.file}, {self.output}: {self.dtype} {self.measure} {self.value:.2g} is {side} {self.tolerance_name},"
            f" {self.tolerance:g}"
        )


@dataclass(frozen=True)
class ParityReport:
    """All findings of one comparison."""

    networks: tuple[NetworkFinding, ...]
    absent: Mapping[str, str]
    """Why each network that was not compared was not, by its name."""
    golden: tuple[GoldenFinding, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why each recorded file that was not replayed was not, by its name."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The versions of the packages that computed either side."""

    @property
    def held(self) -> bool:
        """Whether everything that was compared holds."""
        return all(finding.held for finding in (*self.networks, *self.golden))

    def faults(self) -> list[str]:
        """Return everything that does not hold, one sentence each."""
        of_networks = [fault for network in self.networks for fault in network.faults()]
        return of_networks + [finding.fault() for finding in self.golden if not finding.held]

    def as_json(self) -> dict[str, Any]:
        """Return the report as values of JSON, in which an infinite error is the text "inf"."""
        report = {
            "version": VERSION,
            "held": self.held,
            "versions": dict(self.versions),
            "networks": [_network_json(network) for network in self.networks],
            "absent": dict(self.absent),
            "golden": [asdict(finding) | {"held": finding.held} for finding in self.golden],
            "left_out": dict(self.left_out),
            "faults": self.faults(),
        }
        return _finite(report)


def _network_json(network: NetworkFinding) -> dict[str, Any]:
    values = asdict(network)
    values["held"] = network.held
    values["weights"]["held"] = network.weights.held
    values["configuration"] = {
        name: {"converted": ours, "checkpoint": theirs} for name, (ours, theirs) in network.configuration.items()
    }
    values["blocks"] = [asdict(block) | {"held": block.held} for block in network.blocks]
    for name, finding in (("float32", network.float32), ("bfloat16", network.bfloat16)):
        if finding is not None:
            values[name] |= {"ratio": finding.ratio, "held": finding.held}
    return values


def _finite(value: Any) -> Any:
    """Return the value with texts in place of numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
