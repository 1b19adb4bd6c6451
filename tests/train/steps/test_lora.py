"""Adapters in the network against a recorded step of upstream's, by hand, and which layers get one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_interp.config import DiTConfig
from jax_interp.errors import UsageError
from jax_interp.nn.low_rank import AdaptedLinear
from jax_interp.nn.params import flatten, unflatten
from jax_interp.train.settings import LoraSettings
from jax_interp.train.steps.lora import LAYERS, num_adapted, split_adapter, target_layers
from jax_interp.train.steps.state import initial_state
from jax_interp.train.steps.step import Trainer, network_of
from tests import golden
from tests.tolerances import TRAINING_F32
from tests.train.golden_steps import FLOAT32, inputs_of, load, params_of

LORA = replace(FLOAT32, lora=LoraSettings(rank=8, scale=1.0))
NAMES = {"self_attention": 0, "cross_attention": 1}
LETTERS = {"query": "q", "value": "v"}
TINY = DiTConfig(
    width=24, num_heads=2, head_width=12, num_blocks=2, mlp_width=32, text_width=8, adaln_rank=4, grid=(3, 4, 4)
)


def upstream_keys(attention, layer):
    """Upstream's keys of the two matrices, with the block to be filled in."""
    stem = f"net.blocks.block{{}}.blocks.{NAMES[attention]}.block.attn.to_{LETTERS[layer]}_lora.net"
    return f"{stem}.0.weight", f"{stem}.1.weight"


def recorded_adapter(prefix):
    """Arrays of T4 as a tree like ours; those that are not recorded are None."""
    arrays, tree = load("T4_lora"), {}
    for attention in NAMES:
        for layer in LETTERS:
            for name, key in zip(("lora_down", "lora_up"), upstream_keys(attention, layer), strict=True):
                rows = [arrays.get(f"{prefix}.{key.format(block)}") for block in range(3)]
                tree[f"{attention}/{layer}/{name}"] = rows
    return tree


def lora_params(converted):
    """(config, trained, frozen) with the recorded adapter as what is trained."""
    config, trained, frozen = params_of(converted)
    adapter = {
        f"blocks/{path}": jnp.stack([jnp.asarray(row.T) for row in rows])
        for path, rows in recorded_adapter("w").items()
    }
    return config, {"network": unflatten(adapter)}, frozen_with(trained, frozen)


def frozen_with(trained, frozen):
    return unflatten(dict(flatten(trained)) | dict(flatten(frozen)))


def gradients_of(converted, settings=LORA):
    config, adapter, frozen = lora_params(converted)
    batch, draws = inputs_of("video2world", load("T3_video2world_c2"), known=2)
    return Trainer(config, settings).gradients(adapter, frozen, batch, draws)


def test_upstreams_step(converted):
    metrics, gradients = gradients_of(converted)
    recorded = load("T4_lora")
    assert abs(float(metrics.loss) / float(recorded["loss"]) - 1) < TRAINING_F32
    assert abs(float(metrics.gradient_norm) / float(recorded["grad_norm_total"]) - 1) < TRAINING_F32
    compared = 0
    for path, rows in recorded_adapter("grad").items():
        ours = np.asarray(dict(flatten(gradients))[f"network/blocks/{path}"])
        for block, theirs in enumerate(rows):
            if theirs is not None:
                assert golden.relative_l2(ours[block].T, theirs) < TRAINING_F32, path
                compared += 1
    assert compared == 12
    assert num_adapted(gradients) == 12


@pytest.mark.slow
def test_another_scale_is_noticed(converted):
    metrics, _ = gradients_of(converted, replace(LORA, lora=LoraSettings(scale=1.01)))
    assert abs(float(metrics.loss) / float(load("T4_lora")["loss"]) - 1) > TRAINING_F32


@pytest.mark.slow
def test_a_fresh_adapter_changes_nothing_and_learns(converted):
    config, trained, frozen = params_of(converted)
    trainer = Trainer(config, LORA)
    adapter = trainer.initial_adapter()
    everything = frozen_with(trained, frozen)
    batch, draws = inputs_of("video2world", load("T3_video2world_c2"), known=2)
    metrics, gradients = trainer.gradients({"network": adapter}, everything, batch, draws)
    plain, _ = Trainer(config, FLOAT32).gradients(trained, frozen, batch, draws)
    assert float(metrics.loss) == pytest.approx(float(plain.loss), rel=1e-7)
    leaves = dict(flatten(gradients))
    assert not any(np.any(leaf) for path, leaf in leaves.items() if path.endswith("lora_down"))  # B is zero
    assert all(np.any(leaf) for path, leaf in leaves.items() if path.endswith("lora_up"))
    down = np.asarray(adapter["blocks"]["self_attention"]["query"]["lora_down"])
    assert down.std() == pytest.approx(1 / 8, rel=0.05)


def test_a_layer_by_hand():
    kernel = nnx.Param(jnp.asarray([[1.0, 0], [0, 2]]))
    layer = AdaptedLinear(kernel, rank=1, scale=3.0, rngs=nnx.Rngs(0))
    x = jnp.asarray([[1.0, 1]])
    assert layer(x).tolist() == [[1, 2]]
    layer.lora_down[...], layer.lora_up[...] = jnp.asarray([[1.0], [2]]), jnp.asarray([[10.0, 20]])
    assert layer(x).tolist() == [[1 + 3 * 3 * 10, 2 + 3 * 3 * 20]]


@pytest.mark.slow
def test_a_step_by_hand_moves_the_adapter_alone(converted):
    """Adam's first step is the rate along the sign of each gradient; B starts at zero and is not decayed."""
    config, trained, frozen = params_of(converted)
    settings = replace(LORA, optimizer=replace(LORA.optimizer, learning_rate=1e-3, ema_rate=None))
    adapter, _ = split_adapter(network_of(config, settings).random_params(3))
    trainer, everything = Trainer(config, settings), frozen_with(trained, frozen)
    before = jax.tree.map(np.asarray, everything)
    state = initial_state({"network": adapter}, trainer.optimizer, averages=False)
    batch, draws = inputs_of("video2world", load("T3_video2world_c2"), known=2)
    state, _ = trainer.step(state, everything, batch, jax.random.key(0))
    del draws
    up = np.asarray(state.params["network"]["blocks"]["self_attention"]["query"]["lora_up"])
    assert np.quantile(np.abs(up), 0.5) == pytest.approx(1e-3, rel=1e-3)
    down = state.params["network"]["blocks"]["self_attention"]["query"]["lora_down"]
    start = adapter["blocks"]["self_attention"]["query"]["lora_down"]
    assert golden.relative_l2(down, start * (1 - 1e-3 * 0.1)) < 1e-6  # no gradient yet: decay alone
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, everything)), strict=True))


def test_target_layers():
    assert target_layers(("q", "v")) == (
        *("self_attention/query", "self_attention/value", "cross_attention/query", "cross_attention/value"),
    )
    assert target_layers(("q", "k", "v", "out", "mlp")) == LAYERS
    assert target_layers(("mlp/up", "self_*/out")) == ("self_attention/out", "mlp/up")


@pytest.mark.parametrize("targets", [("q", "to_q"), ("self_attention",), ("blocks/*",), ()])
def test_a_pattern_that_matches_nothing_is_refused(targets):
    with pytest.raises(
        UsageError, match=r"--lora-targets .* matches no layer; expected q, k, v, out, mlp, or patterns"
    ):
        target_layers(targets)


def test_adapters_beside_other_layers():
    settings = replace(FLOAT32, lora=LoraSettings(rank=2, targets=("out", "mlp")))
    adapter, base = split_adapter(network_of(TINY, settings).abstract)
    shapes = {path: leaf.shape for path, leaf in flatten(adapter["blocks"])}
    assert shapes == {
        "cross_attention/out/lora_down": (2, 24, 2),
        "cross_attention/out/lora_up": (2, 2, 24),
        "mlp/down/lora_down": (2, 32, 2),
        "mlp/down/lora_up": (2, 2, 24),
        "mlp/up/lora_down": (2, 24, 2),
        "mlp/up/lora_up": (2, 2, 32),
        "self_attention/out/lora_down": (2, 24, 2),
        "self_attention/out/lora_up": (2, 2, 24),
    }
    plain = network_of(TINY, FLOAT32).abstract
    assert {path for path, _ in flatten(base)} == {path for path, _ in flatten(plain)}
    assert num_adapted(adapter) == 8
