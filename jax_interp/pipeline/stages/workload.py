"""What a run asks of its networks, as far as it decides how much memory their activations take."""

from dataclasses import dataclass

from jax_interp.config import CV8X8X8_720P
from jax_interp.runtime.mesh_shape import ALONE, AXES, MeshShape

LATENT_CELL = CV8X8X8_720P.compression
"""Pixels, and frames, that a latent cell spans."""
PICTURE_PATCHES = 64 * 64
"""Patches of the largest picture that the prompt upsampler looks at."""


@dataclass(frozen=True)
class Workload:
    """What decides the size of activations."""

    height: int = 704
    width: int = 1280
    num_video_frames: int = 10
    pairs_per_batch: int = 1
    branches: int = 1
    """Evaluations of the network that the guidance needs in a step."""
    mesh: MeshShape = ALONE
    """Devices that share the work; all memory is counted for one of them."""
    share_axes: tuple[str, ...] = AXES[:2]
    """Along which weights can be divided (`runtime.mesh.DeviceMesh.share_axes`)."""
    picture_patches: int = PICTURE_PATCHES
    """Of the picture that a language model reads about; 0 for one that reads words alone."""

    @property
    def rows(self) -> int:
        """Evaluations of the network that a device works on at a time."""
        return self.pairs_per_batch * self.mesh.pairs_at_once(self.branches) * self.branches // self.mesh.data
