"""A training run from a folder of clips to a trained network, resumable."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_interp._version import __version__
from jax_interp.errors import CheckpointError, JaxInterpError, UsageError
from jax_interp.files.atomic import write_atomically
from jax_interp.nn.params import flatten, unflatten
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.train.data.batches import SampleSource, make_batches
from jax_interp.train.data.encoding import Sample
from jax_interp.train.optimization.schedule import learning_rate
from jax_interp.train.runs.checkpoints import Checkpoints
from jax_interp.train.runs.journal import Journal
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.state import ROWS, TrainState
from jax_interp.train.steps.step import Batch, Metrics, Trainer
from jax_interp.types import Params

RUN_FILE = "run.json"

Report = Callable[[int, Mapping[str, float]], None]
"""A function that is called with (steps done, metrics) after every step.

`lambda step, metrics: print(step, metrics["loss"])` is one.
"""

Preview = Callable[[int, Params], None]
"""A function that is called with (steps done, the network's parameters) now and then, to show what it can do.

`lambda step, params: save(f"step-{step}.png", params)` is one.
"""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of a training run, and how many checkpoints it keeps."""

    path: Path
    keep: int = 2
    """The number of checkpoints that are kept."""
    save_every: int = 500
    """The number of steps from one checkpoint to the next."""
    preview_every: int = 0
    """The number of steps from one preview to the next; 0 means none."""

    def __post_init__(self) -> None:
        faults = []
        if self.keep < 1:
            faults.append(f"--keep is {self.keep}; expected 1 or more")
        if self.save_every < 1:
            faults.append(f"--save-every is {self.save_every}; expected 1 or more")
        if self.preview_every < 0:
            faults.append(f"--preview-every is {self.preview_every}; expected 0 (never) or more")
        if faults:
            raise UsageError("; ".join(faults))

    def claim(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Claim the folder for this run, or check that it already belongs to it.

        Raises:
            UsageError: a run is there and `resume` is false, none is there and `resume` is true, or it is another run.
        """
        file = self.path / RUN_FILE
        if file.exists():
            theirs = _read_identity(file)
            differing = sorted(key for key in identity.keys() | theirs.keys() if identity.get(key) != theirs.get(key))
            if differing:
                raise UsageError(
                    f"{self.path}: holds another run (it differs in {', '.join(differing)}); choose another"
                    " --output-dir, or repeat the options of that run"
                )
            if not resume:
                raise UsageError(f"{self.path}: this run has begun already; pass --resume to go on with it")
            return
        if resume:
            raise UsageError(f"{self.path}: has no run to go on with; leave --resume out to begin one")
        if self.path.exists() and any(not _is_of_a_writer(path.name) for path in self.path.iterdir()):
            raise UsageError(f"{self.path}: is there already and is no training run; choose another --output-dir")
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (json.dumps(identity, indent=1) + "\n").encode())


class Outcome(NamedTuple):
    """The outcome of a run."""

    state: TrainState
    network: Params
    """The trained parameters of the network or of an adapter, averaged if an average was kept."""


def identity_of(base: ConvertedComponent, settings: TrainSettings, samples: list[Sample]) -> dict[str, Any]:
    """Return the identity of a run as JSON values: whatever would make it another run if it changed."""
    listed = hashlib.sha256(json.dumps([sample.latents.name for sample in samples]).encode()).hexdigest()
    return {
        "jax_interp": __version__,
        "base": {"folder": base.path.name, "sha256": base.source_sha256},
        "settings": json.loads(json.dumps(asdict(settings))),
        "samples": {"number": len(samples), "sha256": listed},
    }


def train(
    base: ConvertedComponent,
    samples: list[Sample],
    trainer: Trainer,
    folder: RunFolder,
    *,
    report: Report | None = None,
    preview: Preview | None = None,
) -> Outcome:
    """Train the transformer `base`, or an adapter of it (`trainer` decides), on encoded `samples`.

    The caller has claimed `folder`. A run that is stopped at any moment and called again has the same losses and
    weights, bit for bit, as one that was not stopped (on the same devices).

    Raises:
        CheckpointError: a checkpoint cannot be read or written.
        JaxInterpError: the loss is not a number; the last checkpoint before stays.
    """
    settings = trainer.settings
    checkpoints = Checkpoints(folder.path / "checkpoints", folder.keep)
    source = SampleSource(samples, base.config, settings.dtype)
    batches = make_batches(source, settings.batch_size, settings.seed, settings.steps)
    state, frozen = trainer.begin(base)
    if steps := checkpoints.steps():
        described = _abstract(state)
        del state  # there may be room for one
        state, data_state = checkpoints.restore(steps[-1], described)
        state = trainer.place(state)
        batches.set_state(data_state)
    state = _run_steps(trainer, state, frozen, batches, folder, checkpoints, report, preview)
    return Outcome(state, trainer.trained(state)["network"])


def _run_steps(
    trainer: Trainer,
    state: TrainState,
    frozen: Params,
    batches: Any,
    folder: RunFolder,
    checkpoints: Checkpoints,
    report: Report | None,
    preview: Preview | None,
) -> TrainState:
    settings = trainer.settings
    key = jax.random.key(settings.seed)
    rate = learning_rate(settings.optimizer, settings.steps)
    done = int(state.step)
    journal = Journal(folder.path, done)
    try:
        while done < settings.steps:
            started = time.perf_counter()
            state, metrics = trainer.step(state, frozen, _on_devices(next(batches), trainer.devices), key)
            values = _checked(metrics, done + 1, checkpoints) | {"learning_rate": float(np.asarray(rate(done)))}
            done += 1
            seconds = time.perf_counter() - started
            journal.note(done, values)
            if report is not None:
                report(done, values | {"seconds": seconds})
            if done % folder.save_every == 0 or done == settings.steps:
                checkpoints.save(state, batches.get_state())
            if preview is not None and folder.preview_every and done % folder.preview_every == 0:
                preview(done, merged(trainer.trained(state), frozen)["network"])
    finally:
        journal.close()
    return state


def merged(trained: Params, frozen: Params) -> Params:
    """Merge trained and frozen parameters to all that a step reads."""
    return unflatten(dict(flatten(frozen)) | dict(flatten(trained)))


def _checked(metrics: Metrics, step: int, checkpoints: Checkpoints) -> dict[str, float]:
    """Return the metrics as numbers."""
    values = {name: float(value) for name, value in metrics._asdict().items()}
    if not math.isfinite(values["loss"]):
        kept = checkpoints.steps()
        where = f"the checkpoint of step {kept[-1]} stays" if kept else "no checkpoint was written yet"
        raise JaxInterpError(
            f"the loss of step {step} is {values['loss']}; {where}. Try a lower --learning-rate, or --dtype float32"
        )
    return values


def _on_devices(batch: Batch, devices: DeviceMesh) -> Batch:
    return batch if devices.alone else devices.put(batch, ROWS)


def _abstract(state: TrainState) -> TrainState:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def _read_identity(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: damaged ({error}); choose another --output-dir") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: damaged; choose another --output-dir")
    return values


def _is_of_a_writer(name: str) -> bool:
    """Tell whether a file only belongs to a writer of the folder: a hidden lock, or an unfinished file."""
    return name.endswith(".part") or (name.startswith(".") and name.endswith(".lock"))
