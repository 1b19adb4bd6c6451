"""Networks in 8 bits in the pipeline: where they live, on meshes, how accurate, and what records and plans say."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp import Interpolator
from jax_interp.components import TABLE
from jax_interp.config import DIT_7B, LLAMA_3_1_8B, PIXTRAL_12B, T5_11B, Precision, Quantization
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import UsageError
from jax_interp.models.decoder_lm import DecoderLM, empty_cache
from jax_interp.nn.params import Network, flatten, unflatten
from jax_interp.nn.quantization import quantize_kernel
from jax_interp.pipeline.jobs.record import fingerprint, networks
from jax_interp.pipeline.memory.footprint import footprint
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stage_classes import STAGE_CLASSES, planned
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.quantizing import quantized_layers
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import ALONE, MeshShape
from jax_interp.runtime.placement import RESIDENT, Placement
from tests import golden
from tests.changed_weights import change_weight, nudge
from tests.pipeline.test_many_devices import PLACEMENTS, Quick, Quickly
from tests.tolerances import INT8_FLIPPED, INT8_RATIO, NETWORK_F32

PAIRS = 8
SETTINGS = SampleSettings(num_steps=1)
BRANCHES = SampleSettings(num_steps=1, guidance=1.0)


class QuickText(Quickly, PromptNetwork):
    pass


@cache
def denoiser(converted, shape=ALONE, precision: Precision = "float32", quantization: Quantization = "int8"):
    found = find_component(converted, "diffusion_transformer").quantized(quantization)
    return Quick(found, precision, None, DeviceMesh(shape))


def run(stage, settings=SETTINGS, pairs=PAIRS):
    rng = np.random.default_rng(5)
    latents = rng.standard_normal((PAIRS, 3, 6, 6, 16)).astype(np.float32)
    texts = [rng.standard_normal((PAIRS, 7, 64)).astype(np.float32) for _ in range(2)]
    return np.asarray(stage.sample(*(array[:pairs] for array in (latents, *texts)), settings))


@cache
def expected(converted, settings=SETTINGS):
    """On one device, resident."""
    stage = denoiser(converted)
    stage.place(RESIDENT)
    return run(stage, settings)


def check_equal(ours, right):
    """Equal up to float32's last bits.

    Where a value lies in the middle between two integers, those bits decide to which one it is rounded. That happens
    in some pairs, which then differ by one step of one token, and by what follows from it; the others are equal.
    """
    errors = [golden.relative_l2(mine[1:-1], theirs[1:-1]) for mine, theirs in zip(ours, right, strict=True)]
    check_errors(errors)


def check_errors(errors):
    assert sorted(errors)[len(errors) // 4] < NETWORK_F32, errors
    assert max(errors) < INT8_FLIPPED, errors


def test_every_placement_gives_the_same_bits(converted):
    stage, right = denoiser(converted), expected(converted)
    for name, placement in PLACEMENTS.items():
        stage.place(placement)
        assert run(stage).tobytes() == right.tobytes(), name
    stage.place(RESIDENT)


def test_a_stored_network_gives_the_bits_of_quantising_at_load(converted, quantized):
    stage = Quick(find_component(quantized, "diffusion_transformer"), "float32")
    assert run(stage).tobytes() == expected(converted).tobytes()


def test_a_mesh_of_all_axes_gives_what_one_device_gives(converted):
    stage = denoiser(converted, MeshShape(2, 2, 2))
    check_equal(run(stage), expected(converted))
    change_weight(stage, "blocks/mlp/down/int8_kernel", lambda array: nudge(array, 64))
    with pytest.raises(AssertionError):
        check_equal(run(stage), expected(converted))
    denoiser.cache_clear()


MESHES = [MeshShape(2), MeshShape(1, 2), MeshShape(1, 1, 2), MeshShape(1, 1, 4), MeshShape(2, 1, 2), MeshShape(1, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [*(pytest.param(mesh, marks=pytest.mark.thorough) for mesh in MESHES[:3]), *MESHES[3:]], ids=str
)
def test_every_mesh_and_placement(converted, shape):
    stage = denoiser(converted, shape)
    for placement in ("resident", "sharded", "streamed"):
        stage.place(PLACEMENTS[placement])
        check_equal(run(stage), expected(converted))
    check_equal(run(stage, BRANCHES), expected(converted, BRANCHES))
    stage.unload()


def test_a_pair_does_not_depend_on_its_batch(converted):
    check_equal(run(denoiser(converted), pairs=2), expected(converted)[:2])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [MeshShape(tensor=2), MeshShape(sequence=2)], ids=str)
def test_text_on_a_mesh(converted, shape):
    found = find_component(converted, "text_encoder").quantized("int8")
    alone, spread = QuickText(found, "float32"), QuickText(found, "float32", DeviceMesh(shape))
    spread.place(Placement("streamed"))
    texts = ("rain on a tin roof", "a street", "snow", "a river in the evening")
    check_errors([golden.relative_l2(spread.encode(text).rows, alone.encode(text).rows) for text in texts])


def test_the_transformer_is_nearly_as_accurate_as_in_bfloat16(converted):
    """Of an evaluation and of sampled latents, on the golden network."""
    oracle = denoiser(converted, quantization="none")
    half = denoiser(converted, precision="bfloat16", quantization="none")
    ours = denoiser(converted, precision="bfloat16")
    right = run(oracle)
    error, halves = (golden.relative_l2(run(stage)[:, 1:-1], right[:, 1:-1]) for stage in (ours, half))
    assert halves < error < INT8_RATIO * halves
    change_weight(ours, "blocks/self_attention/qkv/scale", lambda array: array * np.float32(1.5))
    assert golden.relative_l2(run(ours)[:, 1:-1], right[:, 1:-1]) > INT8_RATIO * halves
    denoiser.cache_clear()


def test_the_text_encoder_is_nearly_as_accurate_as_in_bfloat16(converted):
    found = find_component(converted, "text_encoder")
    right = QuickText(found, "float32").encode("rain on a tin roof").rows
    half = QuickText(found, "bfloat16").encode("rain on a tin roof").rows
    ours = QuickText(found.quantized("int8"), "float32").encode("rain on a tin roof").rows
    assert 0 < golden.relative_l2(ours, right) < INT8_RATIO * golden.relative_l2(half, right)


TINY = replace(
    LLAMA_3_1_8B,
    width=64,
    num_heads=4,
    num_kv_heads=2,
    head_width=16,
    num_layers=2,
    mlp_width=96,
    vocab_size=50,
)


def language_models():
    """A language model by what its weights are: full, in 8 bits, and rounded to what those stand for."""
    plain = Network(lambda rngs: DecoderLM(TINY, dtype=jnp.float32, rngs=rngs))
    network = Network(lambda rngs: DecoderLM(TINY, dtype=jnp.float32, rngs=rngs, quantization="int8"))
    rng = np.random.default_rng(0)
    full = {
        path: np.asarray(rng.normal(1.0 if "norm" in path else 0.0, 0.1, leaf.shape), np.float32)
        for path, leaf in flatten(plain.abstract)
    }
    integers, rounded = full.copy(), full.copy()
    for layer in quantized_layers(network.abstract):
        [source] = layer.sources
        pairs = [quantize_kernel(weight) for weight in integers.pop(source)]
        integers[layer.kernel], integers[layer.scale] = (np.stack(each) for each in zip(*pairs, strict=True))
        rounded[source] = np.stack([(values * scale[:, None]).T for values, scale in pairs])
    trees = {"full": (plain, full), "int8": (network, integers), "rounded": (plain, rounded)}
    return {name: (each, unflatten(leaves)) for name, (each, leaves) in trees.items()}


def test_a_language_model_with_8_bit_weights_is_the_plain_one_with_rounded_weights():
    """A prompt, and the decoding of a single token, whose products are computed in another way."""
    ids, lengths = jnp.asarray([[3, 1, 4, 1]]), jnp.asarray([4])
    results = {}
    for name, (network, params) in language_models().items():

        @jax.jit
        def run(params, network=network):
            model = network.bind(params)
            logits, cache = model.prefill(model.embed(ids), lengths, empty_cache(TINY, 1, 8, dtype=jnp.float32))
            return jnp.stack([logits, model.decode(jnp.asarray([5]), lengths, cache)[0]])

        results[name] = run(params)
    assert golden.relative_l2(results["int8"], results["rounded"]) < NETWORK_F32
    assert 1e-3 < golden.relative_l2(results["int8"], results["full"]) < 0.05


# What is said about them.


@pytest.fixture(scope="module")
def opened(converted, quantized):
    return {
        "none": Interpolator.from_pretrained(converted, embedding_cache=False),
        "at load": Interpolator.from_pretrained(converted, embedding_cache=False, quantization="int8"),
        "stored": Interpolator.from_pretrained(quantized, embedding_cache=False),
    }


def test_the_record_and_the_fingerprint_know_it(opened):
    settings, inputs = InterpolationSettings(height=64, width=96), (golden.CLIP,)
    identities = {name: fingerprint(each, settings, inputs) for name, each in opened.items()}
    assert identities["none"] != identities["at load"] == identities["stored"]
    facts = networks(opened["stored"])
    assert facts["diffusion_transformer"]["quantization"] == facts["text_encoder"]["quantization"] == "int8"
    assert "quantization" not in facts["tokenizer"]
    assert not any("quantization" in each for each in networks(opened["none"]).values())


def test_cached_embeddings_are_those_of_the_quantisation(opened):
    identities = {name: each.text_encoder.network.identity for name, each in opened.items()}
    assert len(set(identities.values())) == 3  # a stored network may have been made of rounded weights


def test_what_cannot_be_is_said_at_the_door(quantized):
    with pytest.raises(UsageError, match="stored in int8"):
        Interpolator.from_pretrained(quantized, quantization="none")
    with pytest.raises(
        UsageError, match="quantization is 'int4'; expected 'none', 'int8', 'int8-rotated' or 'int8-smoothed'"
    ):
        Interpolator.from_pretrained(quantized, quantization="int4")  # pyright: ignore[reportArgumentType]


def test_plans_count_half_the_bytes(opened):
    settings = InterpolationSettings(height=64, width=96)
    params = {name: each.planner(settings).footprints() for name, each in opened.items()}
    assert params["at load"] == params["stored"]
    assert params["at load"]["tokenizer"] == params["none"]["tokenizer"]
    workload = settings.workload()
    for component, config in (
        ("diffusion_transformer", DIT_7B),
        ("text_encoder", T5_11B),
        ("prompt_upsampler", PIXTRAL_12B),
    ):
        for name, network in planned(component, config, "bfloat16", "int8").items():
            stage = STAGE_CLASSES[name]
            full, ours = (
                footprint(stage, network.config, "bfloat16", workload, each) for each in ("none", network.quantization)
            )
            assert ours.block < (0.62 if stage.QUANTIZES else 1.01) * full.block, name


def test_networks_with_large_products_say_so():
    """The table of networks and the classes of their stages agree."""
    for row in TABLE.values():
        assert row.quantizes == any(STAGE_CLASSES[name].QUANTIZES for name in row.plan_names)
    assert Denoiser.QUANTIZES
