"""Train the tokenizer and the transformer of `make demo`, on one GPU, in runs that go on where the last one stopped.

```
python -m scripts.train_demo film.mp4 --work WORK --seconds 540     # again and again until it says that it is done
```

`film.mp4` is made by `scripts/prepare_film.py`, and `demo/converted`, whose text encoder embeds the default negative
prompt, by `make demo`. WORK gets the state of both networks, and at the end
`tokenizer.npz` and `transformer.npz`, from which `scripts/pack_demo.py` makes the checkpoint of the repository.
"""

import argparse
import json
import time
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp import DEFAULT_NEGATIVE_PROMPT, Interpolator
from jax_interp.nn.params import unflatten
from jax_interp.runtime.compile_cache import enable_compile_cache
from jax_interp.train.objective.log_variance import initial_log_variance
from jax_interp.train.steps.state import initial_state
from jax_interp.train.steps.step import Trainer
from jax_interp.types import Params
from scripts.demo_training import film, glide, saved, scenes, tokenizer, transformer

SEED = 0
HEIGHT, WIDTH = 192, 320
SCENES = 1536
"""The number of rendered scenes that the tokenizer is trained on; those of another seed are held out."""
MORE_SCENES = 4096
"""The number of rendered scenes that the transformer is trained on, of which only latents are kept."""
SCENE_SHARE = 0.25
"""The fraction of scenes in the tokenizer's training data."""
SHARES = {"film": 0.45, "gliding": 0.25, "scenes": 0.3}
"""The fractions of the transformer's training data."""
ENCODED_TOGETHER = 48
STEPS_A_CALL = 50
SAVE_SECONDS = 120
CLASSES = ((0.0, 0.3), (0.5, 0.6), (1.0, 1.0), (2.0, 1.5), (4.0, 1.5))
"""(least motion, weight) of windows: windows that hardly move are drawn less often."""


class Clock:
    """The clock that tells when a run of limited length has to stop."""

    def __init__(self, seconds: float):
        self._end, self._saved = time.monotonic() + seconds, time.monotonic()

    def over(self) -> bool:
        """Tell whether the time is used up."""
        return time.monotonic() > self._end

    def wants_save(self) -> bool:
        """Tell whether the last save is long ago."""
        if time.monotonic() - self._saved < SAVE_SECONDS:
            return False
        self._saved = time.monotonic()
        return True


class Sources(NamedTuple):
    """The data that clips are drawn from; an argument of compiled functions, since it is too large for a constant."""

    film: jax.Array
    scenes: jax.Array
    starts: jax.Array
    """The first frames of the windows that are trained on."""
    edges: jax.Array
    """The cumulative sum of the windows' weights."""


class Data:
    """The windows of the film and rendered scenes, on the device."""

    def __init__(self, path: Path):
        frames = film.read_film(path)
        self.split = film.split(frames)
        self.frames = jnp.asarray(frames)
        motion = self.split.motion[self.split.train]
        weights = np.array([weight for _, weight in CLASSES])
        self.weights = weights[np.searchsorted([least for least, _ in CLASSES], motion, side="right") - 1]
        self._edges = jnp.asarray(np.cumsum(self.weights / self.weights.sum()), jnp.float32)
        self._starts = jnp.asarray(self.split.train)

    @cached_property
    def scenes(self) -> jax.Array:
        """The rendered scenes, made at their first use, because the transformer's training needs none."""
        parts = [scenes.render(jax.random.key(SEED + 1 + i), 64, HEIGHT, WIDTH) for i in range(SCENES // 64)]
        return jnp.concatenate(parts)

    @property
    def sources(self) -> Sources:
        """Return the data that `clips` draws from."""
        return Sources(self.frames, self.scenes, self._starts, self._edges)


def clips(sources: Sources, key: jax.Array, count: int, frames: int) -> jax.Array:
    """Draw `count` windows, mirrored and reversed at random, uint8 [count, frames, Y, X, 3]."""
    keys = jax.random.split(key, 5)
    rendered = max(1, round(SCENE_SHARE * count))
    chosen = jnp.searchsorted(sources.edges, jax.random.uniform(keys[0], (count - rendered,)))
    starts = sources.starts[jnp.minimum(chosen, len(sources.starts) - 1)]
    moments = jax.random.randint(keys[1], (), 0, film.WINDOW - frames + 1) + jnp.arange(frames)
    of_film = sources.film[starts[:, None] + moments]
    which = jax.random.randint(keys[2], (rendered,), 0, len(sources.scenes))
    drawn = jnp.concatenate([of_film, sources.scenes[which[:, None], moments]])
    mirrored, backwards = (jax.random.bernoulli(k, 0.5, (count, 1, 1, 1, 1)) for k in keys[3:])
    drawn = jnp.where(mirrored, drawn[:, :, :, ::-1], drawn)
    return jnp.where(backwards, drawn[:, ::-1], drawn)


def train_tokenizer(data: Data, work: Path, steps: int, clock: Clock) -> bool:
    """Train until the steps are done or the time is over; return whether the steps are done."""
    chosen = np.random.default_rng(SEED).choice(data.split.train, 96, replace=False)
    examples = np.asarray(data.frames[jnp.asarray(chosen)[:, None] + jnp.arange(tokenizer.CLIP)])
    path = work / "tokenizer_state.npz"
    params = tokenizer.network().random_params() if path.exists() else tokenizer.linear_start(examples, SEED)
    stats = {name: jnp.asarray(leaf) for name, leaf in params["stats"].items()}
    trained, fixed = tokenizer.trainable({**params, "stats": stats})
    trainer = tokenizer.TokenizerTrainer(fixed, steps, partial(clips, count=tokenizer.BATCH, frames=tokenizer.CLIP))
    state = trainer.fresh(trained)
    if path.exists():
        state = saved.load(path, state)
    key, started, first = jax.random.key(SEED + 10), time.monotonic(), int(state.step)
    while int(state.step) < steps and not clock.over():
        state, loss = trainer.run(state, data.sources, key, count=min(STEPS_A_CALL, steps - int(state.step)))
        done = int(state.step)
        if done % (20 * STEPS_A_CALL) == 0 or done == first + STEPS_A_CALL:
            rate = (done - first) / (time.monotonic() - started)
            report("tokenizer", step=done, loss=float(loss), steps_per_second=rate, psnr=held_out(data, state, fixed))
        if clock.wants_save():
            saved.save(path, state)
    saved.save(path, state)
    if int(state.step) < steps:
        return False
    finish_tokenizer(data, tokenizer.merged(state.average, fixed), work)
    return True


def held_out(data: Data, state: tokenizer.TokenizerState, fixed) -> dict[str, float]:
    """Return the PSNR of held-out windows, encoded and decoded with the averaged weights, by amount of motion."""
    params, found = tokenizer.merged(state.average, fixed), {}
    for least, most in ((0, 1), (1, 2), (2, 4), (4, 255)):
        motion = data.split.motion[data.split.held_out]
        windows = data.split.held_out[(motion >= least) & (motion < most)]
        starts = jnp.asarray(windows[np.linspace(0, len(windows) - 1, 16).astype(int)])
        truth = data.frames[starts[:, None] + jnp.arange(tokenizer.CLIP)]
        error = tokenizer.reconstruct(params, truth)[:, 1:].astype(jnp.float32) - truth[:, 1:]
        found[f"{least}-{most}"] = float((10 * jnp.log10(255**2 / jnp.square(error).mean((1, 2, 3, 4)))).mean())
    return found


def finish_tokenizer(data: Data, params, work: Path) -> None:
    """Measure the latents' statistics and write the network."""
    chosen = np.random.default_rng(SEED + 2).choice(data.split.train, 512)
    starts = np.array_split(chosen, 32)
    latents = [
        tokenizer.encode(params, data.frames[jnp.asarray(rows)[:, None] + jnp.arange(tokenizer.CLIP)])
        for rows in starts
    ]
    params = tokenizer.with_statistics(params, jnp.concatenate(latents))
    saved.save_params(work / "tokenizer.npz", params)


def encoded(data: Data, params, text: np.ndarray) -> transformer.Latents:
    """Return the latents of all windows as they are, mirrored, reversed and both, each also gliding; and of scenes.

    They are the same in every run, and are not stored: there are gigabytes of them.
    """
    prepare = jax.jit(lambda frames: tokenizer.interpolation_latents(params, frames).astype(jnp.bfloat16))
    parts, weights = [], []
    for variant in range(8):
        backwards, mirrored, gliding = variant & 1 > 0, variant & 2 > 0, variant & 4 > 0
        for start in range(0, len(data.split.train), ENCODED_TOGETHER):
            rows = data.split.train[start : start + ENCODED_TOGETHER]
            frames = _turned(data.frames[jnp.asarray(rows)[:, None] + jnp.arange(film.WINDOW)], backwards, mirrored)
            if gliding:
                key = jax.random.fold_in(jax.random.key(SEED + 30 + variant), start)
                frames = glide.glide(key, frames)
            parts.append(prepare(frames))
        weights.append(data.weights / data.weights.sum() * SHARES["gliding" if gliding else "film"] / 4)
    for number in range(MORE_SCENES // ENCODED_TOGETHER):
        key = jax.random.fold_in(jax.random.key(SEED + 40), number)
        parts.append(prepare(scenes.render(key, ENCODED_TOGETHER, HEIGHT, WIDTH)))
    rendered = MORE_SCENES // ENCODED_TOGETHER * ENCODED_TOGETHER
    weights.append(np.full(rendered, SHARES["scenes"] / max(1, rendered)))
    return transformer.Latents(jnp.concatenate(parts), np.concatenate(weights), jnp.asarray(text))


def _turned(frames: jax.Array, backwards: bool, mirrored: bool) -> jax.Array:
    frames = frames[:, ::-1] if backwards else frames
    return frames[:, :, :, ::-1] if mirrored else frames


def train_transformer(data: Data, work: Path, text: np.ndarray, clock: Clock) -> bool:
    """Train the transformer on the tokenizer's latents, phase after phase, as `train_tokenizer` does."""
    started = time.monotonic()
    latents = encoded(data, read_params(work / "tokenizer.npz"), text)
    jax.block_until_ready(latents.values)
    report("latents", windows=len(latents.values), seconds=time.monotonic() - started)
    results = [work / f"transformer_{number}.npz" for number in range(len(transformer.PHASES))]
    for number, (phase, result) in enumerate(zip(transformer.PHASES, results, strict=True)):
        if not result.exists() and not train_phase(latents, work, number, phase, clock):
            return False
    (work / "transformer.npz").write_bytes(results[-1].read_bytes())
    return True


def train_phase(latents: transformer.Latents, work: Path, number: int, phase: transformer.Phase, clock: Clock) -> bool:
    """Train until the phase's steps are done or the time is over; return whether the steps are done."""
    steps = phase.steps
    trainer = Trainer(transformer.CONFIG, transformer.settings(phase))
    weighing, features = initial_log_variance(jax.random.key(SEED + 3))
    if number:
        network = read_params(work / f"transformer_{number - 1}.npz")
    else:
        network = transformer.start(trainer.network.random_params(SEED + 4), SEED + 5)
    state = initial_state({"network": network, "log_variance": weighing}, trainer.optimizer, averages=True)
    path = work / f"transformer_state_{number}.npz"
    if path.exists():
        state = saved.load(path, state)
    key, started, first = jax.random.key(SEED + 20 + number), time.monotonic(), int(state.step)
    losses: list[jax.Array] = []
    for done, batch in enumerate(latents.batches(SEED + 6 + 100 * number, first), start=first):
        if done >= steps or clock.over():
            break
        state, metrics = trainer.step(state, {"log_variance": features}, batch, key)
        losses.append(metrics.weighted_error)
        if len(losses) == 500:
            rate = (done + 1 - first) / (time.monotonic() - started)
            error = float(jnp.stack(losses).mean())
            report("transformer", phase=number, step=done + 1, weighted_error=error, steps_per_second=rate)
            losses.clear()
            if clock.wants_save():
                saved.save(path, state)
    saved.save(path, state)
    if int(state.step) < steps:
        return False
    assert state.average is not None
    saved.save_params(work / f"transformer_{number}.npz", state.average["network"])
    return True


def read_params(path: Path) -> Params:
    """Read parameters that `saved.save_params` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        return unflatten({name: jnp.asarray(stored[name], jnp.float32) for name in stored.files})


def negative_text(converted: Path) -> np.ndarray:
    """Return the embedding [512, D] of the default negative prompt, which every run at the default guidance reads."""
    return np.asarray(Interpolator.from_pretrained(converted).encode_text(DEFAULT_NEGATIVE_PROMPT)[0], np.float32)


def report(what: str, **values) -> None:
    """Print one line of JSON."""
    print(json.dumps({"network": what, **values}), flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("film", type=Path)
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--converted", type=Path, default=Path("demo/converted"), help="for its text encoder")
    arguments.add_argument("--seconds", type=float, default=540)
    options = arguments.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    clock = Clock(options.seconds)
    enable_compile_cache()
    data = Data(options.film)
    report("data", shots_held_out=len(data.split.held_out_shots), windows=len(data.split.train))
    done = (options.work / "tokenizer.npz").exists()
    done = done or train_tokenizer(data, options.work, tokenizer.STEPS, clock)
    done = done and train_transformer(data, options.work, negative_text(options.converted), clock)
    print("done" if done else "not done yet: run the same command again")


if __name__ == "__main__":
    main()
