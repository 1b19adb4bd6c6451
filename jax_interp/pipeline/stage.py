"""A network with its parameters: read when first used, placed as asked, off the device when its stage is over."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from jax_interp.errors import UsageError
from jax_interp.nn.params import Network, StackedNetwork
from jax_interp.runtime.block_stream import BlockStream
from jax_interp.runtime.checkpoint import ConvertedComponent, StackedParams, load_params
from jax_interp.runtime.host import PINNED, pins, to_device, to_host
from jax_interp.runtime.placement import RESIDENT, Placement, spread
from jax_interp.runtime.read_ahead import ReadAhead
from jax_interp.types import Params, Precision

logger = logging.getLogger("jax_interp")

ModuleT = TypeVar("ModuleT", bound=nnx.Module)


class NetworkStage(ABC, Generic[ModuleT]):
    """One network of the pipeline: its structure, its compute dtype, its placement and, while used, its parameters.

    `rest` ends a stage: what is not resident leaves the device. `free` forgets the parameters altogether.
    """

    def __init__(self, found: ConvertedComponent, build: Callable[..., ModuleT], precision: Precision):
        self.found = found
        self.config: Any = found.config
        self.precision: Precision = precision
        self.dtype = jnp.dtype(precision)
        self.network = self._structure(lambda rngs: build(found.config, dtype=self.dtype, rngs=rngs))
        self.placement: Placement = RESIDENT

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next stage on."""
        if placement != self.placement:
            self.free()
            self.placement = placement

    @abstractmethod
    def rest(self) -> None:
        """End the stage: parameters that do not stay on the device leave it."""

    @abstractmethod
    def free(self) -> None:
        """Give the parameters' memory back, on device and host; the next use reads them again."""

    @staticmethod
    def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """`jax.jit` that rounds every bfloat16 value, where XLA would otherwise keep float32 inside a fusion.

        Costs nothing that can be measured (7B forward on an H100: 336 ms with it, 338 ms without).
        """
        return jax.jit(function, compiler_options={"xla_allow_excess_precision": False}, **options)

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Full float32 products in a float32 run: GPUs would otherwise round the operands to tf32."""
        with jax.default_matmul_precision("highest" if self.precision == "float32" else "default"):
            yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        logger.info("loaded %s in %.1f s", self.found.component, time.perf_counter() - started)

    def _structure(self, build: Callable[[nnx.Rngs], ModuleT]) -> Network[ModuleT]:
        return Network(build)


class WholeStage(NetworkStage[ModuleT]):
    """A network that is moved in one piece; streaming it means offloading it."""

    def __init__(self, found: ConvertedComponent, build: Callable[..., ModuleT], precision: Precision):
        super().__init__(found, build, precision)
        self._on_device: Params | None = None
        self._on_host: Params | None = None

    def place(self, placement: Placement) -> None:
        super().place(Placement("offloaded") if placement.kind == "streamed" else placement)

    @property
    def params(self) -> Params:
        """The parameters on the device; brings them there if need be."""
        if self._on_device is None:
            if self.placement.stays:
                self._on_device = self._read(None)
            else:
                if self._on_host is None:
                    self._on_host = self._read(PINNED)
                self._on_device = to_device(self._on_host, jax.devices()[0])
        return self._on_device

    def rest(self) -> None:
        if not self.placement.stays:
            self._on_device = None

    def free(self) -> None:
        self._on_device = self._on_host = None

    def _read(self, memory: str | None) -> Params:
        device = jax.devices()[0]
        kind = memory if memory is not None and pins(device) else device.default_memory().kind
        sharding = jax.sharding.SingleDeviceSharding(device, memory_kind=kind)
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), self.network.abstract
        )
        with self._reading():
            return jax.block_until_ready(load_params(self.found, target, self.dtype))


class StackedStage(NetworkStage[ModuleT]):
    """A network whose forward is a start, its stack of blocks in turn, and an end, each compiled by itself.

    `keep_on_host` says whether parameters that are not resident wait in host memory for the next stage; without it
    they are read from disk in every stage, which suits a network that a run needs once.
    """

    network: StackedNetwork[ModuleT]

    def __init__(
        self,
        found: ConvertedComponent,
        build: Callable[..., ModuleT],
        precision: Precision,
        *,
        keep_on_host: bool = True,
    ):
        super().__init__(found, build, precision)
        self._keep_on_host = keep_on_host
        self._stored = StackedParams(found, self.network.abstract, self.dtype)
        self._outer: Params | None = None
        self._stream: BlockStream | None = None
        self._disk: ReadAhead[tuple[int, int], Params] | None = None
        self._on_host: dict[tuple[int, int], Params] | None = None

    def place(self, placement: Placement) -> None:
        if placement.resident_blocks > self.network.num_blocks:
            raise UsageError(
                f"resident_blocks (--resident-blocks) is {placement.resident_blocks}: this {self.found.component} has"
                f" {self.network.num_blocks} blocks"
            )
        super().place(placement)

    @property
    def outer(self) -> Params:
        """Everything but the blocks, on the device."""
        if self._outer is None:
            self._outer = to_device(self._stored.outer(), jax.devices()[0])
        return self._outer

    @property
    def blocks(self) -> BlockStream:
        """The blocks, placed; reads them if need be."""
        if self._stream is None:
            stay = spread(self.placement.blocks_on_device(self.network.num_blocks), self.network.num_blocks)
            with self._reading() if self.placement.stays else nullcontext():
                self._stream = BlockStream(
                    self._source(), self.network.order, jax.devices()[0], resident=stay, repeats=self._keep_on_host
                )
            if self.placement.stays and self._disk is not None:
                self._disk.close()
        return self._stream

    def rest(self) -> None:
        if not self.placement.stays:
            self._outer = None
            self._close_stream()

    def free(self) -> None:
        self._close_stream()
        self._outer = self._on_host = None

    def _source(self) -> Callable[[tuple[int, int]], Params]:
        """Where the parts of the blocks come from in this stage: disk, or the copy in host memory."""
        self._close_stream()  # of an earlier try that failed
        if self.placement.stays or not self._keep_on_host:
            self._disk = ReadAhead(self._read_part, self.network.order)
            return self._disk
        if self._on_host is None:
            device = jax.devices()[0]
            reads = ReadAhead(lambda at: to_host(self._read_part(at), device), self.network.order)
            try:
                with self._reading():
                    self._on_host = {at: reads(at) for at in self.network.order}
            finally:
                reads.close()
        return self._on_host.__getitem__

    def _read_part(self, at: tuple[int, int]) -> Params:
        block, part = at
        return self._stored.part(block, self.network.parts[part])

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._disk is not None:
            self._disk.close()
        self._stream = self._disk = None

    def _structure(self, build: Callable[[nnx.Rngs], ModuleT]) -> Network[ModuleT]:
        return StackedNetwork(build)
