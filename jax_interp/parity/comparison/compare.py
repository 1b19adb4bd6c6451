"""The comparison: every network that is in both folders, its weights to the bit and its outputs within tolerances."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convert.progress import no_progress
from jax_interp._version import __version__
from jax_interp.components import TABLE
from jax_interp.config import Precision
from jax_interp.errors import UsageError
from jax_interp.parity.comparison.inputs import Inputs, draw_inputs
from jax_interp.parity.comparison.ours import OURS, Stack
from jax_interp.parity.comparison.pairs import Pair, find_pairs
from jax_interp.parity.comparison.weights import compare_weights, leaves_within
from jax_interp.parity.findings import (
    BlockError,
    NetworkFinding,
    OutputError,
    ParityReport,
    relative_error,
)
from jax_interp.parity.golden.recording import open_recording
from jax_interp.parity.golden.replay import plan_replay, replay
from jax_interp.parity.request import Device, ParityRequest, Steps
from jax_interp.runtime.checkpoint.converted import ConvertedComponent

if TYPE_CHECKING:
    from jax_interp.parity.peers.networks import PeerNetwork

logger = logging.getLogger("jax_interp")

PACKAGES = ("torch", "accelerate", "diffusers", "transformers")
"""The packages of PyTorch's side; all but the last are the extra `parity`."""


class Compared(NamedTuple):
    """One network of a pair, by its name in reports."""

    name: str
    within: str
    """The prefix of its arrays in the converted folder."""
    field: str
    """The field of the pair's configuration that describes it; empty for the whole."""

    def converted(self, pair: Pair) -> ConvertedComponent:
        """Return what is converted of it."""
        if not self.within:
            return pair.converted
        return pair.converted.part(self.within.removesuffix("/"), getattr(pair.converted.config, self.field))

    def config(self, pair: Pair) -> Any:
        """Return its configuration as the checkpoint tells it."""
        return getattr(pair.config, self.field) if self.field else pair.config


PARTS = {
    "prompt_upsampler": (
        Compared("prompt_upsampler/pictures", "vision/", "vision"),
        Compared("prompt_upsampler/language", "language/", "text"),
    )
}
"""The networks of the components that have several."""


def compare(request: ParityRequest, progress: Steps = no_progress) -> ParityReport:
    """Compare all networks that `request` names.

    The parameters of one block of either side are in memory at a time.

    Raises:
        UsageError: a package of the extra `parity` is absent, there is no network of a name, a network is stored in 8
            bits, there is no such device, or JAX would replay `golden` on another one.
        CheckpointError: a folder is absent or damaged, or there is nothing to compare.
    """
    require_packages()
    recording = None if request.golden is None else open_recording(request.golden)
    pairs, absent = find_pairs(request)
    with on_device(request.device):
        plan = None if recording is None else plan_replay(recording, request)
        findings = [
            _compare_network(request, pair, compared, progress)
            for pair in pairs
            for compared in PARTS.get(pair.component.name, (Compared(pair.component.name, "", ""),))
        ]
        golden = () if plan is None else replay(plan, progress)
    return ParityReport(tuple(findings), absent, golden, {} if plan is None else plan.left_out, versions())


def require_packages() -> None:
    """Raise `UsageError` if PyTorch's side is not installed."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UsageError(f'parity needs {" and ".join(missing)}: pip install -e ".[parity]" in the clone')


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute either side."""
    return {"jax_interp": __version__} | {name: version(name) for name in ("jax", "jaxlib", *PACKAGES)}


@contextmanager
def on_device(device: Device) -> Any:
    """Compute on `device` while the context lasts.

    Raises:
        UsageError: JAX or torch has no such device.
    """
    try:
        chosen = jax.devices(device)[0]
    except RuntimeError:
        chosen = None
    if device == "cuda":
        from jax_interp.parity.peers.offloading import has_gpu

        lacking = [name for name, there in (("JAX", chosen), ("torch", has_gpu())) if not there]
        if lacking:
            raise UsageError(f"--device cuda: {' and '.join(lacking)} finds no GPU; leave it out to compare on the CPU")
    with jax.default_device(chosen):
        yield


def _compare_network(request: ParityRequest, pair: Pair, compared: Compared, progress: Steps) -> NetworkFinding:
    from jax_interp.parity.peers.networks import PeerNetwork

    steps = sum(len(leaf.keys) for leaf in leaves_within(pair, compared.within))
    with progress(f"{compared.name}: comparing weights", steps) as advance:
        weights = compare_weights(pair, compared.within, advance)
    settings = _settings_of(pair, compared)
    common = {"network": compared.name, "folder": pair.name, "weights": weights, "configuration": settings}
    if misshapen := [each.array for each in weights.differences if each.misfit]:
        why = f"arrays missing or of another shape or dtype: {', '.join(misshapen[:5])}"
        return NetworkFinding(**common, peer="", skipped=why)
    run = _Run(pair, compared, draw_inputs(compared.name, compared.config(pair), request.seed), progress)

    def peer(precision: Precision) -> "PeerNetwork":
        # The configuration of the prompt upsampler's peers is that of both.
        return PeerNetwork(compared.name, pair.opened.tensors, pair.config, precision, request.device)

    oracle = peer("float32")
    precisions = _precisions(request, pair)
    reference, float32, blocks = run.float32(oracle, compares="float32" in precisions)
    bfloat16 = run.bfloat16(peer("bfloat16"), reference) if "bfloat16" in precisions else None
    return NetworkFinding(**common, peer=oracle.title, blocks=blocks, float32=float32, bfloat16=bfloat16)


def _precisions(request: ParityRequest, pair: Pair) -> tuple[Precision, ...]:
    """Return the dtypes to compare: a network that always computes in float32 is compared in no other."""
    row = TABLE[pair.component.name]
    always = row.precision_flag is None and row.precision == "float32"
    return ("float32",) if always else request.precisions


def _settings_of(pair: Pair, compared: Compared) -> dict[str, tuple[Any, Any]]:
    prefix = f"{compared.field}." if compared.field else ""
    found = pair.differing_settings
    return {name.removeprefix(prefix): values for name, values in found.items() if name.startswith(prefix)}


class _Run:
    """Both sides of one network on one input."""

    def __init__(self, pair: Pair, compared: Compared, inputs: Inputs, progress: Steps):
        self._kind = OURS[compared.name]
        self._converted = compared.converted(pair)
        self._name = compared.name
        self._inputs = inputs
        self._progress = progress

    def float32(
        self, peer: "PeerNetwork", *, compares: bool
    ) -> tuple[Inputs, OutputError | None, tuple[BlockError, ...]]:
        """Return the peer's outputs, our error, and that of every block on the peer's own input.

        Without `compares` only the peer runs.
        """
        if not compares:
            return peer.run(self._inputs), None, ()
        with jax.default_matmul_precision("highest"):
            network = self._kind(self._converted, "float32")
            if not isinstance(network, Stack):
                theirs, ours = peer.run(self._inputs), network.run(self._inputs)
                return theirs, OutputError.float32(max(_errors(ours, theirs))), ()
            lockstep = _Lockstep(network, self._inputs, local=True)
            with self._steps(network, "float32") as advance:
                theirs = peer.run(self._inputs, lambda *block: advance(lockstep.block(*block)))
            ours = lockstep.finish(theirs)
        errors = _errors(self._valid(network, ours), self._valid(network, theirs))
        return theirs, OutputError.float32(max(errors)), tuple(lockstep.errors)

    def bfloat16(self, peer: "PeerNetwork", reference: Inputs) -> OutputError:
        """Return our error and the peer's own in bfloat16, both against `reference`, the peer's outputs in float32."""
        network = self._kind(self._converted, "bfloat16")
        if isinstance(network, Stack):
            lockstep = _Lockstep(network, self._inputs, local=False)
            with self._steps(network, "bfloat16") as advance:
                theirs = peer.run(self._inputs, lambda *block: advance(lockstep.block(*block)))
            ours = lockstep.finish(theirs)
            ours, theirs, reference = (self._valid(network, outputs) for outputs in (ours, theirs, reference))
        else:
            theirs, ours = peer.run(self._inputs), network.run(self._inputs)
        pairs = zip(_errors(ours, reference), _errors(theirs, reference), strict=True)
        return OutputError.bfloat16(list(pairs))

    def _steps(self, network: Stack, precision: Precision) -> AbstractContextManager[Callable[[int], Any]]:
        return self._progress(f"{self._name}: running both sides in {precision}", network.num_blocks)

    def _valid(self, network: Stack, outputs: Inputs) -> Inputs:
        return {name: network.valid(output, self._inputs) for name, output in outputs.items()}


class _Lockstep:
    """Our network, which runs each block as soon as the peer has run its own.

    The residual stream of our own goes from block to block. With `local` every block gets the peer's input as well, and
    `errors` are those of the blocks alone, before anything adds up.
    """

    def __init__(self, network: Stack, inputs: Inputs, *, local: bool):
        self._network, self._inputs, self._local = network, inputs, local
        self._stream = network.start(inputs)
        self._peers_stream: np.ndarray | None = None
        self.errors: list[BlockError] = []

    def block(self, index: int, before: np.ndarray, after: np.ndarray) -> int:
        """Run block `index`, of which the peer had the input `before` and the output `after`; return 1, a step."""
        if not self._local:
            (self._stream,) = self._network.block(index, [self._stream])
            return 1
        if index == 0:
            self._note("embedding", self._stream, before)
        streams = [self._stream, jnp.asarray(before.astype(self._network.dtype))]
        self._stream, alone = self._network.block(index, streams)
        self._note(f"block {index}", alone, after)
        self._peers_stream = after
        return 1

    def finish(self, theirs: Inputs) -> Inputs:
        """Return our outputs; with `local` note the error of what comes after the last block."""
        streams: Sequence[jax.Array] = [self._stream]
        if self._peers_stream is not None:
            streams = [self._stream, jnp.asarray(self._peers_stream.astype(self._network.dtype))]
        ours, *alone = self._network.finish(streams)
        for outputs in alone:
            self._note("end", outputs["output"], theirs["output"])
        return ours

    def _note(self, block: str, ours: Any, theirs: np.ndarray) -> None:
        error = relative_error(self._network.valid(ours, self._inputs), self._network.valid(theirs, self._inputs))
        self.errors.append(BlockError(block, error))


def _errors(ours: Inputs, theirs: Inputs) -> list[float]:
    return [relative_error(ours[name], theirs[name]) for name in theirs]
