"""Video2World against upstream's: networks, condition latents, sampled latents, frames; and what it refuses."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp import Interpolator, Video2World, Video2WorldSettings
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import CheckpointError, UsageError
from tests import golden
from tests.changed_weights import change_weight
from tests.golden import VIDEO2WORLD
from tests.tolerances import (
    BF16_RATIO,
    FRAMES_BF16_PSNR,
    FRAMES_WITHIN_ONE,
    NETWORK_F32,
    SAMPLE_BF16,
    SAMPLE_F32,
)

MANIFEST = golden.manifest(VIDEO2WORLD)
CASES = MANIFEST["cases"]
PROMPT = MANIFEST["golden"]["L7_t5.npz"]["prompts"][0]


def slow(*names):
    """Parameters that the quick tests leave out."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def recorded(name):
    return golden.load(name, VIDEO2WORLD)


def latents(array):
    return golden.channels_last(array)[0]


def given(case):
    return recorded("inputs")[CASES[case]["input"]]


def size_of(case):
    return {name: CASES[case][name] for name in ("num_input_frames", "num_video_frames", "height", "width")}


def embedding(index):
    rows = recorded("L7_t5")[f"emb_{index}"]
    return np.pad(rows, ((0, 512 - len(rows)), (0, 0)))[None]


# the networks


def network_inputs(case):
    arrays = recorded(f"L1_dit_case{case}")
    x = golden.channels_last(arrays["x"])
    mask = np.broadcast_to(golden.channels_last(arrays["condition_video_input_mask"]), (*x.shape[:4], 1))
    return (x, arrays["timesteps"], arrays["crossattn_emb"], mask, arrays["fps"]), arrays


@pytest.mark.parametrize("case", [0, *slow(1)])
def test_network_float32(worlds, case):
    inputs, expected = network_inputs(case)
    out = worlds["float32"].denoise_net(*inputs)
    assert golden.relative_l2(out, golden.channels_last(expected["out_float32"])) < NETWORK_F32


@pytest.mark.slow
@pytest.mark.parametrize("case", [0, 1])
def test_network_bfloat16(worlds, case):
    inputs, expected = network_inputs(case)
    out = worlds["bfloat16"].denoise_net(*inputs)
    oracle, upstream = (golden.channels_last(expected[f"out_{dtype}"]) for dtype in ("float32", "bfloat16"))
    assert golden.relative_l2(out, oracle) < BF16_RATIO * golden.relative_l2(upstream, oracle)


@pytest.mark.slow
def test_network_of_the_14b(converted_world, tmp_path):
    """The same weights in a folder of the 14B have its rotary ratios, and not the 7B's."""
    from convert.conversion import ConversionRequest, convert_checkpoints
    from jax_interp.pipeline.stages.denoiser import Denoiser
    from jax_interp.runtime.checkpoint.converted import open_component

    name = "Cosmos-Predict1-14B-Video2World"
    (tmp_path / name).symlink_to(VIDEO2WORLD / "checkpoints" / "Cosmos-Predict1-7B-Video2World")
    convert_checkpoints(
        ConversionRequest(
            checkpoint_dir=tmp_path, output_dir=tmp_path / "converted", folders={"diffusion_transformer": name}
        )
    )
    (x, times, text, mask, fps), expected = network_inputs(2)
    oracle = golden.channels_last(expected["out_float32"])
    large = open_component(tmp_path / "converted" / name)
    small = open_component(converted_world / "Cosmos-Predict1-7B-Video2World")
    x, times, text, mask = map(jnp.asarray, (x, times, text, mask))
    one, other = (
        Denoiser(network, "float32").net(x, times, text, mask, jnp.zeros_like(mask), float(fps[0]))
        for network in (large, small)
    )
    assert golden.relative_l2(one, oracle) < NETWORK_F32
    assert golden.relative_l2(other, oracle) > 100 * NETWORK_F32


@pytest.mark.slow
@pytest.mark.parametrize("name", ["video33"])
def test_tokenizer_float32(worlds, name):
    arrays, world = recorded("L2_tokenizer"), worlds["float32"]
    bind, params = world.codec.network.bind, world.codec.params
    pixels = jnp.asarray(arrays[f"u_{name}"], jnp.float32)[None] / 128 - 1
    encoded = jax.jit(lambda params, x: bind(params).encode_normalized(x))(params, pixels)
    assert golden.relative_l2(encoded, golden.channels_last(arrays[f"float32.encode_{name}"])) < NETWORK_F32
    latents = jnp.asarray(golden.channels_last(arrays[f"z_{name}"]))
    decoded = jax.jit(lambda params, z: bind(params).decode_normalized(z))(params, latents)
    assert golden.relative_l2(decoded, golden.channels_last(arrays[f"float32.decode_{name}"])) < NETWORK_F32


@pytest.mark.slow
def test_text(worlds):
    arrays = recorded("L7_t5")
    ours = worlds["float32"].encode_text(MANIFEST["golden"]["L7_t5.npz"]["prompts"])
    for index in range(3):
        rows = arrays[f"emb_{index}"]
        assert golden.relative_l2(ours[index, : len(rows)], rows) < NETWORK_F32


# conditioning


def follow(rounded, before):
    """Whether all values are what rounding to bfloat16 makes of others, which have float32's error of a network."""
    within = NETWORK_F32 * np.sqrt(np.mean(before**2))
    least, most = (np.asarray(before + off).astype(jnp.bfloat16).astype(np.float32) for off in (-within, within))
    return bool(((least <= rounded) & (rounded <= most)).all())


@pytest.mark.parametrize("case", ["A", *slow("B", "C", "F", "G", "rgba")])
def test_condition_latents_float32(worlds, case):
    frames = recorded("inputs")["image_rgba"] if case == "rgba" else given(case)
    size = size_of("B" if case == "rgba" else case)
    ours = np.asarray(worlds["float32"].encode_condition(frames, **size))
    arrays = recorded("L4_condition")
    known = int(arrays[f"num_condition_{case}"])
    assert ours.shape == latents(arrays[f"float32.{case}"]).shape
    assert not ours[known:].any()
    before = latents(arrays[f"float32.{case}_uncast"])[:known]
    assert follow(ours[:known], before)
    # the control: an error of ten tolerances is noticed
    assert not follow(ours[:known], before * np.float32(1 + 10 * NETWORK_F32))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["A", "F"])
def test_condition_latents_bfloat16(worlds, case):
    ours = worlds["bfloat16"].encode_condition(given(case), **size_of(case))
    arrays = recorded("L4_condition")
    known = int(arrays[f"num_condition_{case}"])
    oracle, upstream = (latents(arrays[f"{dtype}.{case}"])[:known] for dtype in ("float32", "bfloat16"))
    assert golden.relative_l2(ours[:known], oracle) < BF16_RATIO * golden.relative_l2(upstream, oracle)


@pytest.mark.slow
def test_the_last_frames_of_a_clip_are_taken(worlds):
    clip = recorded("inputs")["clip"]
    world, arguments = worlds["float32"], {"num_video_frames": 17, "height": 48, "width": 64}
    assert np.array_equal(
        world.encode_condition(clip, 9, **arguments), world.encode_condition(clip[3:], 9, **arguments)
    )
    assert np.array_equal(world.encode_condition(clip, **arguments), world.encode_condition(clip[-1], **arguments))


# sampling

RUNS = [
    "A_g7_n6",
    *slow("A_g0_n6", "A_g1_n6", "A_g7_n1", "A_g7_n6_fps12", "A_g7_n6_nonegative", "A_g7_n6_otherseed", "A_g7_n35"),
    *slow("B_g7_n6", "B_g7_n35", "C_g7_n6", "D_g7_n6", "E_g7_n6", "F_g7_n6", "G_g7_n6"),
]
RUNS_BFLOAT16 = [*slow("A_g7_n6", "A_g0_n6", "A_g1_n6", "A_g7_n35", "B_g7_n6", "F_g7_n6")]


def facts(name, precision):
    return MANIFEST["golden"][f"L5_{precision}_{name}.npz"]


def run(world, name, **changes):
    """Our sample and upstream's, from the recorded condition latents and initial noise."""
    precision = world.denoiser.precision
    expected, said = recorded(f"L5_{precision}_{name}"), facts(name, precision)
    start = expected if "initial_noise" in expected else recorded(f"L5_{precision}_{said['case']}_g7_n6")
    case = said["case"]
    arguments = {
        "condition_latents": latents(start["condition_latent"]),
        "text": embedding(0),
        "negative_text": None if "nonegative" in name else embedding(2),
        "guidance": float(said["guidance"]),
        "seed": said["seed"],
        "num_steps": said["num_steps"],
        "fps": said["fps"],
        "num_condition_frames": CASES[case]["condition_latent_frames"],
        "initial_noise": latents(start["initial_noise"]),
    }
    return world.sample(**(arguments | changes)), latents(expected["sample"])


@pytest.mark.parametrize("name", RUNS)
def test_samples_float32(worlds, name):
    ours, upstream = run(worlds["float32"], name)
    assert ours.dtype == jnp.float32
    assert golden.relative_l2(ours, upstream) < SAMPLE_F32


@pytest.mark.parametrize("name", RUNS_BFLOAT16)
def test_samples_bfloat16(worlds, name):
    ours, upstream = run(worlds["bfloat16"], name)
    oracle = latents(recorded(f"L5_float32_{name}")["sample"])
    assert golden.relative_l2(ours, oracle) < BF16_RATIO * golden.relative_l2(upstream, oracle)
    assert golden.relative_l2(ours, upstream) < SAMPLE_BF16


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"num_steps": 7},
        {"fps": 25},
        {"guidance": 6.0},
        {"num_condition_frames": 1},
        {"initial_noise": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_counts(worlds, change):
    same = change == {"initial_noise": None}
    ours, upstream = run(worlds["float32"], "A_g7_n1", **change)
    # The noise that a seed draws is that of the golden recipe, so leaving it out changes nothing.
    assert (golden.relative_l2(ours, upstream) < SAMPLE_F32) == same


def test_another_weight_would_be_noticed(converted_world):
    world = Video2World.from_pretrained(converted_world, dtype="float32")
    change_weight(world.denoiser, "final_linear/kernel", lambda kernel: kernel * np.float32(1.01))
    ours, upstream = run(world, "A_g7_n1")
    assert golden.relative_l2(ours, upstream) > SAMPLE_F32


# frames


def within_one(ours, theirs):
    assert ours.shape == theirs.shape
    return (np.abs(ours.astype(int) - theirs.astype(int)) <= 1).mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["A_g7_n6", "F_g7_n6"])
def test_decoded_frames_float32(worlds, name):
    expected = recorded(f"L5_float32_{name}")
    assert within_one(worlds["float32"].decode(latents(expected["sample"])), expected["video"]) >= FRAMES_WITHIN_ONE


@pytest.mark.slow
def test_decoded_frames_bfloat16(worlds):
    expected, oracle = recorded("L5_bfloat16_A_g7_n6"), recorded("L5_float32_A_g7_n6")["video"]
    frames = worlds["bfloat16"].decode(latents(expected["sample"]))
    assert golden.psnr(frames, expected["video"]) >= FRAMES_BF16_PSNR
    ours, theirs = (np.linalg.norm(x.astype(float) - oracle) for x in (frames, expected["video"]))
    assert ours <= BF16_RATIO * theirs


def generate(world, name, **changes):
    said = facts(name, world.denoiser.precision)
    arguments = {"prompt": PROMPT, "guidance": float(said["guidance"]), "num_steps": said["num_steps"]}
    return world.generate(given(said["case"]), **(arguments | size_of(said["case"]) | changes))


@pytest.mark.parametrize("name", ["D_g7_n6"])
def test_whole_runs_float32(worlds, name):
    """The noise that seed 1 draws is that of the golden files, whose recipe is ours."""
    expected = recorded(f"L5_float32_{name}")
    result = generate(worlds["float32"], name)
    assert within_one(result.frames, expected["video"]) >= FRAMES_WITHIN_ONE
    # one condition latent whose rounding to bfloat16 chose the neighbour moves a sample by 1e-4
    assert golden.relative_l2(result.latents, latents(expected["sample"])) < 10 * SAMPLE_F32


def test_a_seed_gives_the_same_frames_again_and_another_one_others(worlds):
    one, again, other = (generate(worlds["float32"], "D_g7_n6", num_steps=1, seed=seed).latents for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_frames_before_the_given_ones_change_nothing(worlds):
    """`stream` may be passed a whole clip, of which it takes the last frames, or one picture without an axis."""
    clip = np.random.default_rng(0).integers(0, 256, (17, 48, 64, 3), np.uint8)
    sampling = SampleSettings(guidance=0, seed=1, num_steps=1)
    settings = Video2WorldSettings(prompt=PROMPT, sampling=sampling, num_video_frames=9, height=48, width=64)
    whole, last, picture = worlds["float32"].stream(enumerate([clip, clip[-1:], clip[-1]]), settings)
    for other in (whole, picture):
        assert np.array_equal(other.latents, last.latents)
        assert np.array_equal(other.frames, last.frames)


def test_an_empty_negative_prompt_leaves_guidance_without_effect(worlds, caplog):
    guided, plain = (
        generate(worlds["float32"], "D_g7_n6", num_steps=1, guidance=guidance, negative_prompt="").latents
        for guidance in (7.0, 0.0)
    )
    assert np.array_equal(guided, plain)
    assert "guidance has no effect" in caplog.text


# what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_video_frames": 10, "num_input_frames": 1}, r"--num-video-frames 10: allowed are 9, 17, .*121 \(8n \+ 1"),
        ({"num_video_frames": 1}, "--num-video-frames 1: allowed are 17, 25"),
        ({"num_video_frames": 129}, "--num-video-frames 129"),
        ({"num_video_frames": 9, "num_input_frames": 9}, "--num-video-frames 9: allowed are 17, 25"),
        ({"height": 40}, "--height 40: expected a multiple of 16"),
        ({"width": 8}, "--width 8"),
        ({"num_input_frames": 5}, "--num-input-frames is 5; expected 1 or 9"),
        ({"prompt": ""}, "--guidance 7 without a prompt"),
        ({"prompt": " \n"}, "--guidance 7 without a prompt"),
        ({"num_steps": 0}, "--num-steps is 0"),
        ({"num_steps": 2.5}, "--num-steps is 2.5; expected a whole number"),
        ({"num_input_frames": 1.0}, "--num-input-frames is 1.0; expected a whole number"),
        ({"height": 48.0}, "--height is 48.0; expected a whole number"),
        ({"width": "64"}, "--width is '64'; expected a whole number"),
        ({"seed": None, "fps": "24"}, "--fps is '24'; expected a number; --seed is None; expected a whole number"),
        ({"prompt": 5}, "--prompt is 5; expected a text"),
        ({"guidance": 1e300}, r"--guidance is 1e\+300; expected a finite number, up to 3.4e\+38"),
        ({"guidance": float("nan")}, "--guidance is nan"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_bad_arguments(worlds, change, message):
    with pytest.raises(UsageError, match=message):
        generate(worlds["float32"], "A_g7_n6", **change)


@pytest.mark.parametrize(
    ("frames", "count", "message"),
    [
        (np.zeros((5, 40, 40, 3), np.uint8), 9, r"--num-input-frames 9: the input has 5 frame\(s\)"),
        (np.zeros((40, 40, 3), np.uint8), 9, r"--num-input-frames 9: the input has 1 frame\(s\)"),
        (np.zeros((0, 40, 40, 3), np.uint8), 1, r"has 0 frame\(s\)"),
        (np.zeros((8, 40, 3), np.uint8), 1, "8×40 pixels, too small"),
        (np.zeros((40, 40, 3), np.float32), 1, "frames are float32"),
        (np.zeros((40, 40), np.uint8), 1, r"expected uint8 \[frames, height, width, 3\] or one picture"),
    ],
)
def test_bad_frames(worlds, frames, count, message):
    with pytest.raises(UsageError, match=message):
        worlds["float32"].generate(frames, "rain", num_input_frames=count, num_video_frames=17, height=48, width=64)
    with pytest.raises(UsageError, match=message):
        worlds["float32"].encode_condition(frames, count, 17, 48, 64)


def test_bad_latents(worlds):
    world, good = worlds["float32"], np.zeros((3, 6, 8, 16), np.float32)
    with pytest.raises(UsageError, match="condition_latents have shape"):
        world.sample(good[None], embedding(0), None)
    with pytest.raises(UsageError, match="initial_noise has shape"):
        world.sample(good, embedding(0), None, initial_noise=good[:2])
    with pytest.raises(UsageError, match="num_condition_frames is 4; expected 0 to 3"):
        world.sample(good, embedding(0), None, num_condition_frames=4)
    with pytest.raises(UsageError, match=r"num_condition_frames is 1\.5; expected 0 to 3"):
        world.sample(good, embedding(0), None, num_condition_frames=1.5)
    for wrong in (good[:, :5], good[:, :, :7], np.repeat(good, 40, axis=0)):
        with pytest.raises(UsageError, match="expected at most 20 frames, and a height up to 24 and a width up to 32"):
            world.sample(wrong, embedding(0), None)
    for wrong in (good[..., :8], good[:0], good[:, :0]):
        with pytest.raises(UsageError, match="latents have shape"):
            world.decode(wrong)
    with pytest.raises(UsageError, match=r"text embeddings have shape \(1, 0, 48\)"):
        world.sample(good, embedding(0)[:, :0], None)


def test_values_that_are_no_numbers_are_not_blamed_on_the_checkpoint(worlds):
    world, good = worlds["float32"], np.zeros((3, 6, 8, 16), np.float32)
    bad = good.copy()
    bad[1, 2, 3, 4] = np.nan
    with pytest.raises(UsageError, match=r"^condition_latents: some values are not finite"):
        world.sample(bad, embedding(0), None, num_condition_frames=2)
    with pytest.raises(UsageError, match=r"^initial_noise: some values are not finite"):
        world.sample(good, embedding(0), None, initial_noise=bad)
    with pytest.raises(UsageError, match=r"^negative_text: some values are not finite"):
        world.sample(good, embedding(0), np.full_like(embedding(0), np.inf))
    with pytest.raises(UsageError, match=r"^latents: some values are not finite"):
        world.decode(bad)
    # Frames behind the known ones are not read.
    assert np.isfinite(world.sample(bad, embedding(0), None, num_steps=1)).all()


@pytest.mark.parametrize("count", [-1, 0, 5, 17])
def test_only_one_or_nine_frames_are_encoded(worlds, count):
    with pytest.raises(UsageError, match=f"--num-input-frames is {count}; expected 1 or 9"):
        worlds["float32"].encode_condition(np.zeros((20, 40, 40, 3), np.uint8), count, 25, 48, 64)


def test_each_pipeline_refuses_the_others_weights(converted, converted_world):
    with pytest.raises(CheckpointError, match="is a WorldInterpolator transformer, expected a Video2World one"):
        Video2World.from_pretrained(converted)
    with pytest.raises(CheckpointError, match="is a Video2World transformer, expected a WorldInterpolator one"):
        Interpolator.from_pretrained(converted_world)


def test_threads_that_find_nothing_loaded_take_turns(worlds):
    world, seeds = worlds["float32"], (1, 2, 3)
    alone = [generate(world, "D_g7_n6", num_steps=1, seed=seed).frames for seed in seeds]
    world.unload()
    with ThreadPoolExecutor(len(seeds)) as threads:
        together = list(threads.map(lambda seed: generate(world, "D_g7_n6", num_steps=1, seed=seed).frames, seeds))
    assert np.array_equal(together, alone)


def test_guidance_zero_needs_no_prompt(worlds):
    result = generate(worlds["float32"], "D_g7_n6", num_steps=1, guidance=0.0, prompt="")
    assert result.frames.shape == (9, 48, 64, 3)
    assert result.frames.dtype == np.uint8
    assert result.latents.shape == (2, 6, 8, 16)
