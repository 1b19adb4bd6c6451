"""The command `jax-interp evaluate`, which scores interpolation on frames that are known."""

from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.commands.clip_request import network_settings
from jax_interp.cli.options.devices import DeviceOptions
from jax_interp.cli.options.evaluation import EvaluationOptions
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.guardrails import GuardrailOptions
from jax_interp.cli.options.memory import MemoryOptions
from jax_interp.cli.options.networks import NetworkOptions
from jax_interp.cli.options.requests import EvaluateRequest, clip_name
from jax_interp.cli.options.sampling import SamplingOptions
from jax_interp.cli.options.text import TextOptions
from jax_interp.cli.options.timeline import parse_cuts
from jax_interp.errors import UsageError
from jax_interp.media.pictures.suffixes import PICTURE_SUFFIXES
from jax_interp.media.video.codecs import EncodingSettings
from jax_interp.media.video.suffixes import VIDEO_SUFFIXES
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.settings import InterpolationSettings

_SAMPLING = Under("Sampling", help={"num_video_frames": "Frames of one pair: the keyframes are one less apart."})
_DEVICES = Under("Several GPUs", only=("num_gpus", "mesh"))


@with_options
def evaluate(
    *,
    clip: Annotated[
        Path, typer.Argument(help="A video, a folder of pictures that is one clip, or a folder of videos.")
    ],
    num_frame_pairs: Annotated[
        int | None, typer.Option(help="Pairs of each clip, from its start; all by default.")
    ] = None,
    evaluation: Annotated[EvaluationOptions, Under("Evaluation")],
    text: Annotated[TextOptions, Under("Text")],
    sampling: Annotated[SamplingOptions, _SAMPLING],
    guardrails: Annotated[GuardrailOptions, Under("Guardrails")],
    networks: Annotated[NetworkOptions, Under("Networks")],
    memory: Annotated[MemoryOptions, Under("Memory")],
    devices: Annotated[DeviceOptions, _DEVICES],
) -> None:
    """Score the frames that are generated between every ninth frame of a clip against those that are there.

    PSNR, SSIM and LPIPS where something moves and where nothing does, and the jump beside keyframes; beside the nearest
    keyframe, a blend of both, and what other tools made. Run again after an interruption, it goes on.
    """
    evaluation.reports.begin()
    stride = sampling.num_video_frames - 1
    if stride < 2:
        raise UsageError(f"--num-video-frames {sampling.num_video_frames}: there is no frame between the keyframes")
    if num_frame_pairs is not None and num_frame_pairs < 1:
        raise UsageError(f"--num-frame-pairs {num_frame_pairs}: must be at least 1")
    clips = _clips(clip)
    request = None
    if not evaluation.skip_generation:
        settings = _settings(text, sampling, stride, num_frame_pairs)
        jobs = tuple(_job(path, settings, text, sampling, evaluation.output_dir) for path in clips)
        request = GenerateRequest(
            jobs=jobs,
            keeps_finished=True,
            devices=devices.devices(),
            networks=network_settings(networks, sampling, text),
            memory=memory.settings(),
            guardrails=guardrails.wanted(networks.folders),
            upsampler_asked_for=bool(text.prompt_upsampler or networks.folders["prompt_upsampler"]),
        )
    asked = EvaluateRequest(
        clips=clips,
        generate=request,
        stride=stride,
        num_frame_pairs=num_frame_pairs,
        scene_cuts=parse_cuts(evaluation.scene_cuts),
        height=sampling.height,
        width=sampling.width,
        against=tuple(evaluation.against or ()),
        save_keyframes=evaluation.save_keyframes,
        output_dir=evaluation.output_dir,
        overwrite=evaluation.overwrite,
    )
    from jax_interp.cli.runs.evaluate import run

    run(asked)


def _clips(path: Path) -> tuple[Path, ...]:
    """Return the videos of a folder of videos, sorted; the path itself where it is one clip."""
    if not path.is_dir():
        return (path,)
    there = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    videos = tuple(each for each in there if each.suffix.lower() in VIDEO_SUFFIXES)
    pictures = [each for each in there if each.suffix.lower() in PICTURE_SUFFIXES]
    if videos and pictures:
        raise UsageError(
            f"{path}: has videos ({videos[0].name}) and pictures ({pictures[0].name}); give a folder of either"
        )
    return videos or (path,)


def _settings(
    text: TextOptions, sampling: SamplingOptions, stride: int, num_frame_pairs: int | None
) -> InterpolationSettings:
    return InterpolationSettings(
        prompt=text.prompt or "",
        negative_prompt=text.negative_prompt,
        sampling=sampling.sample_settings(),
        num_frame_pairs=num_frame_pairs,
        frame_stride=stride,
        height=sampling.height,
        width=sampling.width,
        num_video_frames=sampling.num_video_frames,
    )


def _job(
    clip: Path, settings: InterpolationSettings, text: TextOptions, sampling: SamplingOptions, folder: Path
) -> Job:
    return Job(
        inputs=(clip,),
        video=folder / f"{clip_name(clip)}.mkv",
        encoding=EncodingSettings(codec="ffv1"),
        settings=settings,
        upsampler=text.chosen_upsampler(sampling.guidance),
    )
