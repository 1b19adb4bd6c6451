"""Where the bytes of a network are on every device of a mesh and on the host, and that they go."""

import gc
import math
from collections import Counter

import jax
import pytest

from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.runtime.block_stream import PREFETCHED_PARTS
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh import DeviceMesh, local_shapes
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import RESIDENT, Placement
from jax_interp.runtime.sharding import gathered_specs, sharded_specs
from tests.pipeline.test_many_devices import PLACEMENTS, Quick, run

pytestmark = pytest.mark.slow

DEVICE = jax.devices()[0].default_memory().kind
SHAPES = [MeshShape(sequence=2), MeshShape(data=2, tensor=2)]


def held(kind):
    """Bytes in memory of `kind` that something still refers to, by device; marks are left out."""
    gc.collect(1)  # on CPUs a NumPy array may be a view of one of JAX's
    count = Counter()
    for array in jax.live_arrays():
        if array.size > len(jax.devices()) and array.sharding.memory_kind == kind:
            piece = math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize
            count.update({device.id: piece for device in array.sharding.device_set})
    return count


def everywhere(shape, amount):
    """`amount` bytes on every device."""
    return Counter(dict.fromkeys(range(shape.size), amount)) if amount else Counter()


def parts(stage, specs_of):
    """What a device holds of each part of a block whose weights lie as `specs_of` says."""
    abstract = [stage.network.part_abstract(part) for part in range(len(stage.network.parts))]
    return [nbytes(local_shapes(part, stage.devices.shardings(part, specs_of(part)))) for part in abstract]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def denoiser(request, converted):
    denoiser = Quick(find_component(converted, "diffusion_transformer"), "float32", None, DeviceMesh(request.param))
    yield denoiser
    denoiser.unload()


@pytest.fixture
def bare(denoiser):
    """The transformer with nothing loaded, and what others hold on the devices and on the host."""
    yield denoiser, held(DEVICE), held("pinned_host")
    denoiser.place(RESIDENT)
    denoiser.unload()


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_where_the_transformer_is(bare, placement):
    denoiser, device, host = bare
    shape, network = denoiser.devices.shape, denoiser.network
    count, outer = network.num_blocks, nbytes(network.outer_abstract)
    whole, shares = parts(denoiser, gathered_specs), parts(denoiser, lambda part: sharded_specs(part, denoiser.devices))
    each = shares if placement.is_sharded else whole
    denoiser.place(placement)
    assert (held(DEVICE), held("pinned_host")) == (device, host)  # nothing is read before it is needed
    run(denoiser, "a pair")
    next_pass = each[0] + each[1] if placement.kind == "streamed" else 0
    assert PREFETCHED_PARTS == 3
    there = outer + sum(each) * placement.blocks_on_device(count) + next_pass
    waiting = 0 if placement.stays else sum(shares) * count  # one copy on the host, or little more
    assert held(DEVICE) - device == everywhere(shape, there)
    assert held("pinned_host") - host == everywhere(shape, waiting)
    denoiser.offload()
    assert held(DEVICE) - device == everywhere(shape, there if placement.stays else 0)
    assert held("pinned_host") - host == everywhere(shape, waiting)
    denoiser.unload()
    assert (held(DEVICE), held("pinned_host")) == (device, host)


def test_shares_are_one_copy_and_little_more(denoiser):
    """What is not divided are norms; `tensor` leaves the modulations whole."""
    block, count = nbytes(denoiser.network.block_abstract), denoiser.devices.shape.size
    norms = nbytes([leaf for leaf in jax.tree.leaves(denoiser.network.block_abstract) if leaf.ndim == 1])
    copies = sum(parts(denoiser, lambda part: sharded_specs(part, denoiser.devices))) * count
    repeated = denoiser.devices.shape.tensor * (block - norms) + count * norms
    assert block < copies <= repeated < count * block


@pytest.mark.parametrize("kind", ["sharded", "streamed"])
def test_two_parts_are_put_together_at_a_time(bare, monkeypatch, kind):
    """That which runs and the one after it; beside them are shares."""
    denoiser, device, _ = bare
    denoiser.place(Placement(kind))
    run(denoiser, "a pair")
    at_rest, most = held(DEVICE) - device, Counter()

    def watched(program):
        def call(*arguments, **options):
            result = program(*arguments, **options)
            most.update({0: max(0, held(DEVICE)[0] - device[0] - at_rest[0] - most[0])})
            return result

        return call

    for name in ("_attend", "_attend_between", "_transform"):
        monkeypatch.setattr(denoiser, name, watched(getattr(denoiser, name)))
    run(denoiser, "a pair")
    whole = parts(denoiser, gathered_specs)
    shares = parts(denoiser, lambda part: sharded_specs(part, denoiser.devices))
    streamed = 2 * max(shares) if kind == "streamed" else 0
    activations = 2**19
    assert sum(whole) <= most[0] < sum(whole) + streamed + activations
    assert activations < sum(whole)  # another part would be noticed


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_the_other_networks_leave_nothing_behind(converted, placement):
    devices = DeviceMesh(MeshShape(2, 2))
    codec = Codec(find_component(converted, "tokenizer"), "float32", devices)
    text = PromptNetwork(find_component(converted, "text_encoder"), "float32", devices)
    device, host = held(DEVICE), held("pinned_host")
    for stage in (codec, text):
        stage.place(placement)
    assert codec.params
    assert text.outer
    assert text.blocks
    codec_bytes = nbytes(codec.network.abstract)
    assert sum((held(DEVICE) - device).values()) > 4 * codec_bytes
    assert codec.placement.stays == placement.stays
    for stage in (codec, text):
        stage.offload()
        stage.unload()
    assert (held(DEVICE), held("pinned_host")) == (device, host)
