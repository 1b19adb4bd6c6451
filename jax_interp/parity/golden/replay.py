"""Replaying recorded outputs of upstream with converted networks: single networks, sampling runs and whole clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from jax_interp.config import Precision
from jax_interp.errors import CheckpointError, JaxInterpError, UsageError
from jax_interp.parity.findings import GoldenFinding
from jax_interp.parity.golden.levels import LEVELS, Run
from jax_interp.parity.golden.recording import CLIP_FILE, FOLDER, Recording
from jax_interp.parity.request import ParityRequest, Steps, require_full
from jax_interp.pipeline.interpolator import Interpolator

_SHOWN = 5
"""How many files a message names."""

_NOT_REPLAYED = {
    "L1_rope": "angles of a size that these networks need not have",
    "L3_": "the sampler on formulas, without a network",
    "L6_uint8_roundtrip": "arithmetic without a network",
    CLIP_FILE: "an input",
}
"""Beginnings of the names of files in which there is nothing to replay with converted networks, and why."""


@dataclass(frozen=True)
class Plan:
    """What of a recording is replayed, and in which dtypes."""

    recording: Recording
    request: ParityRequest
    names: Mapping[Precision, Sequence[str]]
    """The files that are replayed in each dtype of the request."""
    left_out: Mapping[str, str]
    """Why each file that is replayed in none of them is not, by its name."""


def plan_replay(recording: Recording, request: ParityRequest) -> Plan:
    """Return what there is to replay, before anything is computed.

    Raises:
        UsageError: JAX would compute on another device than that of `request`, or a network is stored in 8 bits.
        CheckpointError: there is nothing to replay, or a network is absent or damaged.
    """
    _check_device(request)
    left_out = {name: why for name in recording.files if (why := why_left_out(name, request.precisions))}
    there = [name for name in recording.files if name not in left_out]
    if not there:
        reasons = [f"{name}.npz: {why}" for name, why in left_out.items()]
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise CheckpointError(
            f"{recording.root / FOLDER}: has nothing to replay in {' or '.join(request.precisions)}"
            f" ({'; '.join(reasons[:_SHOWN])}{more}); what is replayed are"
            f" {', '.join(f'{level.files}.npz' for level in LEVELS.values())}, as docs/parity.md describes them"
        )
    _open(request, request.precisions[0])
    names: dict[Precision, Sequence[str]] = {
        dtype: [name for name in there if dtype in _dtypes(name)] for dtype in request.precisions
    }
    return Plan(recording, request, names, left_out)


def replay(plan: Plan, progress: Steps) -> tuple[GoldenFinding, ...]:
    """Replay every file of `plan`, and return what was found.

    Files are of several levels: `L1` evaluations of the transformer, `L2` the tokenizer, `L4` condition latents, `L5`
    sampling runs from recorded condition latents, `L6` whole clips, `L7` embeddings of prompts.

    Raises:
        CheckpointError: a file or a network is damaged, or they do not fit each other.
    """
    findings: list[GoldenFinding] = []
    with progress("replaying recorded outputs", sum(map(len, plan.names.values()))) as advance:
        for precision, names in plan.names.items():
            if not names:
                continue
            pipeline = _open(plan.request, precision)
            run = Run(plan.recording, pipeline, precision)
            for name in names:
                findings += _replay_file(run, name)
                advance(1)
            pipeline.unload()
    return tuple(findings)


def _check_device(request: ParityRequest) -> None:
    # The pipeline takes the devices that JAX has first, whatever its default device, and chooses kernels by them.
    first, wanted = jax.default_backend(), {"cpu": "cpu", "cuda": "gpu"}[request.device]
    if first != wanted:
        raise UsageError(
            f"--golden: JAX takes the {first} first here, so recordings cannot be replayed with --device"
            f" {request.device}; set JAX_PLATFORMS={request.device} in the environment before JAX is imported, or name"
            " the other device"
        )


def _open(request: ParityRequest, precision: Precision) -> Interpolator:
    pipeline = Interpolator.from_pretrained(request.converted, dtype=precision, embedding_cache=False)
    text = pipeline.text_encoder and pipeline.text_encoder.network
    for stage in (pipeline.denoiser, pipeline.codec, text):
        if stage is not None:
            require_full(stage.converted.path, stage.converted.stored)
    return pipeline


def _replay_file(run: Run, name: str) -> list[GoldenFinding]:
    try:
        return list(LEVELS[name[:2]].replay(run, name))
    except JaxInterpError:
        raise
    except (TypeError, ValueError, LookupError) as error:  # arrays of shapes that these networks do not take
        raise CheckpointError(
            f"{run.recording.root} ({name}): does not fit the networks in {run.pipeline.denoiser.converted.path.parent}"
            f" ({error}); it must have been recorded with the same weights"
        ) from error


def why_left_out(name: str, precisions: Sequence[Precision]) -> str | None:
    """Return why a file of the name is replayed in none of `precisions`; None if it is."""
    if name.endswith("_inner"):
        return "activations inside of a network"
    for beginning, why in _NOT_REPLAYED.items():
        if name.startswith(beginning):
            return why
    dtypes = _dtypes(name)
    if not dtypes:
        level = LEVELS.get(name[:2])
        of_level = f", which would be {level.files} in float32 or bfloat16" if level else ""
        return f"not a file of this format{of_level}"
    if any(precision in dtypes for precision in precisions):
        return None
    ((dtype, why),) = dtypes.items()
    return f"{why}; --dtype {dtype} or both replays it"


def _dtypes(name: str) -> Mapping[Precision, str]:
    """Return the dtypes in which a file of the name is replayed, each with why it is in no other."""
    return LEVELS[name[:2]].dtypes(name) if name[:2] in LEVELS else {}
