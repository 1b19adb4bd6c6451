"""A training run from a folder of clips to a trained network, resumable."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_interp._version import __version__
from jax_interp.errors import JaxInterpError
from jax_interp.nn.params import flatten, unflatten
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.train.data.batches import SampleSource, make_batches
from jax_interp.train.data.encoding import Sample
from jax_interp.train.optimization.schedule import learning_rate
from jax_interp.train.runs.checkpoints import Checkpoints
from jax_interp.train.runs.folder import RunFolder
from jax_interp.train.runs.journal import Journal
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.state import ROWS, TrainState
from jax_interp.train.steps.step import Batch, Metrics, Trainer
from jax_interp.types import Params

Report = Callable[[int, Mapping[str, float]], None]
"""A function that is called with (steps done, metrics) after every step.

`lambda step, metrics: print(step, metrics["loss"])` is one.
"""

Preview = Callable[[int, Params], None]
"""A function that is called with (steps done, the network's parameters) now and then, to show what it can do.

`lambda step, params: save(f"step-{step}.png", params)` is one.
"""


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
