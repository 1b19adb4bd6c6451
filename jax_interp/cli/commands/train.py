"""The command `jax-interp train`, which turns its options into a request and runs it."""

from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.options.devices import DeviceOptions
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.networks import NetworkOptions
from jax_interp.cli.options.sampling import SamplingOptions
from jax_interp.cli.options.text import TextOptions
from jax_interp.cli.options.training import AdapterOptions, RunOptions, StepOptions, WindowOptions, train_settings
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.data.windows import WindowSettings
from jax_interp.train.runs.folder import RunFolder
from jax_interp.train.runs.request import TrainingRequest

_SIZE = Under(
    "Data",
    only=("height", "width", "num_video_frames"),
    help={
        "height": "Height that is trained at.",
        "width": "Width that is trained at.",
        "num_video_frames": "Frames of a sample, both ends included: 8n + 2.",
    },
)
_NETWORKS = Under(
    "Networks",
    only=("checkpoint_dir", "diffusion_transformer_dir", "tokenizer_dir", "text_encoder_dir"),
)
_DEVICES = Under(
    "Several GPUs",
    only=("mesh",),
    help={"mesh": "GPUs, as data=2: samples are divided among them, and so are weights and the optimizer's state."},
    defaults={"mesh": "data=1"},
)


@with_options
def train(
    data: Annotated[
        Path, typer.Option(help="Folder with videos/NAME.mp4 and metas/NAME.txt, the captions.", rich_help_panel="Data")
    ],
    output: Annotated[RunOptions, Under("Output")],
    size: Annotated[SamplingOptions, _SIZE],
    windows: Annotated[WindowOptions, Under("Data")],
    step: Annotated[StepOptions, Under("Training")],
    adapter: Annotated[AdapterOptions, Under("Adapter")],
    networks: Annotated[NetworkOptions, _NETWORKS],
    text: Annotated[TextOptions, Under("Networks", only=("text_embeddings",))],
    devices: Annotated[DeviceOptions, _DEVICES],
) -> None:
    """Train the transformer, or a low-rank adapter of it, on a folder of videos."""
    output.reports.begin()
    request = TrainingRequest(
        data=data,
        settings=train_settings(step, adapter),
        folder=RunFolder(
            path=output.output_dir,
            keep=output.keep,
            save_every=output.save_every,
            preview_every=output.preview_every,
        ),
        windows=WindowSettings(
            num_frames=size.num_video_frames,
            sequence_interval=windows.sequence_interval,
            start_frame_interval=windows.start_frame_interval,
        ),
        height=size.height,
        width=size.width,
        cache=windows.cache,
        held_out=windows.held_out,
        resume=output.resume,
        checkpoint_dir=networks.checkpoint_dir,
        folders=networks.folders,
        text_embeddings=text.text_embeddings,
        mesh=MeshShape.parse(devices.mesh),
    )
    from jax_interp.cli.runs.train import run_training

    run_training(request)
