"""The transformer on every mesh gives what one device gives, wherever its parameters live."""

from collections.abc import Callable
from functools import cache, lru_cache
from itertools import cycle
from typing import Any

import jax
import numpy as np
import pytest

from jax_interp.config import Precision
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import UsageError
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import ALONE, MeshShape
from jax_interp.runtime.placement import RESIDENT, Placement
from tests import golden
from tests.changed_weights import change_weight, nudge
from tests.runtime.test_all_to_all import collectives
from tests.tolerances import BF16_RATIO, NETWORK_F32

pytestmark = pytest.mark.slow

SIZES = (2, 3, 4, 5, 6, 8)
SHAPES = [
    MeshShape(size // tensor // sequence, sequence, tensor)
    for size in SIZES
    for tensor in (1, 2, 4)  # of 4 heads
    for sequence in range(1, 9)
    if size % (tensor * sequence) == 0
]
"""Every mesh of these sizes. Of 9 cells a frame and 4 heads, most of them leave some over."""

BOX = MeshShape(2, 2, 2)

PLACEMENTS = {
    "resident": RESIDENT,
    "sharded": Placement("sharded"),
    "streamed": Placement("streamed"),
    "offloaded": Placement("offloaded"),
    "streamed but one": Placement("streamed", 1),
}

WORK = {
    "a pair": (1, SampleSettings(num_steps=1)),
    "two branches": (1, SampleSettings(num_steps=1, guidance=1.0)),
    "three pairs": (3, SampleSettings(num_steps=1, condition_noise="random")),
}
"""How many pairs, and how they are sampled."""


@cache
def known(option, value):
    """The compiler option, if this version of XLA has it."""
    try:
        jax.jit(lambda: 0, compiler_options={option: value})()
    except jax.errors.JaxRuntimeError:
        return {}
    return {option: value}


class Quickly:
    """Compiled with few optimizations, in a third of the time; how a program is spread is decided before them."""

    def jit(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        quick = known("xla_backend_optimization_level", 0) | known("xla_cpu_use_fusion_emitters", False)
        exact = {"xla_allow_excess_precision": False}
        return jax.jit(function, compiler_options=exact | quick, **options)


class Quick(Quickly, Denoiser):
    pass


def inputs(num_pairs):
    """Condition latents, prompts and negative prompts, of every pair its own."""
    rng = np.random.default_rng(num_pairs)
    shapes = (num_pairs, 3, 6, 6, 16), (num_pairs, 7, 64), (num_pairs, 7, 64)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def run(denoiser, work, arrays=None):
    num_pairs, settings = WORK[work]
    return np.asarray(denoiser.sample(*(arrays or inputs(num_pairs)), settings))


def error(ours, expected):
    """Of the worst pair, in the frames between the known ones, which have to come back as they were."""
    np.testing.assert_array_equal(ours[:, [0, -1]], expected[:, [0, -1]])
    pairs = zip(ours[:, 1:-1], expected[:, 1:-1], strict=True)
    return max(golden.relative_l2(mine, theirs) for mine, theirs in pairs)


@lru_cache(maxsize=1)
def on_mesh(converted, shape):
    """The transformer on a mesh; programs of the one before are given back."""
    return quick(converted, shape)


def quick(converted, shape, precision: Precision = "float32"):
    return Quick(find_component(converted, "diffusion_transformer"), precision, None, DeviceMesh(shape))


@cache
def alone(converted, precision: Precision = "float32"):
    return quick(converted, ALONE, precision)


@cache
def box(converted):
    return quick(converted, BOX)


@cache
def expected(converted, work, precision: Precision = "float32"):
    """On one device."""
    return run(alone(converted, precision), work)


@pytest.fixture
def spread(converted):
    """The transformer on 2×2×2 devices, resident, with its programs kept from test to test."""
    denoiser = box(converted)
    yield denoiser
    denoiser.place(RESIDENT)
    denoiser.unload()


def test_options_that_the_compiler_lacks_are_left_out():
    assert known("xla_backend_optimization_level", 0)
    assert not known("xla_backend_no_such_level", 0)


def test_every_shape_is_there():
    assert len(SHAPES) == len(set(SHAPES)) == 28
    assert {shape.size for shape in SHAPES} == set(SIZES)
    assert {BOX, MeshShape(2), MeshShape(1, 5), MeshShape(1, 1, 4), MeshShape(3, 1, 2)} <= set(SHAPES)


# Every workload with every placement about twice, and no two axes in step.
CASES = list(zip(SHAPES, cycle(WORK), cycle(PLACEMENTS), strict=False))


@pytest.mark.parametrize(("shape", "work", "placement"), CASES, ids=[f"{s}-{w}-{p}" for s, w, p in CASES])
def test_every_mesh_gives_what_one_device_gives(converted, shape, work, placement):
    denoiser = on_mesh(converted, shape)
    denoiser.place(PLACEMENTS[placement])
    result = run(denoiser, work)
    denoiser.unload()
    assert error(result, expected(converted, work)) < NETWORK_F32


@pytest.mark.parametrize("work", ["a pair", "two branches"])
def test_every_placement_on_a_mesh(converted, spread, work):
    """Programs that put shares together sum in their own order; there are no more than these two."""
    results = {}
    for name, placement in PLACEMENTS.items():
        spread.place(placement)
        results[name] = run(spread, work)
        assert error(results[name], expected(converted, work)) < NETWORK_F32, name
    for same in (("resident", "offloaded"), ("sharded", "streamed", "streamed but one")):
        assert len({results[name].tobytes() for name in same}) == 1, same


@pytest.mark.parametrize("path", ["blocks/mlp/down/kernel", "blocks/self_attention/query_norm/scale", "positions/w"])
@pytest.mark.parametrize("placement", ["resident", "sharded", "streamed"])
def test_one_changed_weight_is_noticed(converted, spread, monkeypatch, placement, path):
    spread.place(PLACEMENTS[placement])
    monkeypatch.setattr(spread, "_stored", spread._stored)  # to be put back
    change_weight(spread, path, lambda array: nudge(array, 2))
    assert error(run(spread, "a pair"), expected(converted, "a pair")) > NETWORK_F32


@pytest.mark.parametrize("which", [0, 2], ids=["latent", "text"])
def test_one_changed_token_is_noticed(converted, spread, which):
    arrays = inputs(1)
    arrays[which][(0,) + (-1,) * (arrays[which].ndim - 1)] += 4  # the last cell of a known frame, the last word
    result, right = run(spread, "a pair", arrays), run(alone(converted), "a pair", arrays)
    assert error(result, right) < NETWORK_F32
    assert golden.relative_l2(result[:, 1], expected(converted, "a pair")[:, 1]) > NETWORK_F32


def test_one_changed_pair_changes_no_other(spread):
    arrays = inputs(3)
    before = run(spread, "three pairs", arrays)
    for array in arrays:
        array[1] *= 0.5
    after = run(spread, "three pairs", arrays)
    assert [bool((one == other).all()) for one, other in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize("shape", [MeshShape(2, 2), MeshShape(tensor=2)], ids=str)
def test_bfloat16_is_as_accurate_as_on_one_device(converted, shape):
    work = "two branches"
    oracle = expected(converted, work)
    denoiser = quick(converted, shape, "bfloat16")
    denoiser.place(PLACEMENTS["streamed"])
    ours, theirs = run(denoiser, work), expected(converted, work, "bfloat16")
    denoiser.unload()
    assert NETWORK_F32 < error(ours, oracle) < BF16_RATIO * error(theirs, oracle)


def test_the_bare_network(converted, spread):
    """Also where there are fewer rows than devices for them."""
    arrays = inputs(3)
    for rows in (1, 3):
        x, text = (jax.numpy.asarray(array[:rows]) for array in arrays[:2])
        mask = jax.numpy.zeros((*x.shape[:4], 1), x.dtype).at[:, 0].set(1)
        arguments = x, jax.numpy.linspace(-1, 1, rows), text, mask, 0 * mask, 24.0
        assert golden.relative_l2(spread.net(*arguments), alone(converted).net(*arguments)) < NETWORK_F32


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("placement", ["sharded", "streamed"])
@pytest.mark.parametrize("program", ["_attend", "_transform"])
def test_a_run_after_an_interrupted_one_has_the_same_bits(spread, monkeypatch, placement, program):
    spread.place(PLACEMENTS[placement])
    right, compiled, calls = run(spread, "a pair"), getattr(spread, program), []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise Interrupted
        return compiled(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(spread, program, interrupted)
        with pytest.raises(Interrupted):
            run(spread, "a pair")
    assert run(spread, "a pair").tobytes() == right.tobytes()


def exchanged(denoiser, monkeypatch, program):
    """What devices exchange in a program of the stack, at its first call."""
    compiled, lowered = getattr(denoiser, program), []

    def lower(*arguments, **options):
        if not lowered:
            lowered.append(compiled.lower(*arguments, **options))
        return compiled(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(denoiser, program, lower)
        run(denoiser, "a pair")
    return collectives(lowered[0].compile().as_text())


def test_what_devices_exchange_in_a_block(spread, monkeypatch):
    """Tokens go to their heads and back and are never gathered; sums over heads and hidden units; nothing else."""
    spread.place(RESIDENT)
    assert exchanged(spread, monkeypatch, "_attend") == {"all-to-all": 2, "all-reduce": 2}
    assert exchanged(spread, monkeypatch, "_transform") == {"all-reduce": 1}


def test_shares_are_gathered_one_part_ahead(spread, monkeypatch):
    """Attention brings the MLP's kernels, the MLP those of the next attention: each matrix once."""
    spread.place(PLACEMENTS["sharded"])
    matrices = [sum(leaf.ndim == 2 for leaf in jax.tree.leaves(spread.network.part_abstract(part))) for part in (0, 1)]
    here = {"all-to-all": 2, "all-reduce": 2}
    assert exchanged(spread, monkeypatch, "_attend") == here | {"all-gather": matrices[1]}
    assert exchanged(spread, monkeypatch, "_transform") == {"all-reduce": 1, "all-gather": matrices[0]}


@pytest.mark.parametrize(("name", "stage"), [("diffusion_transformer", Denoiser), ("text_encoder", PromptNetwork)])
def test_heads_that_cannot_be_split_are_said_at_the_door(converted, name, stage):
    with pytest.raises(UsageError, match=f"tensor=3 does not divide the 4 .*heads .*{name}; tensor may be 1, 2, 4$"):
        stage(find_component(converted, name), "float32", devices=DeviceMesh(MeshShape(tensor=3)))
