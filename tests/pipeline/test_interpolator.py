"""The pipeline against upstream's: condition latents, decoded frames, whole clips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.diffusion.preconditioning import SIGMA_DATA
from jax_interp.errors import Blocked, UsageError
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
from jax_interp.pipeline.stages import codec as codec_module
from tests import golden
from tests.pipeline.stages.test_denoiser import shipped_noise
from tests.tolerances import BF16_RATIO, FRAMES_BF16_PSNR, FRAMES_WITHIN_ONE, NETWORK_F32

SIZE = {"height": 64, "width": 96}
PROMPT = golden.manifest()["golden"]["L7_t5.npz"]["prompts"][0]


def clip():
    return golden.load("inputs_clip")["frames"]


def within_one(ours, theirs):
    assert ours.shape == theirs.shape
    return (np.abs(ours.astype(int) - theirs.astype(int)) <= 1).mean()


# golden name -> numbers of the frames; where the clip has no second frame upstream takes the first one twice
PAIRS = {"i0_s1": (0, 1), "i1_s1": (1, 2), "i0_s2": (0, 2), "i3_s1": (3, 3), "i1_s2": (2, 2)}


def upstream_pixels(frame, height, width):
    """Upstream's resized picture of one of the clip's frames, in place of ours, which may round a pixel otherwise."""
    (index,) = (index for index, known in enumerate(clip()) if np.array_equal(frame, known))
    assert (height, width) == (SIZE["height"], SIZE["width"])
    return jnp.asarray(golden.channels_last(golden.load("L4_condition")["frames_resized"])[0, index], jnp.bfloat16)


def raw_latents_and_statistics(codec, first, last):
    """What the network gives for two pictures in float32, before anything is rounded; mean and deviation beside it."""

    def run(params, first, last):
        tokenizer = codec.network.bind(params)
        between = jnp.zeros((8, *first.shape), first.dtype)
        raw = [tokenizer.encode(jnp.stack(clip)[None])[0] for clip in ([first, *between], [last])]
        statistics = zip(tokenizer.stats.of(2), tokenizer.stats.of(1), strict=True)
        return jnp.concatenate(raw), *map(jnp.concatenate, statistics)

    with codec.numerics():
        return map(np.asarray, jax.jit(run)(codec.params, first, last))


def bfloat16(x):
    return np.asarray(x, np.float32).astype(jnp.bfloat16).astype(np.float32)


def explained(latents, raw, mean, std):
    """Which latents follow, through the roundings to bfloat16, from raw ones within the network's float32 tolerance."""
    within = NETWORK_F32 * np.sqrt(np.mean(raw**2))
    possible = (
        bfloat16(bfloat16(bfloat16(raw + off) - bfloat16(mean)) / bfloat16(std)) for off in (-within, 0, within)
    )
    return np.any([np.asarray(latents) == SIGMA_DATA * values for values in possible], axis=0)


@pytest.mark.parametrize("pair", PAIRS)
def test_condition_latents_float32(interpolators, pair, monkeypatch):
    """Three roundings of upstream's: the pixels' (see `test_resize`), and those of the raw and normalised latents."""
    monkeypatch.setattr(codec_module, "normalize_and_resize", upstream_pixels)
    codec, (first, last) = interpolators["float32"].codec, clip()[list(PAIRS[pair])]
    ours = interpolators["float32"].encode_pair(first, last, **SIZE)
    upstream = golden.channels_last(golden.load("L4_condition")[f"float32.pair_{pair}"])[0]
    raw, mean, std = raw_latents_and_statistics(codec, *(upstream_pixels(frame, **SIZE) for frame in (first, last)))
    assert explained(ours, raw, mean, std).all()
    assert explained(upstream, raw, mean, std).all()
    # the control: an error of ten tolerances is noticed
    assert not explained(upstream, raw * np.float32(1 + 10 * NETWORK_F32), mean, std).all()


@pytest.mark.parametrize("pair", PAIRS)
def test_condition_latents_bfloat16(interpolators, pair):
    first, last = clip()[list(PAIRS[pair])]
    ours = interpolators["bfloat16"].encode_pair(first, last, **SIZE)
    arrays = golden.load("L4_condition")
    oracle, upstream = (golden.channels_last(arrays[f"{dtype}.pair_{pair}"])[0] for dtype in ("float32", "bfloat16"))
    assert golden.relative_l2(ours, oracle) < BF16_RATIO * golden.relative_l2(upstream, oracle)


def test_another_last_frame_changes_only_the_last_latent_frame(interpolators):
    frames = clip()
    one, other = (interpolators["float32"].encode_pair(frames[0], frames[k], **SIZE) for k in (1, 2))
    assert np.array_equal(one[:2], other[:2])
    assert not np.array_equal(one[2], other[2])


@pytest.mark.parametrize("name", ["shipped_g-1_n6", "fixed_g3_n6"])
def test_decoded_frames_float32(interpolators, name):
    run = golden.load(f"L5_float32_{name}")
    frames = interpolators["float32"].decode(golden.channels_last(run["sample"])[0])
    assert within_one(frames, run["video"]) >= FRAMES_WITHIN_ONE


@pytest.mark.slow
def test_decoded_frames_bfloat16(interpolators):
    run = golden.load("L5_bfloat16_shipped_g-1_n6")
    frames = interpolators["bfloat16"].decode(golden.channels_last(run["sample"])[0])
    assert golden.psnr(frames, run["video"]) >= FRAMES_BF16_PSNR


WHOLE_CLIPS = {
    "L6_clip0": {"num_frame_pairs": 2, "num_steps": 6},
    "L6_clip1": {"num_frame_pairs": 1, "frame_stride": 2, "guidance": 3.0, "num_steps": 4},
    "L6_clip2": {"num_steps": 2},
}


def interpolate(interpolator, name, **changes):
    frames = clip()
    if name == "L6_clip2":
        # upstream counts one pair too many and interpolates the last frame to itself; ours has to be told
        frames = np.concatenate([frames, frames[-1:]])
    arguments = {"prompt": PROMPT, "condition_noise": shipped_noise(), **SIZE, **WHOLE_CLIPS[name], **changes}
    return interpolator.interpolate(frames, **arguments)


@pytest.mark.parametrize("name", WHOLE_CLIPS)
def test_whole_clips_float32(interpolators, name):
    upstream = golden.load(f"{name}_float32")
    result = interpolate(interpolators["float32"], name)
    if name == "L6_clip2":
        assert len(result.frames) == 37
        assert within_one(result.frames[-9:], upstream["video_last_9"]) >= FRAMES_WITHIN_ONE
    else:
        assert within_one(result.frames, upstream["video"]) >= FRAMES_WITHIN_ONE


def test_a_whole_clip_bfloat16(interpolators):
    upstream, oracle = (golden.load(f"L6_clip0_{dtype}")["video"] for dtype in ("bfloat16", "float32"))
    frames = interpolate(interpolators["bfloat16"], "L6_clip0").frames
    assert golden.psnr(frames, upstream) >= FRAMES_BF16_PSNR
    ours, theirs = (np.linalg.norm(x.astype(float) - oracle) for x in (frames, upstream))
    assert ours <= BF16_RATIO * theirs


def test_another_clip_would_be_noticed(interpolators):
    result = interpolate(interpolators["float32"], "L6_clip1", frame_stride=1)
    assert within_one(result.frames, golden.load("L6_clip1_float32")["video"]) < FRAMES_WITHIN_ONE


def test_result_shapes_and_joining(interpolators):
    result = interpolators["float32"].interpolate(clip(), num_steps=1, **SIZE)
    assert result.frames.shape == (28, 64, 96, 3)
    assert result.frames.dtype == np.uint8
    assert result.latents.shape == (3, 3, 8, 12, 16)
    pairs = interpolators["float32"].decode(result.latents)
    assert np.array_equal(result.frames[:10], pairs[0])
    assert np.array_equal(result.frames[10:19], pairs[1, 1:])


def test_batches_of_pairs_give_the_same_clip(interpolators):
    one, two = (
        interpolators["float32"].interpolate(clip(), num_steps=2, pairs_per_batch=size, **SIZE) for size in (1, 2)
    )
    assert golden.relative_l2(two.latents, one.latents) < NETWORK_F32
    assert within_one(two.frames, one.frames) == 1


def test_start_and_stride_choose_the_frames(interpolators):
    frames = clip()
    later = interpolators["float32"].interpolate(frames, num_steps=1, frame_index_start=1, frame_stride=2, **SIZE)
    cut = interpolators["float32"].interpolate(frames[[1, 3]], num_steps=1, **SIZE)
    assert np.array_equal(later.frames, cut.frames)


@pytest.mark.slow
def test_longer_pairs(interpolators):
    result = interpolators["float32"].interpolate(clip()[:2], num_steps=1, num_video_frames=18, **SIZE)
    assert result.frames.shape[0] == 18
    assert result.latents.shape[1] == 4


def test_an_empty_negative_prompt_is_the_zero_embedding(interpolators):
    interpolator = interpolators["float32"]
    result = interpolator.interpolate(clip()[:2], negative_prompt="", num_steps=1, **SIZE)
    condition = interpolator.encode_pair(clip()[0], clip()[1], **SIZE)[None]
    assert np.array_equal(result.latents, interpolator.sample(condition, None, None, num_steps=1))


def test_a_prompt_that_cannot_matter_is_said_to(interpolators, caplog):
    interpolators["float32"].interpolate(clip()[:2], prompt="rain", num_steps=1, **SIZE)
    assert "the prompt cannot change the result" in caplog.text
    caplog.clear()
    interpolators["float32"].interpolate(clip()[:2], prompt="rain", guidance=0, num_steps=1, **SIZE)
    assert "cannot change" not in caplog.text


def test_guardrails_that_are_missing_are_known_when_the_folder_is_opened(converted):
    with pytest.raises(Blocked, match="has no text_safety, video_safety, face_blur; run `jax-interp download"):
        Interpolator.from_pretrained(converted, guardrails=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_stride": 4}, "--frame-stride 4"),
        ({"frame_index_start": 3}, "--frame-index-start 3"),
        ({"num_frame_pairs": 4}, "--num-frame-pairs 4"),
        ({"height": 63}, "--height 63"),
        ({"num_video_frames": 9}, "--num-video-frames 9"),
    ],
)
def test_bad_arguments(interpolators, change, message):
    with pytest.raises(UsageError, match=message):
        interpolators["float32"].interpolate(clip(), **{**SIZE, **change})


@pytest.mark.parametrize("frames", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)])
def test_frames_of_another_kind(interpolators, frames):
    with pytest.raises(UsageError, match="expected uint8 \\[frames, height, width, 3\\]"):
        interpolators["float32"].interpolate(frames)


def test_bad_latents(interpolators):
    interpolator, good = interpolators["float32"], np.zeros((3, 8, 12, 16), np.float32)
    for wrong in (good[:, :7], good[..., :8], good[:0], good[0]):
        with pytest.raises(UsageError, match="condition_latents have shape"):
            interpolator.sample(wrong, None, None)
    with pytest.raises(UsageError, match="condition_latents: some values are not finite"):
        interpolator.sample(np.full_like(good, np.nan), None, None)
    for wrong in (good[..., :8], good[:, :0]):
        with pytest.raises(UsageError, match="latents have shape"):
            interpolator.decode(wrong)
    with pytest.raises(UsageError, match="latents: some values are not finite"):
        interpolator.decode(np.full_like(good, np.inf))


def test_freed_networks_load_again(interpolators):
    interpolator = interpolators["float32"]
    before = interpolator.interpolate(clip()[:2], num_steps=1, **SIZE).frames
    interpolator.unload()
    assert np.array_equal(interpolator.interpolate(clip()[:2], num_steps=1, **SIZE).frames, before)


def test_stages_compose_for_one_pair_and_for_a_batch(interpolators):
    interpolator = interpolators["float32"]
    first, last = clip()[:2]
    condition = interpolator.encode_pair(first, last, **SIZE)
    negative = interpolator.encode_text([DEFAULT_NEGATIVE_PROMPT])
    one = interpolator.sample(condition, None, negative, num_steps=1)
    batch = interpolator.sample(condition[None], None, negative, num_steps=1)
    assert one.shape == condition.shape
    assert np.array_equal(one, batch[0])
    whole = interpolator.interpolate(clip()[:2], num_steps=1, **SIZE)
    assert np.array_equal(interpolator.decode(one), whole.frames)
