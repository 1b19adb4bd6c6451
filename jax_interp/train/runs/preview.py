"""A preview of a network in training: what it generates for a pair that it is not trained on, as one picture."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jax_interp.diffusion.branches import Branch
from jax_interp.diffusion.condition import augmenter, frame_indicator, initial_noise
from jax_interp.diffusion.sample import CallInputs, call_coefficients, call_inputs, conclude, prepare, sample
from jax_interp.diffusion.schedule import sigmas
from jax_interp.diffusion.solver import advance
from jax_interp.files.atomic import write_atomically
from jax_interp.train.objective.forward import ForwardInputs, forward
from jax_interp.train.steps.step import Batch, Trainer
from jax_interp.types import Latents, Params

NUM_STEPS = 12
SEED = 11


def sample_latents(trainer: Trainer, params: Params, batch: Batch) -> Latents:
    """Sample latents of the pairs whose ends `batch` has, by its text, as generation with guidance 0 does."""
    condition = jnp.asarray(batch.latents).astype(trainer.dtype)
    indicator = jnp.asarray(frame_indicator(condition.shape[1]))
    levels, precision = sigmas(NUM_STEPS), trainer.settings.dtype
    _, frames, height, width, channels = condition.shape
    noise = jnp.asarray(initial_noise(SEED, (frames, height, width, channels)))
    augment = augmenter(
        "fixed", noise=noise, seed=SEED, pairs=range(len(condition)), num_calls=len(levels), precision=precision
    )
    calls = [
        call_inputs(level, coefficients, [augment(call, Branch.CONDITIONAL)], precision)
        for call, (level, coefficients) in enumerate(zip(levels, call_coefficients(levels), strict=True))
    ]

    @jax.jit
    def step(params: Params, x: Latents, previous: Latents, inputs: CallInputs) -> tuple[Latents, Latents]:
        asked = prepare(condition, indicator, x, inputs)
        output = forward(
            trainer.network,
            params,
            ForwardInputs(
                asked.scaled,
                asked.c_noise,
                jnp.asarray(batch.text),
                jnp.broadcast_to(indicator, (len(condition), frames, 1, 1, 1)),
                jnp.asarray(batch.angles),
            ),
            dtype=trainer.dtype,
            learned_positions=trainer.settings.learned_positions,
        ).astype(trainer.dtype)
        x0 = conclude(output, asked.states, condition, indicator, jnp.float32(0), inputs)
        return advance(x, x0, previous, inputs.coefficients), x0

    start = jnp.broadcast_to(noise, condition.shape)
    return sample(lambda *arguments: step(params, *arguments), start, levels, calls)


def contact_sheet(
    truth: UInt8[np.ndarray, "F Y X 3"], through: UInt8[np.ndarray, "F Y X 3"], ours: UInt8[np.ndarray, "F Y X 3"]
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return a picture of three rows: the true frames, those through the tokenizer (the best possible), and ours."""
    shown = np.linspace(0, len(truth) - 1, 5).round().astype(int)
    return np.concatenate([np.concatenate(list(frames[shown]), axis=1) for frames in (truth, through, ours)])


def write_picture(path: Path, picture: UInt8[np.ndarray, "rows columns 3"]) -> None:
    """Write `picture` as PNG; its folder is created if need be."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
