"""The guardrails of frames as stages: a classifier of the content, and a detector of faces."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.components import TABLE
from jax_interp.config import Precision, RetinaFaceConfig, VideoSafetyConfig
from jax_interp.errors import CheckpointError
from jax_interp.guardrails.frames import faces, frame_safety, self_test
from jax_interp.guardrails.verdict import Verdict
from jax_interp.models.retinaface import RetinaFace, RetinaFaceOutputs
from jax_interp.models.safety_head import VideoSafety
from jax_interp.nn.params import ModuleT
from jax_interp.pipeline.stages.encoder import EncoderStage
from jax_interp.pipeline.stages.offloading import offloading
from jax_interp.pipeline.stages.stage import MonolithicStage, NetworkStage
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.types import Frames, Params

FACE_BYTES = 220
"""Bytes of the face detector's activations for one pixel of one frame."""


class _SelfTestedStage(NetworkStage[ModuleT]):
    """The common base of the guardrails of frames, whose network must pass a self-test before its first verdict."""

    PRECISION: ClassVar[Precision]

    _batch_size = 1
    """Frames in a batch of the compiled program: the most that were ever checked at once, so that the shorter last
    piece of a clip compiles nothing anew."""
    _is_tested = False

    def __init__(self, converted: ConvertedComponent, devices: DeviceMesh | None = None):
        super().__init__(converted, self.PRECISION, devices)

    def unload(self) -> None:
        super().unload()
        self._is_tested = False


class FrameGuard(_SelfTestedStage[VideoSafety], EncoderStage[VideoSafety]):
    """The guardrail of the content of frames: SigLIP and a classifier on its features, in float32.

    Its methods may raise; `pipeline.safety.fail_closed` turns every exception into a verdict that blocks.
    """

    COMPONENT: ClassVar[str] = "video_safety"
    PRECISION: ClassVar[Precision] = TABLE[COMPONENT].precision
    NETWORK = VideoSafety

    @classmethod
    def activations(cls, config: VideoSafetyConfig, size: int, workload: Workload) -> int:
        """For a batch of frames: the residual stream, queries, keys, values and output, and the hidden MLP twice."""
        tower = config.tower
        return frame_safety.BATCH_SIZE * tower.num_patches * size * (6 * tower.width + 2 * tower.mlp_width)

    def check(self, frames: Frames, first_number: int = 0, stride: int = 1) -> tuple[Verdict, int]:
        """Return the verdict on `frames`, and how many of them were classified.

        The first of `frames` has the index `first_number` in its clip. Every `stride`-th frame of the clip, from index
        0 on, is classified. Weights that are not resident leave the device at the end.
        """
        if first_number < 0 or stride < 1:
            raise ValueError(f"frame {first_number} with a stride of {stride}: expected from 0 on, and from 1 on")
        skipped = -first_number % stride
        looked_at = frames[skipped::stride]
        if len(frames) and not len(looked_at):
            return Verdict.allow(f"with a stride of {stride} none of these frames is looked at"), 0
        numbers = range(first_number + skipped, first_number + len(frames), stride)
        # Chunks of a clip have one classified frame more or less, depending on where the stride begins.
        most = -(-len(frames) // stride)
        self._batch_size = max(self._batch_size, min(most, frame_safety.BATCH_SIZE))
        side = self.config.tower.image_size
        with offloading(self):
            self._test()
            verdict = frame_safety.classify_frames(
                looked_at, self.classify, side, numbers=numbers, batch_size=self._batch_size
            )
            return verdict, len(looked_at)

    def classify(self, pixels: Float[np.ndarray, "B size size 3"]) -> Float[np.ndarray, "B classes"]:
        """Return the logits of frames that `frame_safety.prepare_for_classifier` made.

        Another number of frames compiles anew.
        """
        return self.forward(pixels)

    def _test(self) -> None:
        """Raise `CheckpointError` unless the classifier passes the test on known pictures, which is made only once."""
        if self._is_tested:
            return
        side = self.config.tower.image_size
        pixels = frame_safety.prepare_for_classifier(self_test.pictures(side, side), side)
        logits = np.concatenate([self.classify(batch) for batch in _batches(pixels, self._batch_size)])
        _raise_if(self_test.fault_of_classifier(logits[: len(pixels)]), self.converted)
        self._is_tested = True


class FaceGuard(_SelfTestedStage[RetinaFace], MonolithicStage[RetinaFace]):
    """The guardrail of faces, which makes them unrecognisable: RetinaFace, in float32.

    Its methods may raise; `pipeline.safety.fail_closed` turns every exception into a verdict that blocks.
    """

    COMPONENT: ClassVar[str] = "face_blur"
    PRECISION: ClassVar[Precision] = TABLE[COMPONENT].precision
    NETWORK = RetinaFace

    def __init__(self, converted: ConvertedComponent, devices: DeviceMesh | None = None):
        super().__init__(converted, devices)
        self._detect = self.jit(self._look)

    @classmethod
    def activations(cls, config: RetinaFaceConfig, size: int, workload: Workload) -> int:
        return faces.BATCH_SIZE * workload.height * workload.width * FACE_BYTES * config.width // 64 * size // 4

    def blur(self, frames: Frames) -> faces.Blurred:
        """Return a copy of `frames` with faces pixelated; afterwards offload weights that are not resident."""
        self._batch_size = max(self._batch_size, min(len(frames), faces.BATCH_SIZE))
        with offloading(self):
            self._test(frames.shape[1:3])
            return faces.blur_faces(frames, self.detect, batch_size=self._batch_size)

    def detect(self, frames: UInt8[np.ndarray, "B Y X 3"]) -> faces.AnchorOutputs:
        """Return the network's outputs for frames; every size and every number of frames compiles anew."""
        with self.numerics():
            raw = self._detect(self.params, self.devices.put(frames))
        return faces.AnchorOutputs(np.asarray(raw.offsets), np.asarray(raw.scores))

    def _test(self, size: tuple[int, int]) -> None:
        """Raise `CheckpointError` unless the detector passes the test on known pictures, in the program for `size`."""
        if self._is_tested:
            return
        pictures = self_test.pictures(*size)
        outputs = [self.detect(batch) for batch in _batches(pictures, self._batch_size)]
        joined = faces.AnchorOutputs(
            *(np.concatenate(arrays)[: len(pictures)] for arrays in zip(*outputs, strict=True))
        )
        _raise_if(self_test.fault_of_detector(joined, size), self.converted)
        self._is_tested = True

    def _look(self, params: Params, frames: UInt8[Array, "B Y X 3"]) -> RetinaFaceOutputs:
        return self.network.bind(params)(faces.prepare_for_detector(frames))


def _batches(frames: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield batches of `size` frames; the last batch is filled up with repetitions of its last frame."""
    for start in range(0, len(frames), size):
        batch = frames[start : start + size]
        yield np.pad(batch, [(0, size - len(batch)), (0, 0), (0, 0), (0, 0)], mode="edge")


def _raise_if(fault: str | None, converted: ConvertedComponent) -> None:
    if fault is not None:
        raise CheckpointError(
            f"{converted.path}: the {converted.component} {fault}, so its weights are damaged; download it again and"
            " convert it again"
        )
