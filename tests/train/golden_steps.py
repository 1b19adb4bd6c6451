"""Recorded training steps of the original (tests/data/golden_train) as arguments of ours."""

from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from convert.formats.archive import open_archive
from convert.mapping.matching import plan_leaves
from convert.tables import dit
from jax_interp.config import Precision
from jax_interp.nn.params import flatten, unflatten
from jax_interp.nn.rotary import rotary_angles
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from jax_interp.train.objective.noise import Draws, first_frames
from jax_interp.train.settings import OptimizerSettings, TrainSettings
from jax_interp.train.steps.step import Batch, network_of
from tests import golden

ROOT = Path(__file__).parents[1] / "data" / "golden_train"
UPSTREAM_OPTIMIZER = OptimizerSettings(learning_rate=2**-14.3, warmup_steps=0, decay="constant", ema_rate=0.1)
FLOAT32 = TrainSettings(dtype="float32", optimizer=UPSTREAM_OPTIMIZER)
_BLOCK_PARTS = (
    *(
        f"blocks.{part}.{name}.weight"
        for part in (0, 1)
        for name in (
            *("block.attn.to_q.0", "block.attn.to_q.1", "block.attn.to_k.0", "block.attn.to_k.1"),
            *("block.attn.to_v.0", "block.attn.to_out.0", "adaLN_modulation.1", "adaLN_modulation.2"),
        )
    ),
    *(
        f"blocks.2.{name}.weight"
        for name in ("block.layer1", "block.layer2", "adaLN_modulation.1", "adaLN_modulation.2")
    ),
)
PARAMETERS = (
    "net.x_embedder.proj.1.weight",
    *(f"net.extra_pos_embedder.pos_emb_{axis}" for axis in "hwt"),
    *(f"net.t_embedder.1.linear_{number}.weight" for number in (1, 2)),
    *(f"net.blocks.block{block}.{part}" for block in range(3) for part in _BLOCK_PARTS),
    *(f"net.final_layer.{name}.weight" for name in ("linear", "adaLN_modulation.1", "adaLN_modulation.2")),
    "net.affline_norm.weight",
    "logvar.1.weight",
)
"""The order of `grad_norm`."""


@cache
def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of `<name>.npz`."""
    with np.load(ROOT / f"{name}.npz") as arrays:
        return dict(arrays)


def params_of(converted: Path, settings: TrainSettings = FLOAT32):
    """(trained, frozen) of the golden network, float32, with the log-variance that its checkpoint has."""
    found = find_component(converted, "diffusion_transformer")
    network = load_params(found, network_of(found.config, settings).abstract, "float32")
    [path] = golden.CHECKPOINTS.glob("*Interpolator/model.pt")
    stored = {key: tensor.read() for key, tensor in open_archive(path).items() if key.startswith("logvar.")}
    wide = {key: jnp.asarray(values, jnp.float32) for key, values in stored.items()}
    trained = {"network": network, "log_variance": {"weights": wide["logvar.1.weight"][0]}}
    fixed = {"frequencies": wide["logvar.0.freqs"], "phases": wide["logvar.0.phases"]}
    return found.config, trained, {"log_variance": fixed}


def inputs_of(name: str, recorded, *, known: int | None = None, rotary_precision: Precision = "float32"):
    """(batch, draws) of `inputs_<name>`; `recorded` has the clean latents. With `known` the first latent frames are."""
    arrays = load(f"inputs_{name}")
    latents = jnp.asarray(golden.channels_last(recorded["x0"]))
    rows = len(latents)
    text = np.zeros((rows, 512, 64), np.float32)
    for row in range(rows):
        given = arrays[f"t5_text_embeddings_{row}"]
        text[row, : len(given)] = given
    angles = rotary_angles((3, 4, 6), 32, fps=24, ratio=(2.0, 1.0, 1.0), precision=rotary_precision)
    indicator = first_frames(known, 3) if known is not None else jnp.asarray([1.0, 0, 1]).reshape(3, 1, 1, 1)
    draws = Draws(
        sigma=jnp.asarray(arrays["sigma"]),
        noise=jnp.asarray(golden.channels_last(arrays["epsilon"])),
        augment_sigma=jnp.asarray(arrays["augment_sigma"]),
        augment_noise=jnp.asarray(golden.channels_last(arrays["augment_noise"])),
        text_kept=jnp.asarray(arrays.get("text_kept", np.ones(rows, np.float32))),
        indicator=jnp.broadcast_to(indicator, (rows, 3, 1, 1, 1)),
    )
    return Batch(latents, jnp.asarray(text), jnp.broadcast_to(angles, (rows, *angles.shape))), draws


def by_upstream_name(params) -> dict[str, np.ndarray]:
    """A tree like the trained parameters, under the checkpoint's keys and in its layout."""
    network = params["network"]
    leaves = dict(flatten(network))
    named = {}
    for leaf in plan_leaves(dit.RULES, unflatten(leaves)):
        values = np.asarray(leaves[leaf.path], np.float32)
        for index, key in enumerate(leaf.keys):
            named[key] = leaf.op.inverse(values[index] if leaf.stacked else values)
    return named | {"logvar.1.weight": np.asarray(params["log_variance"]["weights"], np.float32)[None]}
