"""`jax-interp check` on tiny guardrails that were converted."""

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import Blocked, MediaError, OutOfMemory, UsageError
from jax_interp.media.reader import open_frames
from jax_interp.pipeline.memory import available
from jax_interp.runtime.hardware import Gpu
from tests.commands import jax_interp
from tests.guardrails.tiny_guards import MARK, black, noise, white
from tests.media.clips import encode, names, truncate

GIB = 2**30
LOSSLESS = {"crf": "0"}


@pytest.fixture
def check(guarded):
    return lambda *arguments: jax_interp("check", "--checkpoint-dir", guarded, *arguments)


def clip(path, frames):
    return encode(path, frames, options=LOSSLESS)


def lines(outcome, *expected):
    for line in expected:
        assert line in outcome.output, outcome.output


def test_a_prompt_that_passes(check):
    outcome = check("--prompt", "a street in the rain")
    assert outcome.code == 0
    lines(outcome, "prompt, blocklist: allowed", "prompt, text_safety: allowed: the classifier calls it safe")
    assert "video" not in outcome.output


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            f"a {MARK}",
            ["blocklist: allowed", "text_safety: BLOCKED, O1: the classifier calls it unsafe: O1 (Green Tea)"],
        ),
        ("a florble", ["blocklist: BLOCKED, Blocklist: it has words", "text_safety: not asked"]),
        ("", ["blocklist: BLOCKED, Blocklist: the prompt is empty", "text_safety: not asked"]),
    ],
)
def test_a_prompt_that_is_blocked(check, prompt, expected):
    outcome = check("--prompt", prompt)
    assert outcome.code == Blocked.exit_code == 8
    lines(outcome, *expected)


@pytest.mark.slow
def test_a_video_that_passes_is_written_with_faces_pixelated(check, tmp_path):
    frames = noise(35)
    video = clip(tmp_path / "clip.mp4", frames)
    outcome = check("--video", video, "--save-blurred", tmp_path / "out/safe.mp4")
    assert outcome.code == 0, outcome.output
    lines(outcome, "video, video_safety: allowed: looked at 35 of 35 frames", "video, face_blur: allowed: found")
    assert names(tmp_path / "out") == ["safe.mp4"]
    written = open_frames([tmp_path / "out/safe.mp4"])
    assert (written.num_frames, written.fps) == (35, 24)
    spread = [float(np.std(np.stack(list(source)), axis=(1, 2)).mean()) for source in (open_frames([video]), written)]
    assert spread[1] < 0.7 * spread[0]  # squares of one colour


@pytest.mark.parametrize("bad", [0, 40])
def test_nothing_is_left_of_a_video_that_is_blocked(check, tmp_path, bad):
    frames = black(45)
    frames[bad] = 255
    video = clip(tmp_path / "clip.mp4", frames)
    (tmp_path / "out").mkdir()
    outcome = check("--video", video, "--save-blurred", tmp_path / "out/safe.mp4")
    assert outcome.code == 8
    lines(outcome, f"video, video_safety: BLOCKED, Violence: frame {bad} is not safe", "face_blur: not asked")
    assert names(tmp_path / "out") == []


@pytest.mark.slow
def test_a_stride_counts_through_the_whole_clip(check, tmp_path):
    frames = black(40)
    frames[23] = 255  # the seventh of the second piece
    outcome = check("--video", clip(tmp_path / "clip.mp4", frames), "--guardrail-frame-stride", 7)
    assert outcome.code == 0
    lines(outcome, "looked at 6 of 40 frames")


@pytest.mark.slow
def test_pictures_and_odd_sizes(check, tmp_path):
    import imageio.v3 as iio

    files = [tmp_path / f"{index}.png" for index in range(3)]
    for file, frame in zip(files, noise(3, 65, 97), strict=True):
        iio.imwrite(file, frame)
    outcome = check("--video", *files, "--save-blurred", tmp_path / "safe.mp4")
    assert outcome.code == 0, outcome.output
    written = open_frames([tmp_path / "safe.mp4"])
    assert (written.num_frames, written.height, written.width) == (3, 65, 97)


@pytest.mark.parametrize("placement", ["offloaded", "streamed"])
def test_both_are_checked_and_one_blocks(check, tmp_path, placement):
    bright = clip(tmp_path / "bright.mp4", white(3))
    outcome = check("--prompt", "a street", "--video", bright, "--placement", placement)
    assert outcome.code == 8
    lines(outcome, "prompt, text_safety: allowed", "video, video_safety: BLOCKED")
    outcome = check("--prompt", "a florble", "--video", bright, "--placement", placement)
    assert outcome.code == 8
    lines(outcome, "prompt, blocklist: BLOCKED", "video, video_safety: BLOCKED")


def test_a_video_that_cannot_be_read_is_no_verdict(check, tmp_path):
    video = clip(tmp_path / "clip.mkv", np.random.default_rng(0).integers(0, 50, (40, 64, 96, 3), np.uint8))
    truncate(video, 0.5)
    outcome = check("--video", video, "--save-blurred", tmp_path / "out/safe.mp4")
    assert outcome.code == MediaError.exit_code
    assert "allowed" not in outcome.output
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []


def test_without_networks_everything_is_blocked(tmp_path):
    video = clip(tmp_path / "clip.mp4", black(3))
    outcome = jax_interp(
        "check", "--prompt", "a", "--video", video, "--checkpoint-dir", tmp_path / "none", "--save-blurred",
        tmp_path / "safe.mp4",
    )  # fmt: skip
    assert outcome.code == 8
    lines(outcome, "blocklist: BLOCKED: it could not tell", "video_safety: BLOCKED: it could not tell")
    lines(outcome, f"{tmp_path}/none: no such folder; make it with `jax-interp convert")
    assert names(tmp_path) == ["clip.mp4"]


def test_a_check_that_takes_too_long_blocks(check):
    outcome = check("--prompt", "a street", "--guardrail-timeout", "0.001")
    assert outcome.code == 8
    # The blocklist, if its words are in memory already, may be quick enough; the classifier never is.
    lines(outcome, "BLOCKED: it could not tell: it took longer than 0.001 s; allow more")
    assert "text_safety: allowed" not in outcome.output


@pytest.mark.slow
@pytest.mark.parametrize("enough", [True, False])
@pytest.mark.parametrize("budget", [True, False])
def test_networks_are_placed_by_the_memory_there_is(check, tmp_path, monkeypatch, enough, budget):
    size = 3 if enough else 1
    free = 24 if budget else size
    monkeypatch.setattr(available, "nvidia_gpus", lambda: (Gpu("L4", "570", 24 * GIB, free * GIB),))
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")  # JAX itself has long been started without
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")
    video = clip(tmp_path / "clip.mp4", black(3))
    outcome = check("--video", video, *(("--memory-budget", f"{size}GiB") if budget else ()))
    if enough:
        assert outcome.code == 0, outcome.output
        lines(outcome, "guardrail_models resident: up to", "video, video_safety: allowed")
    else:
        assert outcome.code == (UsageError if budget else OutOfMemory).exit_code
        lines(outcome, "GPU memory are too little", "Give more memory")
        assert "allowed" not in outcome.output
        assert "--height" not in outcome.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to check: give --prompt, --video or both"),
        (["--prompt", "a", "--save-blurred", "x.mp4"], "there is no --video"),
        (["--prompt", "a", "--guardrail-frame-stride", 0], "--guardrail-frame-stride 0: expected 1"),
        (["--prompt", "a", "--guardrail-timeout", 0], "--guardrail-timeout 0.0: expected seconds"),
    ],
)
def test_flags_that_cannot_work_are_refused(check, arguments, message):
    outcome = check(*arguments)
    assert outcome.code == 2
    lines(outcome, message)


@pytest.mark.parametrize("name", ["one.png", "clip.mp4", "folder"])
def test_a_single_frame_is_checked(check, tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".mp4":
        clip(path, black(1))
    else:
        picture = path / "one.png" if not path.suffix else path
        picture.parent.mkdir(exist_ok=True)
        iio.imwrite(picture, black(1)[0])
    outcome = check("--video", path)
    assert outcome.code == 0, outcome.output
    lines(outcome, "video, video_safety: allowed: looked at 1 of 1 frames")


def test_the_video_itself_is_not_replaced(check, tmp_path):
    video = clip(tmp_path / "clip.mp4", black(3))
    before = video.read_bytes()
    outcome = check("--video", video, "--save-blurred", tmp_path / "x/../clip.mp4")
    assert outcome.code == 2
    lines(outcome, "is the video that is to be checked")
    assert video.read_bytes() == before


@pytest.mark.slow
def test_a_file_that_is_there_is_replaced_only_when_told(check, tmp_path):
    bright, dark = clip(tmp_path / "bright.mp4", white(3)), clip(tmp_path / "dark.mp4", black(3))
    save = ("--save-blurred", tmp_path / "out/safe.mp4")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/safe.mp4").write_text("mine")
    outcome = check("--video", dark, *save)
    assert outcome.code == UsageError.exit_code
    lines(outcome, "--save-blurred", "safe.mp4: is there already", "pass --overwrite to replace it")
    assert "allowed" not in outcome.output
    assert check("--video", bright, *save, "--overwrite").code == Blocked.exit_code
    assert (tmp_path / "out/safe.mp4").read_text() == "mine"
    outcome = check("--video", dark, *save, "--overwrite")
    assert outcome.code == 0, outcome.output
    assert open_frames([tmp_path / "out/safe.mp4"]).num_frames == 3
    assert names(tmp_path / "out") == ["safe.mp4"]


def test_overwriting_spares_the_video_itself(check, tmp_path):
    video = clip(tmp_path / "clip.mp4", black(3))
    before = video.read_bytes()
    outcome = check("--video", video, "--save-blurred", video, "--overwrite")
    assert outcome.code == UsageError.exit_code
    lines(outcome, "is the video that is to be checked")
    assert video.read_bytes() == before
