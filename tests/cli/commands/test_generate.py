"""`jax-interp generate` as a user runs it."""

import json
import os
import shutil
from fractions import Fraction

import imageio.v3 as iio
import numpy as np
import pytest
from safetensors.numpy import load

from jax_interp import Interpolator, save_embeddings
from jax_interp.errors import CheckpointError, MediaError, UsageError
from jax_interp.media.reader import open_frames
from jax_interp.media.video import codecs
from jax_interp.runtime.placement import Placement
from tests import golden
from tests.commands import jax_interp

SIZE = ("--height", 64, "--width", 96, "--num-steps", 1, "--dtype", "float32")


@pytest.fixture
def generate(converted, tmp_path):
    def run(*arguments):
        folders = ("--checkpoint-dir", converted, "--video-save-folder", tmp_path / "out")
        return jax_interp("generate", "--disable-guardrail", *folders, *SIZE, *arguments)

    return run


@pytest.fixture
def pictures(tmp_path):
    """Three pictures from the golden clip, as PNG files in a folder of their own."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, frame in enumerate(golden.load("inputs_clip")["frames"][:3]):
        iio.imwrite(folder / f"{index}.png", frame)
    return folder


def record(tmp_path, name="output"):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())


def outputs(tmp_path):
    folder = tmp_path / "out"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.slow
def test_upstreams_command_line(generate, tmp_path):
    """The command of upstream's documentation, spelled with underscores; only the checkpoint folder differs."""
    outcome = generate(
        "--diffusion_transformer_dir", "Cosmos-Predict1-7B-WorldInterpolator",
        "--input_image_or_video_path", golden.CLIP,
        "--num_input_frames", 1, "--offload_prompt_upsampler", "--video_save_name", "out", "--num_video_frames", 10,
        "--num_frame_pairs", 2,
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    assert "19 frames from 2 pair(s)" in outcome.output
    assert outputs(tmp_path) == ["out.json", "out.mp4", "out.txt"]
    assert open_frames([tmp_path / "out" / "out.mp4"]).num_frames == 19


@pytest.mark.slow
def test_a_run_without_guardrails_says_so(generate, tmp_path):
    outcome = generate("--input", golden.CLIP, "--num-frame-pairs", 1)
    assert "guardrail: off. Neither prompts nor frames are checked" in outcome.output
    assert record(tmp_path)["guardrail"] == "off"


def test_two_pictures(generate, pictures, tmp_path):
    outcome = generate("--input", pictures / "0.png", pictures / "2.png", "--save-frames", tmp_path / "frames")
    assert outcome.code == 0, outcome.output
    assert record(tmp_path)["frames"] == 10
    assert len(list((tmp_path / "frames").glob("*.png"))) == 10


@pytest.mark.parametrize(
    ("arguments", "name", "codec"),
    [
        pytest.param(("--codec", "ffv1"), "output.mkv", "ffv1", marks=pytest.mark.slow),
        pytest.param(
            ("--video-save-name", "film.MOV", "--codec", "prores"), "film.mov", "prores", marks=pytest.mark.slow
        ),
        (("--video-save-name", "film.gif"), "film.gif", "gif"),
    ],
)
def test_other_codecs_and_containers(generate, tmp_path, arguments, name, codec):
    outcome = generate("--input", golden.CLIP, "--num-frame-pairs", 1, *arguments)
    assert outcome.code == 0, outcome.output
    stem = name.split(".")[0]
    assert outputs(tmp_path) == sorted([name, f"{stem}.json", f"{stem}.txt"])
    assert open_frames([tmp_path / "out" / name]).num_frames == 10
    assert record(tmp_path, stem)["output"]["codec"] == codec


def test_an_animation_that_would_be_too_long_is_refused_before_anything_is_loaded(generate, tmp_path, monkeypatch):
    monkeypatch.setattr(codecs, "MOST_ANIMATION_PIXELS", 12 * 64 * 96)
    outcome = generate("--input", golden.CLIP, "--video-save-name", "film.webp", "--num-frame-pairs", 2)
    assert outcome.code == UsageError.exit_code
    assert "film.webp: 19 frames of 96x64 are too many for a webp, which may have 12 of that size" in outcome.output
    assert outputs(tmp_path) == []


@pytest.mark.slow
def test_programs_get_events_and_quiet_runs_only_results(generate, tmp_path):
    clip = ("--input", golden.CLIP, "--num-frame-pairs", 1)
    events = json.loads(f"[{generate(*clip, '--progress', 'json').output.replace('} {', '}, {')}]")
    assert {event["event"] for event in events} == {"log", "progress", "result"}
    assert events[-1] == {
        "version": 1,
        "event": "result",
        "text": f"{tmp_path}/out/output.mp4: 10 frames from 1 pair(s)",
        "video": f"{tmp_path}/out/output.mp4",
        "record": f"{tmp_path}/out/output.json",
        "frames": 10,
        "pairs": 1,
    }
    quiet = generate(*clip, "--quiet").output
    assert quiet.startswith("WARNING guardrail: off.")
    assert quiet.endswith(f"says so {tmp_path}/out/output.mp4: 10 frames from 1 pair(s)")


@pytest.mark.slow
def test_a_folder_of_pictures(generate, pictures, tmp_path):
    assert generate("--input", pictures).code == 0
    assert record(tmp_path)["frames"] == 19


def test_every_flag_arrives_in_the_record(generate, tmp_path):
    outcome = generate(
        "--input", golden.CLIP, "--prompt", "rain", "--negative_prompt", "fog", "--guidance", 1.5, "--seed", 3,
        "--frame_stride", 2, "--frame_index_start", 1, "--condition-noise", "random", "--rotary-precision", "bfloat16",
        "--fps", 30, "--pairs-per-batch", 2, "--text-encoder-dtype", "bfloat16",
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    settings = record(tmp_path)["settings"]
    expected = {
        "prompt": "rain", "negative_prompt": "fog", "guidance": 1.5, "seed": 3, "num_steps": 1, "frame_stride": 2,
        "frame_index_start": 1, "condition_noise": "random", "rotary_precision": "bfloat16", "dtype": "float32",
        "fps": 30, "pairs_per_batch": 2, "height": 64, "width": 96, "text_encoder_dtype": "bfloat16",
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    assert open_frames([tmp_path / "out" / "output.mp4"]).fps == 30


@pytest.mark.slow
def test_a_prompt_that_cannot_matter(generate):
    outcome = generate("--input", golden.CLIP, "--num-frame-pairs", 1, "--prompt", "rain")
    assert "the prompt cannot change the result" in outcome.output
    assert "--guidance 0" in outcome.output


def batch_file(tmp_path, *lines):
    path = tmp_path / "batch.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


@pytest.mark.slow
def test_a_batch_has_one_output_a_line_and_goes_on_where_it_stopped(generate, pictures, tmp_path):
    both = [str(pictures / "0.png"), str(pictures / "1.png")]
    lines = batch_file(tmp_path, {"visual_input": both, "prompt": "a"}, {"visual_input": both, "name": "second"})
    arguments = ("--batch_input_path", lines, "--video_save_name", "film")
    assert generate(*arguments).code == 0
    assert [name for name in outputs(tmp_path) if name.endswith(".mp4")] == ["film_0000.mp4", "second.mp4"]
    again = generate(*arguments)
    assert again.output.count("already there") == 2


@pytest.mark.slow
def test_a_batch_of_one_line_goes_on_too(generate, pictures, tmp_path):
    lines = batch_file(tmp_path, {"visual_input": [str(pictures / "0.png"), str(pictures / "1.png")], "name": "only"})
    assert generate("--batch-input-path", lines).code == 0
    again = generate("--batch-input-path", lines)
    assert again.output.count("already there") == 1


def test_a_batch_goes_on_after_a_clip_that_fails(generate, pictures, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    both = [str(pictures / "0.png"), str(pictures / "1.png")]
    lines = batch_file(tmp_path, {"visual_input": str(tmp_path / "broken.mp4")}, {"visual_input": both})
    outcome = generate("--batch-input-path", lines)
    assert outcome.code == MediaError.exit_code  # the only one that failed
    assert "1 of 2 clips failed: output_0000.mp4" in outcome.output
    assert "output_0001.mp4" in outputs(tmp_path)


@pytest.mark.slow
def test_offloading_and_benchmark(generate):
    flags = ("--offload_diffusion_transformer", "--offload_tokenizer", "--offload_text_encoder_model", "--benchmark")
    outcome = generate("--input", golden.CLIP, "--num-frame-pairs", 2, *flags)
    assert outcome.code == 0, outcome.output
    assert "denoise" in outcome.output


@pytest.mark.slow
def test_a_streamed_transformer_gives_the_frames_of_a_resident_one(generate, tmp_path, monkeypatch):
    placed = []
    place = Interpolator.place
    monkeypatch.setattr(Interpolator, "place", lambda self, given: (placed.append(dict(given)), place(self, given))[1])
    common = ("--input", golden.CLIP, "--num-frame-pairs", 2, "--pairs-per-batch", 2)
    kinds = {"streamed": ("--placement", "diffusion_transformer=streamed"), "resident": ()}
    for kind, arguments in kinds.items():
        assert generate(*common, *arguments, "--save-frames", tmp_path / kind).code == 0
        assert record(tmp_path)["settings"]["pairs_per_batch"] == 2
    assert placed == [{"diffusion_transformer": Placement("streamed")}, {}]
    names = [f"{index:05d}.png" for index in range(19)]
    pictures = {kind: [(tmp_path / kind / name).read_bytes() for name in names] for kind in kinds}
    assert pictures["streamed"] == pictures["resident"]
    assert len(set(pictures["resident"])) == 19


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((), UsageError, "give either --input"),
        (("--input", golden.CLIP, "--num-video-frames", 9), UsageError, "--num-video-frames 9: allowed are 10, 18"),
        (("--input", golden.CLIP, "--height", 63), UsageError, "--height 63: expected a multiple of 16"),
        (("--input", golden.CLIP, "--width", 4096), UsageError, "--width 4096: expected a multiple of 16"),
        (("--input", golden.CLIP, "--frame-stride", 4), UsageError, "--frame-stride 4"),
        (("--input", golden.CLIP, "--num-gpus", 9), UsageError, "--num-gpus 9: JAX sees 8 device(s)"),
        (("--input", golden.CLIP, "--num-input-frames", 9), UsageError, "--num-input-frames 9"),
        (("--input", golden.CLIP, "--video-save-name", "../up"), UsageError, "--video-save-name '../up'"),
        (("--input", golden.CLIP, "--seed", -1), UsageError, "--seed is -1"),
        (("--input", "missing.mp4"), MediaError, "missing.mp4"),
        (("--input", golden.CLIP, "--text-embeddings", "none.safetensors"), CheckpointError, "none.safetensors"),
        (("--input", golden.CLIP, "--fps", "0.001"), UsageError, "--fps 0.001: expected frames a second, from 0.01 to"),
        (("--input", golden.CLIP, "--fps", "1e9"), UsageError, "--fps 1e9: expected frames a second, from"),
        (("--input", golden.CLIP, "--fps", "nan"), UsageError, "--fps nan: expected frames a second, from"),
        (("--input", golden.CLIP, "--fps", "24/0"), UsageError, "--fps 24/0: expected frames a second, as 24, 23.976"),
        (("--input", golden.CLIP, "--video-save-name", "film.avi"), UsageError, "'film.avi': results are mp4 here"),
        (
            ("--input", golden.CLIP, "--video-save-name", "film.mp4", "--codec", "prores"),
            UsageError,
            "film.mp4: codec prores needs .mov or .mkv, not .mp4",
        ),
        (("--input", golden.CLIP, "--codec", "av1", "--crf", 64), UsageError, "--crf must be 0 (best) to 63, not 64"),
        (("--input", golden.CLIP, "--video-save-name", "x" * 231), UsageError, "--video-save-name: xxx"),
        (("--input", golden.CLIP, "--prompt", "\udcff"), UsageError, r"--prompt '\udcff': is not valid UTF-8"),
        (("--input", golden.CLIP, "--save-frames", ""), UsageError, '--save-frames "": is empty'),
    ],
)
def test_bad_input(generate, tmp_path, arguments, error, message):
    outcome = generate(*arguments)
    assert outcome.code == error.exit_code
    assert message in outcome.output
    assert "Traceback" not in outcome.output
    assert outputs(tmp_path) == []


@pytest.mark.slow
def test_an_exact_rate(generate, tmp_path):
    assert generate("--input", golden.CLIP, "--num-frame-pairs", 1, "--fps", "24000/1001").code == 0
    assert open_frames([tmp_path / "out" / "output.mp4"]).fps == Fraction(24000, 1001)
    assert record(tmp_path)["output"]["fps"] == "24000/1001"
    assert record(tmp_path)["settings"]["fps"] == 24000 / 1001


@pytest.fixture
def own(tmp_path):
    """The user's files in the folder of the results: a clip, pictures, and notes of the same name."""
    (tmp_path / "out").mkdir()
    shutil.copy(golden.CLIP, tmp_path / "out" / "same.mp4")
    for name in ("same.txt", "same.json"):
        (tmp_path / "out" / name).write_text("mine")
    return tmp_path / "out"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_input_is_not_replaced(generate, own):
    before = contents(own)
    for overwrite in ((), ("--overwrite",)):
        outcome = generate("--input", own / "same.mp4", "--video-save-name", "same", *overwrite)
        assert outcome.code == UsageError.exit_code
        assert f"{own}/same.mp4: is an input" in outcome.output
    assert contents(own) == before


@pytest.mark.slow
def test_what_the_user_wrote_is_replaced_only_when_told(generate, own):
    (own / "same.mp4").unlink()
    before = contents(own)
    outcome = generate("--input", golden.CLIP, "--num-frame-pairs", 1, "--video-save-name", "same")
    assert outcome.code == UsageError.exit_code
    assert f"{own}/same.txt: is there already, and not what this program wrote" in outcome.output
    assert contents(own) == before
    arguments = ("--input", golden.CLIP, "--num-frame-pairs", 1, "--video-save-name", "same")
    assert generate(*arguments, "--overwrite").code == 0
    assert (own / "same.txt").read_text() == "\n"
    assert generate(*arguments).code == 0


def test_the_pictures_of_the_input_are_not_replaced_by_frames(generate, pictures):
    before = contents(pictures)
    outcome = generate("--input", pictures, "--save-frames", pictures, "--overwrite")
    assert outcome.code == UsageError.exit_code
    assert f"--save-frames {pictures}: is an input" in outcome.output
    assert contents(pictures) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch.jsonl", "clip.mp4", "a.safetensors", "converted"])
def test_nothing_that_is_read_is_replaced(generate, own, tmp_path, converted, name):
    """The batch file, an input of another line, the file of embeddings, a network."""
    clip = own / "clip.mp4"
    shutil.copy(golden.CLIP, clip)
    lines = batch_file(own, {"visual_input": str(golden.CLIP), "name": "first"}, {"visual_input": str(clip)})
    text_encoder = Interpolator.from_pretrained(converted).text_encoder
    assert text_encoder is not None
    rows = np.ones((3, text_encoder.width), np.float32)
    save_embeddings(own / "a.safetensors", {"": rows})
    shutil.copytree(converted, own / "converted")
    where = ("--video-save-folder", own / "converted" / "google-t5" / "t5-11b")
    if name != "converted":  # the frames of the first line would replace a folder that holds another name of it
        (own / "frames" / "first").mkdir(parents=True)
        (own / "frames" / "first" / "00000.png").hardlink_to(own / name)
        where = ("--save-frames", own / "frames")
    before = contents(own)
    outcome = generate(
        "--batch-input-path", lines, "--checkpoint-dir", own / "converted", "--text-embeddings", own / "a.safetensors",
        "--negative-prompt", "", "--overwrite", *where,
    )  # fmt: skip
    assert outcome.code == UsageError.exit_code, outcome.output
    assert ("lies in a network" if name == "converted" else "would replace") in outcome.output
    assert contents(own) == before


def test_an_output_of_one_line_that_another_reads(generate, own):
    first = own / "first.mp4"
    (own / "same.mp4").rename(first)
    both = [{"visual_input": str(golden.CLIP), "name": "first"}, {"visual_input": str(first), "name": "second"}]
    before = contents(own)
    for lines in (both, both[::-1]):
        outcome = generate("--batch-input-path", batch_file(own.parent, *lines), "--overwrite")
        assert outcome.code == UsageError.exit_code
        assert f"{first}: is an input" in outcome.output
    assert contents(own) == before


def test_frames_in_the_folder_of_the_video(generate, tmp_path):
    outcome = generate("--input", golden.CLIP, "--save-frames", tmp_path / "out")
    assert outcome.code == UsageError.exit_code
    assert f"--save-frames {tmp_path}/out: would replace the result" in outcome.output
    assert outputs(tmp_path) == []


def test_a_second_run_says_who_writes_and_computes_nothing(generate, tmp_path, monkeypatch):
    from jax_interp.media.destination import locked_result

    monkeypatch.setattr(Interpolator, "from_pretrained", lambda *_, **__: pytest.fail("loaded all the same"))
    for path, own_frames in ((tmp_path / "out/output.mp4", "frames"), (tmp_path / "frames", "frames")):
        with locked_result(path):
            outcome = generate("--input", golden.CLIP, "--save-frames", tmp_path / own_frames)
            assert outcome.code == MediaError.exit_code
            assert f"{path}: is being written by another run (process {os.getpid()} on " in outcome.output
    assert outputs(tmp_path) == []


@pytest.mark.slow
def test_a_line_that_another_run_writes_does_not_stop_a_batch(generate, pictures, tmp_path):
    from jax_interp.media.destination import locked_result

    both = [str(pictures / "0.png"), str(pictures / "1.png")]
    lines = batch_file(tmp_path, {"visual_input": both, "name": "held"}, {"visual_input": both, "name": "free"})
    with locked_result(tmp_path / "out/held.mp4"):
        outcome = generate("--batch-input-path", lines)
    assert outcome.code == MediaError.exit_code
    assert "held.mp4: is being written by another run" in outcome.output
    assert outputs(tmp_path) == ["free.json", "free.mp4", "free.txt"]


def test_unreadable_video_and_single_frame(generate, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(golden.CLIP.read_bytes()[:5000])
    single = tmp_path / "single.png"
    iio.imwrite(single, np.zeros((64, 96, 3), np.uint8))
    for path in (broken, single):
        outcome = generate("--input", path)
        assert outcome.code in (MediaError.exit_code, UsageError.exit_code)
        assert path.name in outcome.output or "frame" in outcome.output
        assert outputs(tmp_path) == []


def test_an_unconverted_folder(tmp_path):
    outcome = jax_interp(
        "generate", "--disable-guardrail", "--input", golden.CLIP, "--checkpoint-dir", golden.CHECKPOINTS, *SIZE
    )
    assert outcome.code == CheckpointError.exit_code
    assert "not converted" in outcome.output
    assert "jax-interp convert" in outcome.output


@pytest.mark.slow
def test_brackets_in_paths_are_no_markup(generate, tmp_path):
    """The first line fails with a message that has its path as it is, and the next line runs."""
    second = tmp_path / "b[bold]" / "a.mp4"
    second.parent.mkdir()
    shutil.copy(golden.CLIP, second)
    broken = tmp_path / "x[" / "one].mp4"
    broken.parent.mkdir()
    broken.write_bytes(b"not a video")
    lines = batch_file(
        tmp_path,
        {"visual_input": str(broken), "name": "first[red]"},
        {"visual_input": str(second), "name": "second", "prompt": "[/one] rain"},
    )
    outcome = generate("--batch-input-path", lines, "--num-frame-pairs", 1)
    assert outcome.code == MediaError.exit_code
    assert str(broken) in outcome.output
    assert "1 of 2 clips failed: first[red].mp4" in outcome.output
    assert "Traceback" not in outcome.output
    assert "MarkupError" not in outcome.output
    assert outputs(tmp_path) == ["second.json", "second.mp4", "second.txt"]


@pytest.mark.slow
def test_a_damaged_record_is_named_and_replaced_only_when_told(generate, tmp_path):
    arguments = ("--input", golden.CLIP, "--num-frame-pairs", 1)
    assert generate(*arguments).code == 0
    path = tmp_path / "out" / "output.json"
    path.write_text(path.read_text()[:100])
    before = contents(tmp_path / "out")
    outcome = generate(*arguments)
    assert outcome.code == UsageError.exit_code
    assert f"{path} does not tell: it is not JSON" in outcome.output
    assert contents(tmp_path / "out") == before
    assert generate(*arguments, "--overwrite").code == 0
    assert record(tmp_path)["frames"] == 10


@pytest.mark.slow
def test_a_damaged_cached_embedding_is_named_and_made_again(generate, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o700)
    arguments = ("--input", golden.CLIP, "--num-frame-pairs", 1, "--guidance", 0, "--prompt", "rain")
    assert generate(*arguments).code == 0
    entries = list((tmp_path / "cache" / "jax-interp" / "embeddings").rglob("*.safetensors"))
    assert entries
    whole = {entry: entry.read_bytes() for entry in entries}
    for entry, content in whole.items():
        entry.write_bytes(content[:-3])
    outcome = generate(*arguments)
    assert outcome.code == 0, outcome.output
    for entry, content in whole.items():
        assert f"{entry}: damaged entry of the embedding cache" in outcome.output
        assert load(entry.read_bytes())["rows"].tobytes() == load(content)["rows"].tobytes()
