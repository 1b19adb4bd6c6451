"""The geometry of latents: their shape for a size of frames, and the sizes that the networks can take."""

from jax_interp.config import DiTConfig, VideoTokenizerConfig
from jax_interp.errors import UsageError
from jax_interp.pipeline.stages.workload import Workload


def latent_shape(
    dit: DiTConfig, tokenizer: VideoTokenizerConfig, *, height: int, width: int, num_video_frames: int
) -> tuple[int, int, int, int]:
    """Return the shape (T, H, W, C) of one pair's latents.

    Raises:
        UsageError: a size cannot work; the message names every such size, with those that can.
    """
    cell = tokenizer.compression
    multiple = cell * dit.patch_size
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
    allowed = allowed_video_frames(dit, tokenizer)
    if num_video_frames not in allowed:
        listed = ", ".join(str(count) for count in allowed)
        faults.append(
            f"--num-video-frames {num_video_frames}: allowed are {listed}"
            f" ({cell}n + 2; 10 is what the released interpolator was trained for)"
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
