"""The guardrails of frames as stages: what they show, and the faces on them."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.components import TABLE
from jax_interp.config import Precision, RetinaFaceConfig, VideoSafetyConfig
from jax_interp.errors import CheckpointError
from jax_interp.guardrails import faces, frame_safety, self_test
from jax_interp.guardrails.verdict import Verdict
from jax_interp.models.retinaface import RetinaFace, RetinaFaceOutputs
from jax_interp.models.safety_head import VideoSafety
from jax_interp.nn.params import ModuleT
from jax_interp.pipeline.stages.encoder import EncoderStage
from jax_interp.pipeline.stages.stage import MonolithicStage, NetworkStage
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.types import Frames, Params

FACE_BYTES = 220
"""Activations of the face detector for one pixel of one frame."""


class _SelfTestedStage(NetworkStage[ModuleT]):
    """The common part of the guardrails of frames: a network that is believed once it has passed a self-test."""

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
    """What frames show: SigLIP and the classifier on it, float32.

    Whatever it raises has to block: see `pipeline.safety.fail_closed`.
    """

    COMPONENT: ClassVar[str] = "video_safety"
    PRECISION: ClassVar[Precision] = TABLE[COMPONENT].precision
    NETWORK = VideoSafety

    @classmethod
    def activations(cls, config: VideoSafetyConfig, size: int, workload: Workload) -> int:
        """A batch of frames: the residual stream, queries, keys, values and context, and the hidden MLP twice."""
        tower = config.tower
        return frame_safety.BATCH_SIZE * tower.num_patches * size * (6 * tower.width + 2 * tower.mlp_width)

    def check(self, frames: Frames, first_number: int = 0, stride: int = 1) -> tuple[Verdict, int]:
        """Whether `frames`, of which the first is number `first_number` of its clip, may pass; how many were looked at.

        Every `stride`-th frame of the clip is looked at, from number 0 on. Weights that do not stay on the device leave
        it at the end.
        """
        if first_number < 0 or stride < 1:
            raise ValueError(f"frame {first_number} with a stride of {stride}: expected from 0 on, and from 1 on")
        skipped = -first_number % stride
        looked_at = frames[skipped::stride]
        if len(frames) and not len(looked_at):
            return Verdict.allow(f"with a stride of {stride} none of these frames is looked at"), 0
        numbers = range(first_number + skipped, first_number + len(frames), stride)
        # Pieces of a clip have one frame more or less, depending on where the stride begins.
        most = -(-len(frames) // stride)
        self._batch_size = max(self._batch_size, min(most, frame_safety.BATCH_SIZE))
        side = self.config.tower.image_size
        try:
            self._test()
            verdict = frame_safety.classify_frames(
                looked_at, self.classify, side, numbers=numbers, batch_size=self._batch_size
            )
            return verdict, len(looked_at)
        finally:
            self.offload()

    def classify(self, pixels: Float[np.ndarray, "B size size 3"]) -> Float[np.ndarray, "B classes"]:
        """Logits of frames that `frame_safety.prepare_for_classifier` made; another number of them compiles anew."""
        return self.forward(pixels)

    def _test(self) -> None:
        """Raise `CheckpointError` unless these weights look at pictures; once they did, they are believed."""
        if self._is_tested:
            return
        side = self.config.tower.image_size
        pixels = frame_safety.prepare_for_classifier(self_test.pictures(side, side), side)
        logits = np.concatenate([self.classify(batch) for batch in _batches(pixels, self._batch_size)])
        _raise_if(self_test.fault_of_classifier(logits[: len(pixels)]), self.converted)
        self._is_tested = True


class FaceGuard(_SelfTestedStage[RetinaFace], MonolithicStage[RetinaFace]):
    """Faces, which it makes unrecognisable: RetinaFace, float32.

    Whatever it raises has to block: see `pipeline.safety.fail_closed`.
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
        """A copy of `frames` with faces pixelated; weights that do not stay on the device then leave it."""
        self._batch_size = max(self._batch_size, min(len(frames), faces.BATCH_SIZE))
        try:
            self._test(frames.shape[1:3])
            return faces.blur_faces(frames, self.detect, batch_size=self._batch_size)
        finally:
            self.offload()

    def detect(self, frames: UInt8[np.ndarray, "B Y X 3"]) -> faces.AnchorOutputs:
        """What the network says about frames; every size of a frame and every number of them compiles anew."""
        with self.numerics():
            raw = self._detect(self.params, self.devices.put(frames))
        return faces.AnchorOutputs(np.asarray(raw.offsets), np.asarray(raw.scores))

    def _test(self, size: tuple[int, int]) -> None:
        """Raise `CheckpointError` unless these weights look at pictures; with the program for frames of `size`."""
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
    """`frames`, `size` at a time, the last ones with repetitions at their end."""
    for start in range(0, len(frames), size):
        batch = frames[start : start + size]
        yield np.pad(batch, [(0, size - len(batch)), (0, 0), (0, 0), (0, 0)], mode="edge")


def _raise_if(fault: str | None, converted: ConvertedComponent) -> None:
    if fault is not None:
        raise CheckpointError(
            f"{converted.path}: the {converted.component} {fault}, so its weights are damaged; download it again and"
            " convert it again"
        )
