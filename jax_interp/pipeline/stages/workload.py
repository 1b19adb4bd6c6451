"""The workload of a run: the quantities that decide how much memory its activations take."""

from dataclasses import dataclass

from jax_interp.config import CV8X8X8_720P
from jax_interp.runtime.mesh_shape import ALONE, AXES, MeshShape

LATENT_CELL = CV8X8X8_720P.compression
"""The number of pixels along each axis, and of frames, that one latent cell spans."""
PICTURE_PATCHES = 64 * 64
"""The number of patches of the largest picture that the prompt upsampler reads."""


@dataclass(frozen=True)
class Workload:
    """The quantities that decide the size of activations."""

    height: int = 704
    width: int = 1280
    num_video_frames: int = 10
    pairs_per_batch: int = 1
    branches: int = 1
    """Evaluations of the network that the guidance needs in one step."""
    mesh: MeshShape = ALONE
    """The mesh of devices that share the work; memory is counted for one of them."""
    shard_axes: tuple[str, ...] = AXES[:2]
    """The axes along which weights can be sharded (`runtime.mesh.DeviceMesh.shard_axes`)."""
    in_pieces: bool = False
    """Whether the video tokenizer takes a clip in pieces over time."""
    picture_patches: int = PICTURE_PATCHES
    """The number of patches of the picture in a language model's prompt; 0 if there is no picture."""

    @property
    def rows(self) -> int:
        """The number of evaluations of the network that one device computes at a time."""
        return self.pairs_per_batch * self.mesh.pairs_at_once(self.branches) * self.branches // self.mesh.data
