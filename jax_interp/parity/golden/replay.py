"""Replaying recorded outputs of upstream with converted networks: single networks, sampling runs and whole clips."""

from jax_interp.errors import CheckpointError, JaxInterpError
from jax_interp.parity.findings import GoldenFinding
from jax_interp.parity.golden.levels import LEVELS, Run
from jax_interp.parity.golden.recording import CLIP_FILE, Recording
from jax_interp.parity.request import ParityRequest, Steps
from jax_interp.pipeline.interpolator import Interpolator

_NOT_REPLAYED = {
    "L1_rope": "angles of a size that these networks need not have",
    "L3_": "the sampler on formulas, without a network",
    "L6_uint8_roundtrip": "arithmetic without a network",
    CLIP_FILE: "an input",
}
"""Beginnings of the names of files in which there is nothing to replay with converted networks, and why."""


def replay(
    recording: Recording, request: ParityRequest, progress: Steps
) -> tuple[tuple[GoldenFinding, ...], dict[str, str]]:
    """Replay every file of `recording` as `request` says; return what was found, and why files were left out.

    Files are of several levels: `L1` evaluations of the transformer, `L2` the tokenizer, `L4` condition latents, `L5`
    sampling runs from recorded condition latents, `L6` whole clips, `L7` embeddings of prompts.

    Raises:
        CheckpointError: a file or a network is damaged, or they do not fit each other.
    """
    left_out = {name: why for name in recording.files if (why := why_left_out(name))}
    names = [name for name in recording.files if name not in left_out]
    findings: list[GoldenFinding] = []
    with progress("replaying recorded outputs", len(names) * len(request.precisions)) as advance:
        for precision in request.precisions:
            pipeline = Interpolator.from_pretrained(request.converted, dtype=precision, embedding_cache=False)
            run = Run(recording, pipeline, precision)
            for name in names:
                findings += _replay_file(run, name)
                advance(1)
            pipeline.unload()
    return tuple(findings), left_out


def _replay_file(run: Run, name: str) -> list[GoldenFinding]:
    try:
        return list(LEVELS[name[:2]](run, name))
    except JaxInterpError:
        raise
    except (TypeError, ValueError, LookupError) as error:  # arrays of shapes that these networks do not take
        raise CheckpointError(
            f"{run.recording.root} ({name}): does not fit the networks in {run.pipeline.denoiser.converted.path.parent}"
            f" ({error}); it must have been recorded with the same weights"
        ) from error


def why_left_out(name: str) -> str | None:
    """Return why a file of the name is not replayed; None if it is."""
    if name.endswith("_inner"):
        return "activations inside of a network"
    for beginning, why in _NOT_REPLAYED.items():
        if name.startswith(beginning):
            return why
    return None if name[:2] in LEVELS else "not a file of this format"
