"""The geometry of latents: their shape for a size of frames, and the sizes that the networks can take."""

from jax_interp.config import DiTConfig, VideoTokenizerConfig
from jax_interp.errors import UsageError
from jax_interp.pipeline.stages.workload import Workload

PIECE_CELLS = 1024
"""Latent cells of a piece of a clip, at least: small frames pass several at a time, large ones one by one."""


def piece_size(rows: int, columns: int) -> int:
    """Return how many latent frames of `rows`×`columns` cells the tokenizer takes at a time."""
    return -(-PIECE_CELLS // (rows * columns))


def latent_shape(
    dit: DiTConfig, tokenizer: VideoTokenizerConfig, *, height: int, width: int, num_video_frames: int
) -> tuple[int, int, int, int]:
    """Return the shape (T, H, W, C) of one pair's latents.

    Raises:
        UsageError: a size cannot work; the message names every such size, with those that can.
    """
    cell = tokenizer.compression
    faults = _size_faults(dit, tokenizer, height, width)
    faults += _frames_faults(
        num_video_frames,
        allowed_video_frames(dit, tokenizer),
        f"{cell}n + 2; 10 is what the released interpolator was trained for",
    )
    if faults:
        raise UsageError("; ".join(faults))
    return (num_video_frames - 2) // cell + 2, height // cell, width // cell, dit.latent_channels


def allowed_video_frames(dit: DiTConfig, tokenizer: VideoTokenizerConfig) -> list[int]:
    """Return the numbers of frames that a pair may have.

    These are a clip of 1 + 8n frames for which the tokenizer has statistics, and the last frame.
    """
    longest_clip = min(tokenizer.latent_chunk, dit.grid[0] - 1)
    return [tokenizer.compression * n + 2 for n in range(1, longest_clip)]


def world_latent_shape(
    dit: DiTConfig,
    tokenizer: VideoTokenizerConfig,
    *,
    height: int,
    width: int,
    num_video_frames: int,
    num_input_frames: int,
) -> tuple[int, int, int, int]:
    """Return the shape (T, H, W, C) of the latents of a clip that Video2World makes.

    Raises:
        UsageError: a size cannot work; the message names every such size, with those that can.
    """
    cell = tokenizer.compression
    faults = _size_faults(dit, tokenizer, height, width)
    longest = min(tokenizer.latent_chunk, dit.grid[0])
    allowed = [1 + cell * n for n in range(1, longest) if 1 + cell * n > num_input_frames]
    faults += _frames_faults(
        num_video_frames,
        allowed,
        f"{cell}n + 1, more than the {num_input_frames} given; 121 is what the released networks were trained for",
    )
    if faults:
        raise UsageError("; ".join(faults))
    return (num_video_frames - 1) // cell + 1, height // cell, width // cell, dit.latent_channels


def _frames_faults(num_video_frames: int, allowed: list[int], rule: str) -> list[str]:
    """Return what is wrong with a number of frames, with those that are allowed and the rule that they follow."""
    if num_video_frames in allowed:
        return []
    return [f"--num-video-frames {num_video_frames}: allowed are {', '.join(map(str, allowed))} ({rule})"]


def _size_faults(dit: DiTConfig, tokenizer: VideoTokenizerConfig, height: int, width: int) -> list[str]:
    """Return what is wrong with a size in pixels, with what can be."""
    multiple = tokenizer.compression * dit.patch_size
    faults = []
    for flag, size, default, patches in (
        ("--height", height, Workload.height, dit.grid[1]),
        ("--width", width, Workload.width, dit.grid[2]),
    ):
        if size < multiple or size % multiple or size > patches * multiple:
            nearest = min(max(multiple, round(size / multiple) * multiple), patches * multiple)
            sizes = f"multiple of {multiple} from {multiple} to {patches * multiple} (nearest: {nearest})"
            faults.append(
                f"{flag} {size}: expected a {sizes}"
                if size != default
                else f"{flag} {size} (the default): these networks take a {sizes}; give {flag}"
            )
    return faults
