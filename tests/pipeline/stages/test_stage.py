"""The same bits wherever parameters live, and where they are while a stage runs, rests and is over."""

import gc
import logging
from collections import Counter
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.block_stream import PREFETCHED_PARTS
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.placement import RESIDENT, Placement
from tests import golden
from tests.changed_weights import change_weight, nudge

OFFLOADED, STREAMED, PARTLY = Placement("offloaded"), Placement("streamed"), Placement("streamed", 1)
ELSEWHERE = {"offloaded": OFFLOADED, "streamed": STREAMED, "streamed but one": PARTLY}
EVERYWHERE = {"resident": RESIDENT, **ELSEWHERE}
STAGES = {"diffusion_transformer": Denoiser, "tokenizer": Codec, "text_encoder": PromptNetwork}


@cache
def compiled(converted, precision):
    """Every stage in `precision`, compiled once for all tests."""
    return {name: stage(find_component(converted, name), precision) for name, stage in STAGES.items()}


@pytest.fixture
def stages(converted, settled_heap):
    """Stages with nothing loaded, resident by default."""
    gc.collect()  # so that garbage of other tests is not counted
    yield compiled(converted, "bfloat16")
    put_away(compiled(converted, "bfloat16"))


def put_away(stages):
    for stage in stages.values():
        stage.place(RESIDENT)
        stage.unload()


@pytest.fixture
def denoiser(stages):
    return stages["diffusion_transformer"]


def live(kind):
    """Bytes of the arrays in memory of `kind` that something still refers to, single numbers left out."""
    return sum(nbytes(array) for array in jax.live_arrays() if array.size > 1 and array.sharding.memory_kind == kind)


def on_device():
    return live(jax.devices()[0].default_memory().kind)


def on_host():
    return live("pinned_host")


def conditions(num_pairs):
    latents = golden.load("L4_condition")
    names = [f"float32.pair_i{index}_s1" for index in range(num_pairs)]
    return np.concatenate([golden.channels_last(latents[name]) for name in names])


def prompts():
    rows = golden.load("L7_t5")["emb_0"]
    return jnp.asarray(np.pad(rows, ((0, 512 - len(rows)), (0, 0)))[None])


def sample(denoiser, num_pairs=1, **changes):
    settings = SampleSettings(num_steps=2, **changes)
    return np.asarray(denoiser.sample(jnp.asarray(conditions(num_pairs)), prompts(), None, settings))


def encode_and_decode(codec):
    frames = golden.load("inputs_clip")["frames"]
    latents = codec.encode_pair(frames[0], frames[1], 32, 48, 10)
    return np.concatenate([np.asarray(x).ravel() for x in (latents, codec.decode(latents))])


def prompt(network):
    return network.encode("rain on a tin roof").rows


WORK = {"diffusion_transformer": sample, "tokenizer": encode_and_decode, "text_encoder": prompt}


def outcome(stage, placement, work):
    """What `work` gives in two stages, which must agree."""
    stage.place(placement)
    first = work(stage)
    stage.offload()
    again = work(stage)
    stage.offload()
    assert first.tobytes() == again.tobytes()
    return first


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param("diffusion_transformer", "float32", marks=pytest.mark.slow),
        ("diffusion_transformer", "bfloat16"),
        ("tokenizer", "bfloat16"),
        pytest.param("text_encoder", "float32", marks=pytest.mark.slow),
        ("text_encoder", "bfloat16"),
    ],
)
def test_the_same_bits_from_everywhere(converted, precision, name):
    stages = compiled(converted, precision)
    resident = outcome(stages[name], RESIDENT, WORK[name])
    assert np.isfinite(resident).all()
    for placement in ELSEWHERE.values():
        assert outcome(stages[name], placement, WORK[name]).tobytes() == resident.tobytes(), placement
    put_away(stages)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("num_pairs", "guidance"), [(2, -1.0), (1, 3.0)], ids=["two pairs", "two branches"])
def test_batches_have_the_same_bits_from_everywhere(converted, precision, num_pairs, guidance):
    denoiser = compiled(converted, precision)["diffusion_transformer"]
    resident = sample(denoiser, num_pairs, guidance=guidance)
    assert resident.shape[0] == num_pairs
    for placement in ELSEWHERE.values():
        denoiser.place(placement)
        assert sample(denoiser, num_pairs, guidance=guidance).tobytes() == resident.tobytes(), placement
    put_away(compiled(converted, precision))


def test_the_bare_network_has_the_same_bits_from_everywhere(denoiser):
    x = jnp.asarray(conditions(1))
    mask = jnp.zeros((*x.shape[:4], 1), x.dtype)
    arguments = (x, jnp.asarray([0.3], jnp.float32), prompts(), mask, mask, 24.0)
    resident = np.asarray(denoiser.net(*arguments))
    for placement in ELSEWHERE.values():
        denoiser.place(placement)
        assert np.asarray(denoiser.net(*arguments)).tobytes() == resident.tobytes(), placement


class Permuted:
    """Parameters whose blocks come in another order."""

    def __init__(self, stored, num_blocks):
        self._stored, self._num_blocks = stored, num_blocks

    def outer(self, host_only):
        return self._stored.outer(host_only)

    def part(self, index, names):
        return self._stored.part((index + 1) % self._num_blocks, names)


@pytest.mark.parametrize("name", ["diffusion_transformer", "text_encoder"])
def test_blocks_in_another_order_are_noticed(stages, name, monkeypatch):
    stage = stages[name]
    for placement in (RESIDENT, STREAMED):
        expected = outcome(stage, placement, WORK[name])
        stage.unload()
        with monkeypatch.context() as patched:
            patched.setattr(stage, "_stored", Permuted(stage._stored, stage.network.num_blocks))
            assert outcome(stage, placement, WORK[name]).tobytes() != expected.tobytes()
        stage.unload()


@pytest.mark.parametrize("path", ["blocks/mlp/down/kernel", "blocks/self_attention/query_norm/scale", "positions/w"])
@pytest.mark.parametrize("placement", EVERYWHERE.values(), ids=EVERYWHERE)
def test_one_changed_weight_is_noticed(denoiser, monkeypatch, placement, path):
    denoiser.place(placement)
    expected = sample(denoiser)
    monkeypatch.setattr(denoiser, "_stored", denoiser._stored)  # to be put back
    change_weight(denoiser, path, lambda array: nudge(array, 2))
    assert sample(denoiser).tobytes() != expected.tobytes()


def sizes(stage):
    """Bytes of (all parameters, those outside the stack, one block)."""
    network = stage.network
    return tuple(nbytes(tree) for tree in (network.abstract, network.outer_abstract, network.block_abstract))


def first_parts(network, count):
    """Bytes of the first `count` parts of the stack."""
    names = [network.parts[part] for _, part in network.order[:count]]
    return nbytes([network.block_abstract[name] for part in names for name in part])


@pytest.mark.parametrize("placement", EVERYWHERE.values(), ids=EVERYWHERE)
def test_where_the_transformer_is(denoiser, placement):
    whole, outer, block = sizes(denoiser)
    count = denoiser.network.num_blocks
    assert whole == outer + count * block == outer + first_parts(denoiser.network, 2 * count)
    device, host = on_device(), on_host()
    denoiser.place(placement)
    assert (on_device(), on_host()) == (device, host)  # nothing is read before it is needed
    sample(denoiser)
    waiting = 0 if placement.stays else count * block
    next_pass = first_parts(denoiser.network, PREFETCHED_PARTS - 1) if placement.kind == "streamed" else 0
    there = outer + block * placement.blocks_on_device(count) + next_pass
    assert (on_device() - device, on_host() - host) == (there, waiting)
    denoiser.offload()
    assert (on_device() - device, on_host() - host) == (whole if placement.stays else 0, waiting)
    denoiser.unload()
    assert (on_device(), on_host()) == (device, host)


@pytest.mark.parametrize("placement", EVERYWHERE.values(), ids=EVERYWHERE)
def test_where_the_tokenizer_is(stages, placement):
    codec = stages["tokenizer"]
    whole = nbytes(codec.network.abstract)
    device, host = on_device(), on_host()
    codec.place(placement)
    assert codec.params.keys() == codec.network.abstract.keys()
    waiting = 0 if placement.stays else whole
    assert (on_device() - device, on_host() - host) == (whole, waiting)
    codec.offload()
    assert (on_device() - device, on_host() - host) == (whole if placement.stays else 0, waiting)
    codec.unload()
    assert (on_device(), on_host()) == (device, host)


@pytest.mark.parametrize("placement", EVERYWHERE.values(), ids=EVERYWHERE)
def test_where_the_text_encoder_is(stages, placement):
    """It waits nowhere: a run needs it once."""
    network = stages["text_encoder"]
    whole, outer, block = sizes(network)
    device, host = on_device(), on_host()
    network.place(placement)
    prompt(network)
    there = outer + block * placement.blocks_on_device(network.network.num_blocks)
    assert (on_device() - device, on_host()) == (there, host)
    network.offload()
    assert (on_device() - device, on_host()) == (whole if placement.stays else 0, host)
    network.unload()
    assert on_device() == device


@pytest.mark.parametrize("before", EVERYWHERE.values(), ids=EVERYWHERE)
def test_another_placement_gives_all_memory_back(stages, before):
    device, host = on_device(), on_host()
    other = PARTLY if before == RESIDENT else RESIDENT
    for stage in stages.values():
        stage.place(before)
    sample(stages["diffusion_transformer"])
    prompt(stages["text_encoder"])
    assert stages["tokenizer"].params
    used = on_device(), on_host()
    assert used[0] > device
    for placement, there in ((before, used), (other, (device, host))):
        for stage in stages.values():
            stage.place(placement)
        assert (on_device(), on_host()) == there


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("placement", EVERYWHERE.values(), ids=EVERYWHERE)
def test_a_run_after_an_interrupted_one_has_the_same_bits(denoiser, placement, monkeypatch):
    expected = sample(denoiser)
    denoiser.place(placement)
    transform, calls = denoiser._transform, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == denoiser.network.num_blocks + 1:
            raise Interrupted
        return transform(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(denoiser, "_transform", interrupted)
        with pytest.raises(Interrupted):
            sample(denoiser)
    assert sample(denoiser).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("name", "reads"), [("diffusion_transformer", 1), ("text_encoder", 2)])
def test_weights_are_read_once_unless_they_wait_nowhere(stages, monkeypatch, name, reads):
    stage, seen = stages[name], []
    part = stage._stored.part
    monkeypatch.setattr(stage._stored, "part", lambda *which: seen.append(which) or part(*which))
    outcome(stage, STREAMED, WORK[name])
    # read ahead in threads: in about this order
    assert Counter(seen) == {(i, stage.network.parts[part]): reads for i, part in stage.network.order}


@pytest.mark.parametrize("placement", [RESIDENT, OFFLOADED, STREAMED], ids=["resident", "offloaded", "streamed"])
def test_loading_is_said_once(denoiser, caplog, placement):
    denoiser.place(placement)
    with caplog.at_level(logging.INFO, logger="jax_interp"):
        for _ in range(2):
            sample(denoiser)
            denoiser.offload()
    assert caplog.text.count("loaded diffusion_transformer in") == 1


@pytest.mark.parametrize("placement", EVERYWHERE.values(), ids=EVERYWHERE)
def test_weights_that_went_away_are_said(stages, monkeypatch, placement):
    def fail(*args):
        raise ValueError("DATA_LOSS")

    monkeypatch.setattr("jax_interp.runtime.checkpoint.loading.read_arrays", fail)
    monkeypatch.setattr("jax_interp.runtime.checkpoint.loading.read_params", fail)
    for name, stage in stages.items():
        stage.place(placement)
        with pytest.raises(CheckpointError, match="params: cannot be read"):
            WORK[name](stage)


def test_a_network_without_blocks_is_offloaded_where_streaming_is_asked_for(stages):
    stages["tokenizer"].place(STREAMED)
    assert stages["tokenizer"].placement == OFFLOADED


def test_more_resident_blocks_than_there_are_are_refused(stages):
    denoiser = stages["diffusion_transformer"]
    count = denoiser.network.num_blocks
    denoiser.place(Placement("streamed", count))
    with pytest.raises(UsageError, match=rf"is {count + 1}: this diffusion_transformer has {count} blocks"):
        denoiser.place(Placement("streamed", count + 1))
