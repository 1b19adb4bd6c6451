"""The run of `jax-interp train`: it checks and encodes the data, shows the steps, and writes the result."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import jax.numpy as jnp
import numpy as np

from convert.lora.writing import write_adapter
from convert.target.folders import clear_leftovers, replace_atomically, writer_lock
from convert.trained import write_trained
from jax_interp.cli.terminal.progress import progress
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.media.resize import normalize_and_resize, to_uint8
from jax_interp.pipeline.prompt.embeddings import EmbeddingCache
from jax_interp.pipeline.prompt.text import TextEncoder, open_text_encoder
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.geometry import latent_shape
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.compile_cache import enable_compile_cache
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.train.data.batches import SampleSource, import_grain
from jax_interp.train.data.clips import TrainingClip, find_clips
from jax_interp.train.data.encoding import EncodingCache, Sample, WindowEncoder
from jax_interp.train.runs.preview import contact_sheet, sample_latents, write_picture
from jax_interp.train.runs.request import TrainingRequest
from jax_interp.train.runs.run import Outcome, Preview, Report, identity_of, train
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.lora import num_adapted, split_adapter, target_layers
from jax_interp.train.steps.offloaded import OffloadedTrainer
from jax_interp.train.steps.step import Batch, Trainer
from jax_interp.train.steps.streamed import StreamedTrainer
from jax_interp.types import Params

logger = logging.getLogger("jax_interp")

NETWORK, ADAPTER = "network", "adapter"
"""The subfolders of a run's folder for the two kinds of result."""


def run_training(request: TrainingRequest) -> None:
    """Train as `request` says; faults are reported before the first step where that is possible."""
    if request.settings.lora is not None:
        target_layers(request.settings.lora.targets)
    import_grain()  # before clips are encoded and the folder is claimed, which takes long and leaves files
    enable_compile_cache()
    devices = DeviceMesh(request.mesh)
    base = find_component(request.checkpoint_dir, "diffusion_transformer", request.folders["diffusion_transformer"])
    base.require_full("be trained")
    tokenizer = find_component(request.checkpoint_dir, "tokenizer", request.folders["tokenizer"])
    latent_shape(
        base.config,
        tokenizer.config,
        height=request.height,
        width=request.width,
        num_video_frames=request.windows.num_frames,
    )
    trainer = _kind(request.settings)(base.config, request.settings, devices)
    text_encoder = _text_encoder(request)
    clips = find_clips(request.data, request.windows, height=request.height, width=request.width)
    training, held_out = _split(clips, request)
    cache = EncodingCache(
        folder=request.cache or request.folder.path / "cache",
        encoder=WindowEncoder(tokenizer, request.settings.dtype, request.settings.data.pixels),
        text_encoder=text_encoder,
        windows=request.windows,
        height=request.height,
        width=request.width,
    )
    with writer_lock(request.folder.path):
        _train_on(request, base, tokenizer, trainer, cache, training, held_out)


def _train_on(
    request: TrainingRequest,
    base: ConvertedComponent,
    tokenizer: ConvertedComponent,
    trainer: Trainer,
    cache: EncodingCache,
    training: list[TrainingClip],
    held_out: list[TrainingClip],
) -> None:
    """Encode, train and write the result; no other process writes to the folder meanwhile."""
    samples = cache.samples(training)
    request.folder.claim(identity_of(base, request.settings, samples), resume=request.resume)
    with progress("encoding samples") as task:
        cache.fill([*training, *held_out], task.update)
    if request.settings.lora is not None:
        adapter, _ = split_adapter(trainer.network.abstract)
        logger.info("training an adapter of %d layers", num_adapted(adapter))
    show = _preview(request, trainer, tokenizer, cache.samples(held_out), held_out)
    with _shown_steps(request) as report:
        outcome = train(base, samples, trainer, request.folder, report=report, preview=show)
    write_result(request, base, outcome, len(samples))


def _kind(settings: TrainSettings) -> type[Trainer]:
    if settings.optimizer_on_host:
        return OffloadedTrainer
    return StreamedTrainer if settings.stream_base else Trainer


def write_result(request: TrainingRequest, base: ConvertedComponent, outcome: Outcome, num_samples: int) -> None:
    """Write the trained network or adapter, and say how to use it."""
    settings, folder = request.settings, request.folder.path
    facts = {
        "steps": int(outcome.state.step),
        "samples": num_samples,
        "data": str(request.data),
        "size": [request.height, request.width],
        "settings": json.loads(json.dumps(asdict(settings))),
    }
    if settings.lora is None:
        target = folder / NETWORK
        write_trained(target, base, outcome.network, facts)
        use = f"--diffusion-transformer-dir {target.resolve()}"
    else:
        target = folder / ADAPTER
        clear_leftovers(target)
        with replace_atomically(target) as partial:
            write_adapter(partial, outcome.network, rank=settings.lora.rank, scale=settings.lora.scale)
            layers = num_adapted(outcome.network)
            trained = {"from": {"folder": base.path.name, "sha256": base.source_sha256}, "layers": layers, **facts}
            (partial / "trained.json").write_text(json.dumps(trained, indent=1) + "\n", "utf-8")
        use = f"--lora {target}"
    logger.info(
        "%s: written; use it with `jax-interp generate --checkpoint-dir %s %s`", target, request.checkpoint_dir, use
    )


def _text_encoder(request: TrainingRequest) -> TextEncoder:
    folder, name = request.checkpoint_dir, request.folders["text_encoder"]
    found = open_text_encoder(folder, name, "float32", DeviceMesh(), request.text_embeddings, EmbeddingCache())
    if found is None:
        raise CheckpointError(
            f"{request.checkpoint_dir}: has no converted text encoder for the captions; convert one, or give"
            " --text-embeddings"
        )
    return found


def _split(clips: list[TrainingClip], request: TrainingRequest) -> tuple[list[TrainingClip], list[TrainingClip]]:
    """Return (clips to train on, clips held out)."""
    if request.settings.stream_base and request.folder.preview_every:
        raise UsageError("--preview-every needs the network on the GPU; leave it out with --stream-base")
    if request.held_out is None:
        if request.folder.preview_every:
            raise UsageError("--preview-every shows a pair that is not trained on: name its video with --held-out")
        return clips, []
    held_out = [clip for clip in clips if clip.name == request.held_out]
    training = [clip for clip in clips if clip.name != request.held_out]
    if not held_out or not training:
        names = ", ".join(clip.name for clip in clips[:8])
        raise UsageError(f"--held-out {request.held_out}: expected one of several videos, there are {names}")
    return training, held_out


def _preview(
    request: TrainingRequest,
    trainer: Trainer,
    tokenizer: ConvertedComponent,
    samples: list[Sample],
    clips: list[TrainingClip],
) -> Preview | None:
    """Return a callable that draws a contact sheet of the held-out clip's middle window; None without such a clip."""
    if not samples or not request.folder.preview_every:
        return None
    chosen = len(samples) // 2
    source = SampleSource(samples, trainer.network_config, request.settings.dtype)
    batch = Batch(*(jnp.asarray(leaf)[None] for leaf in source[chosen]))
    codec = Codec(tokenizer, request.settings.dtype)
    window = clips[0].windows[chosen]
    frames = np.stack([frame for number, frame in enumerate(clips[0].source) if number in window])
    truth = np.asarray(to_uint8(normalize_and_resize(frames, request.height, request.width)))

    def show(done: int, network: Params) -> None:
        sampled = sample_latents(trainer, network, batch)
        sheet = contact_sheet(truth, codec.decode(jnp.asarray(batch.latents[0])), codec.decode(sampled[0]))
        codec.unload()
        write_picture(request.folder.path / "previews" / f"step-{done:09d}.png", sheet)

    return show


@contextmanager
def _shown_steps(request: TrainingRequest) -> Iterator[Report]:
    """Show a bar with the loss and the steps per second; yield the callable that updates it."""
    with progress("training", request.settings.steps) as task:

        def report(done: int, values: Mapping[str, float]) -> None:
            rate = 1 / max(values["seconds"], 1e-9)
            task.label = f"loss {values['loss']:.4f}, {rate:.2f} steps/s"
            task.update(done)

        yield report
