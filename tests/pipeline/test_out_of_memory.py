"""When memory runs out: which stage, what was planned, what would fit; and nothing stays loaded."""

import gc

import jax
import pytest

from jax_interp import Interpolator
from jax_interp.byte_sizes import gib, gib_or_more
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.media.pairs import iterate_pairs
from jax_interp.pipeline.memory import networks
from jax_interp.pipeline.memory.plan import describe
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.checkpoint import loading
from jax_interp.runtime.placement import Placement
from tests import golden
from tests.commands import jax_interp

SETTINGS = InterpolationSettings(sampling=SampleSettings(num_steps=1), height=64, width=96)
EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234567890 bytes."
ERRORS = {"device": lambda: jax.errors.JaxRuntimeError(EXHAUSTED), "host": lambda: MemoryError("1234567890 bytes")}
STAGES = {
    "text": "encode_text",
    "encode": "codec.encode_pairs",
    "denoise": "denoiser.sample",
    "decode": "codec._decode",
}


@pytest.fixture
def interpolator(interpolators):
    return interpolators["float32"]


@pytest.fixture
def fail(interpolator, monkeypatch):
    """Make a stage raise an error."""

    def patch(stage, error):
        def raising(*arguments, **options):
            raise error

        *owner, method = STAGES[stage].split(".")
        monkeypatch.setattr(getattr(interpolator, owner[0]) if owner else interpolator, method, raising)

    return patch


def run(interpolator, settings=SETTINGS):
    frames = golden.load("inputs_clip")["frames"]
    return list(interpolator.stream(iterate_pairs(frames, 1, 0, 1), settings))


def live_bytes():
    return sum(array.nbytes for array in jax.live_arrays())


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_ends_the_command_with_the_plan_that_would_fit(interpolator, fail, monkeypatch, stage, kind):
    fail(stage, ERRORS[kind]())
    monkeypatch.setattr(Interpolator, "from_pretrained", lambda *arguments, **options: interpolator)
    size = ("--height", 64, "--width", 96, "--num-steps", 1)
    outcome = jax_interp("generate", "--disable-guardrail", "--input", golden.CLIP, "--num-frame-pairs", 1, *size)
    assert outcome.code == OutOfMemory.exit_code == 6
    planner = interpolator.planner(SETTINGS)
    current, smallest = planner.plan({}), planner.smallest()
    assert f"error: out of memory in the stage '{stage}' at 64×96, with {describe(current)}" in outcome.output
    assert f"{gib(current.process_peak)} of GPU memory and {gib(current.host)} of host memory" in outcome.output
    assert "Traceback" not in outcome.output
    if kind == "host":
        # what takes the least of a GPU takes the most of the host
        assert f"keep the networks on the GPU, which takes {gib_or_more(current.process_peak)} there" in outcome.output
        assert "smallest plan" not in outcome.output
        return
    assert f"The smallest plan takes {gib(smallest.process_peak)}" in outcome.output
    assert f"({describe(smallest)})" in outcome.output
    least = gib_or_more(smallest.process_peak)
    assert f"run again with --memory-budget and what the GPU has free, at least {least}" in outcome.output


def test_the_networks_are_freed_and_load_again(interpolator, fail, monkeypatch):
    (before,) = run(interpolator)
    loaded = live_bytes()
    parameters = sum(
        found.params for name, found in interpolator.planner(SETTINGS).footprints().items() if name != "text_encoder"
    )
    fail("decode", ERRORS["device"]())
    with pytest.raises(OutOfMemory) as stopped:
        run(interpolator)
    assert isinstance(stopped.value.__cause__, jax.errors.JaxRuntimeError)
    monkeypatch.undo()
    del stopped
    gc.collect()  # the error held what the functions that it came through had
    assert live_bytes() <= loaded - parameters
    (after,) = run(interpolator)
    assert (after.frames == before.frames).all()


def test_where_nothing_is_smaller_the_advice_is_another(interpolator, fail):
    planner = interpolator.planner(SETTINGS)
    interpolator.place(planner.smallest().placements)
    try:
        fail("encode", ERRORS["device"]())
        with pytest.raises(OutOfMemory, match="No plan takes less: give it a larger GPU, or a smaller --height"):
            run(interpolator)
    finally:
        interpolator.place(dict.fromkeys(planner.networks, Placement()))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "error", [jax.errors.JaxRuntimeError("INTERNAL: no such kernel"), ValueError("shapes"), UsageError("--seed")]
)
def test_other_errors_pass_unchanged(interpolator, fail, stage, error):
    fail(stage, error)
    with pytest.raises(type(error)) as passed:
        run(interpolator)
    assert passed.value is error


@pytest.mark.parametrize("kind", ["resident", "streamed"])
@pytest.mark.parametrize("reader", ["read_arrays", "read_params"])
def test_memory_that_runs_out_while_parameters_are_read(converted, monkeypatch, reader, kind):
    """Not taken for a damaged checkpoint."""

    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(loading, reader, full)
    fresh = Interpolator.from_pretrained(converted, dtype="float32", embedding_cache=False)
    fresh.place(dict.fromkeys(("text_encoder", "tokenizer", "diffusion_transformer"), Placement(kind)))
    if reader == "read_params":  # how the tokenizer is read
        monkeypatch.setattr(fresh, "encode_text", lambda texts: [golden.load("L7_t5")["emb_0"]])
    stage = {"read_arrays": "text", "read_params": "encode"}[reader]
    with pytest.raises(OutOfMemory, match=f"out of memory in the stage '{stage}'"):
        run(fresh)


@pytest.fixture
def unread(monkeypatch):
    """Nothing may be read."""

    def never(*arguments, **options):
        raise AssertionError("parameters were read")

    for reader in ("read_arrays", "read_params"):
        monkeypatch.setattr(loading, reader, never)


def test_too_little_host_memory_is_refused_before_anything_is_loaded(converted, tmp_path, monkeypatch, unread):
    monkeypatch.setattr(networks, "host_memory", lambda: (10**6, 10**9))
    outcome = jax_interp(
        "generate", "--disable-guardrail", "--input", golden.CLIP, "--checkpoint-dir", converted,
        "--video-save-folder", tmp_path / "out",
        "--height", 64, "--width", 96, "--num-steps", 1, "--offload-diffusion-transformer",
    )  # fmt: skip
    assert outcome.code == OutOfMemory.exit_code
    assert "of parameters would wait in host memory, of which 0.0 GiB are free" in outcome.output
    assert not (tmp_path / "out").exists()


def test_a_refused_placement_changes_nothing(converted, monkeypatch, unread):
    interpolator = Interpolator.from_pretrained(converted)
    needed = interpolator.planner(SETTINGS).footprints()["diffusion_transformer"].params
    monkeypatch.setattr(networks, "host_memory", lambda: (needed - 1, 10**9))
    with pytest.raises(OutOfMemory):
        interpolator.place({"diffusion_transformer": Placement("streamed")})
    assert interpolator.denoiser.placement == Placement()
    monkeypatch.setattr(networks, "host_memory", lambda: (needed, 10**9))
    interpolator.place({"diffusion_transformer": Placement("streamed")})
    assert interpolator.denoiser.placement == Placement("streamed")
    with pytest.raises(UsageError, match="no network is called unet"):
        interpolator.place({"unet": Placement("streamed")})


def test_a_placement_may_be_named_by_its_kind(interpolator):
    before = interpolator.placements
    try:
        interpolator.place({"diffusion_transformer": "streamed"})
        assert interpolator.placements == before | {"diffusion_transformer": Placement("streamed")}
        with pytest.raises(
            UsageError, match="placement 'cached': expected one of resident, sharded, offloaded, streamed"
        ):
            interpolator.place({"tokenizer": "cached"})
    finally:
        interpolator.place(before)
