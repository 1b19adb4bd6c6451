"""Stages: a network with its parameters, which are read at the first use, placed as asked, and offloaded afterwards."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec as P

from jax_interp.components import TABLE
from jax_interp.config import Precision, Quantization
from jax_interp.nn.params import Network, StackedNetwork
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.block_stream import Apply, BlockStream, PartResult, completion_marker
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.loading import StackedParams, load_params
from jax_interp.runtime.gather_ahead import GatherAhead
from jax_interp.runtime.mesh import REPLICATED, DeviceMesh, Specs, local_shapes
from jax_interp.runtime.mesh_shape import AXES
from jax_interp.runtime.placement import RESIDENT, Kind, Placement, spread
from jax_interp.runtime.read_ahead import ReadAhead
from jax_interp.runtime.sharding import check_split, gather, gathered_specs, sharded_specs, split_counts
from jax_interp.types import Params

logger = logging.getLogger("jax_interp")

ModuleT = TypeVar("ModuleT", bound=nnx.Module)


class NetworkStage(ABC, Generic[ModuleT]):
    """One network of the pipeline: its structure, its dtype, its placement and, while it is used, its parameters.

    `offload` ends a stage: parameters that are not resident leave the device. `unload` frees all parameters. The
    network runs on `devices`, by default on the first device that JAX has.

    A memory plan needs no instance, only the class: its `NETWORK`, `structure` and `activations`.
    """

    NETWORK: ClassVar[Callable[..., nnx.Module]]
    """The class of the network, which takes (config, dtype=, rngs=)."""
    QUANTIZES: ClassVar[bool] = False
    """Whether the network's class takes `quantization=` too."""

    def __init__(self, converted: ConvertedComponent, precision: Precision, devices: DeviceMesh | None = None):
        self.converted = converted
        self.devices = devices or DeviceMesh()
        self.config: Any = converted.config
        self.precision: Precision = precision
        self.dtype = jnp.dtype(precision)
        self.quantization: Quantization = converted.quantization if self.QUANTIZES else "none"
        self.network = self.structure(converted.config, precision, self.quantization)
        self.placement: Placement = RESIDENT

    @classmethod
    def structure(cls, config: Any, precision: Precision, quantization: Quantization = "none") -> Network[ModuleT]:
        """Return the network of `config` without its arrays."""
        return Network(cls._builder(config, precision, quantization))

    @classmethod
    @abstractmethod
    def activations(cls, config: Any, size: int, workload: Workload) -> int:
        """Return the peak bytes that the stage needs on a device beside parameters.

        `size` is the size of one value of its dtype in bytes. The constants in these formulas were fitted to
        measurements on an H100 (`benchmarks/results/` has predicted and measured peaks side by side).
        """

    @property
    def placed_as(self) -> str:
        """The name by which the network is placed, one of `components.PLACEMENT_NAMES`."""
        return TABLE[self.converted.component].placed_as

    @property
    def networks(self) -> dict[str, "NetworkStage[Any]"]:
        """The stage itself, under the empty name, as `pipeline.memory.networks.Placed` wants it."""
        return {"": self}

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next stage on."""
        if placement != self.placement:
            self.unload()
            self.placement = placement

    @abstractmethod
    def offload(self) -> None:
        """End the stage: parameters that are not resident leave the device."""

    @abstractmethod
    def unload(self) -> None:
        """Free the parameters' memory, on device and host; the next use reads them again."""

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Options of XLA for this stage beside those that all have."""
        return {}

    def jit(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Compile `function` with `jax.jit` so that every bfloat16 value is rounded.

        By default XLA keeps float32 inside a fusion. The rounding costs nothing that can be measured (7B forward on an
        H100: 336 ms with it, 338 ms without). On several GPUs, XLA's scheduler hides communication behind arithmetic.
        """
        compiler: dict[str, Any] = {"xla_allow_excess_precision": False, **self.compiler_options}
        if not self.devices.alone and jax.default_backend() == "gpu":
            compiler["xla_gpu_enable_latency_hiding_scheduler"] = True
        return jax.jit(function, compiler_options=compiler, **options)

    def on_each_device(self, function: Callable[..., Any], arguments: Any, results: Any) -> Callable[..., Any]:
        """Map `function` over the devices' shards of its arguments; return it unchanged where there is one device.

        `arguments` and `results` are the specs of its arguments and results.
        """
        if self.devices.alone:
            return function
        # Whether the results are replicated depends on the collectives in `function`, which JAX cannot check.
        return jax.shard_map(function, mesh=self.devices.mesh, in_specs=arguments, out_specs=results, check_vma=False)

    def constrain(self, x: Any, specs: Specs) -> Any:
        """Return `x` sharded as `specs` say; for use within a compiled function."""
        if self.devices.alone:
            return x
        return jax.lax.with_sharding_constraint(x, self.devices.shardings(x, specs))

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Compute full float32 products in a float32 run, where GPUs would otherwise round the operands to tf32."""
        with jax.default_matmul_precision("highest" if self.precision == "float32" else "default"):
            yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        logger.info("loaded %s in %.1f s", self.converted.component, time.perf_counter() - started)

    @classmethod
    def _builder(cls, config: Any, precision: Precision, quantization: Quantization) -> Callable[[nnx.Rngs], Any]:
        options = {"quantization": quantization} if cls.QUANTIZES else {}
        return lambda rngs: cls.NETWORK(config, dtype=jnp.dtype(precision), rngs=rngs, **options)


class MonolithicStage(NetworkStage[ModuleT]):
    """A network whose parameters move in one piece and are replicated; streaming it means offloading it."""

    _on_device: Params | None = None
    _on_host: Params | None = None

    def place(self, placement: Placement) -> None:
        instead = {"streamed": Placement("offloaded"), "sharded": RESIDENT}
        super().place(instead.get(placement.kind, placement))

    @property
    def params(self) -> Params:
        """The parameters on the device; they are read or copied there if need be."""
        if self._on_device is not None:
            return self._on_device
        if not self.placement.stays and self._on_host is None:
            self._on_host = self._read(host=True)
        params = self._read(host=False) if self.placement.stays else self.devices.put(self._on_host)
        self._on_device = params
        return params

    def offload(self) -> None:
        if not self.placement.stays:
            self._on_device = None

    def unload(self) -> None:
        self._on_device = self._on_host = None

    def _read(self, *, host: bool) -> Params:
        sharding = self.devices.sharding(REPLICATED, host=host)
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), self.network.abstract
        )
        with self._reading():
            return jax.block_until_ready(load_params(self.converted, target, self.dtype))


class StackedStage(NetworkStage[ModuleT]):
    """A network that runs as a start, a stack of blocks in turn, and an end, each a program of its own."""

    KEEP_ON_HOST: ClassVar[tuple[Kind, ...]] = ("offloaded", "streamed")
    """The placements in which parameters wait in host memory for the next pass or stage. In others every stage reads
    them from disk, which suits a network that a run needs once."""
    UNLOAD_HOST: ClassVar[bool] = False
    """Whether the copy in host memory is freed at the end of every stage."""

    network: StackedNetwork[ModuleT]

    def __init__(self, converted: ConvertedComponent, precision: Precision, devices: DeviceMesh | None = None):
        super().__init__(converted, precision, devices)
        check_split(converted.component, self.devices.shape, split_counts(converted.config))
        self._stored = StackedParams(converted, self.network.abstract, self.dtype)
        parts = [self.network.part_abstract(part) for part in range(len(self.network.parts))]
        self._gathered_specs = [gathered_specs(part) for part in parts]
        self._sharded_specs = [sharded_specs(part, self.devices) for part in parts]
        self._local = [
            local_shapes(part, self.devices.shardings(part, specs))
            for part, specs in zip(parts, self._gathered_specs, strict=True)
        ]
        self._gather = [self.jit(partial(self._gather_part, part)) for part in range(len(parts))]
        self._outer: Params | None = None
        self._stream: BlockStream | None = None
        self._disk: ReadAhead[tuple[int, int], Params] | None = None
        self._on_host: dict[tuple[int, int], Params] | None = None

    @classmethod
    def host_only(cls, config: Any) -> Collection[str]:
        """Return the paths of the parameters that are kept out of device memory; `host_only_array` reads them."""
        return ()

    @classmethod
    def structure(
        cls, config: Any, precision: Precision, quantization: Quantization = "none"
    ) -> StackedNetwork[ModuleT]:
        return StackedNetwork(cls._builder(config, precision, quantization), cls.host_only(config))

    def place(self, placement: Placement) -> None:
        placement.check_blocks(self.converted.component, self.network.num_blocks)
        super().place(placement)

    @property
    def outer(self) -> Params:
        """The parameters outside of the blocks, on the device."""
        if self._outer is not None:
            return self._outer
        outer = self.devices.put(self._stored.outer(self.host_only(self.config)))
        self._outer = outer
        return outer

    def host_only_array(self, path: str) -> np.ndarray:
        """Read one of the parameters that are kept out of device memory, from disk."""
        return self._stored.array(path)

    @property
    def blocks(self) -> BlockStream:
        """The stream of the blocks, placed as asked; they are read if need be."""
        if self._stream is None:
            stay = spread(self.placement.blocks_on_device(self.network.num_blocks), self.network.num_blocks)
            with self._reading() if self.placement.stays else nullcontext():
                self._stream = BlockStream(
                    self._source(), self.network.order, self._copy, resident=stay, repeats=self._keeps_on_host
                )
            if self.placement.stays and self._disk is not None:
                self._disk.close()
        return self._stream

    def compile_part(
        self,
        part: int,
        function: Callable[..., Any],
        state: Specs,
        inputs: Specs,
        *,
        donate: bool = True,
        **options: Any,
    ) -> Callable[..., Any]:
        """Compile `function(block, state, inputs)` into a program for `run_blocks`.

        The program takes (parameters, state, inputs, the successor's shards or None) and returns a `PartResult`.
        `state` and `inputs` are specs; `donate` lets the new state reuse the memory of the old one; `options` are those
        of `jax.jit`. The program also gathers the successor's shards, so that their communication runs beside the
        arithmetic.
        """
        following = (part + 1) % len(self.network.parts)

        def run(params: Params, state: Any, inputs: Any, ahead: Params | None, **static: Any) -> PartResult[Any]:
            block = self.network.bind_part(part, params, self._local[part])
            together = (
                None
                if ahead is None
                else gather(ahead, self._sharded_specs[following], self._gathered_specs[following])
            )
            after = function(block, state, inputs, **static)
            return PartResult(after, completion_marker(after), together)

        def program(params: Params, x: Any, shared: Any, ahead: Params | None = None, **static: Any) -> PartResult[Any]:
            ahead_specs, together_specs = (
                (None, None) if ahead is None else (self._sharded_specs[following], self._gathered_specs[following])
            )
            arguments = (self._gathered_specs[part], state, inputs, ahead_specs)
            results = PartResult(state, P(AXES), together_specs)  # type: ignore[arg-type]
            return self.on_each_device(partial(run, **static), arguments, results)(params, x, shared, ahead)

        return self.jit(program, donate_argnames="x" if donate else (), **options)

    def run_blocks(self, apply: Apply[Any], state: Any) -> Any:
        """Run every part of every block in turn; `apply` calls the program that `compile_part` made of the part."""
        if not self._divided:
            return self.blocks.run(apply, state)
        late = GatherAhead(lambda at, shards: self._gather[at[1]](shards), apply)
        return late.finish(self.blocks.run(late, state))

    def _gather_part(self, part: int, shards: Params) -> tuple[Params, jax.Array]:
        """Gather the parameters of a part, and return them with a marker that is ready when they are."""

        def each(shards: Params) -> tuple[Params, jax.Array]:
            together = gather(shards, self._sharded_specs[part], self._gathered_specs[part])
            return together, completion_marker(together)

        return self.on_each_device(each, (self._sharded_specs[part],), (self._gathered_specs[part], P(AXES)))(shards)

    def offload(self) -> None:
        if not self.placement.stays:
            self._outer = None
            self._close_stream()
        if self.UNLOAD_HOST:
            self._on_host = None

    def unload(self) -> None:
        self._close_stream()
        self._outer = self._on_host = None

    def _source(self) -> Callable[[tuple[int, int]], Params]:
        """Return the source of the blocks' parts in this stage: the disk, or the copy in host memory."""
        self._close_stream()  # an earlier attempt may have failed and left one
        if not self._keeps_on_host:
            self._disk = ReadAhead(self._read_part, self.network.order)
            return self._disk
        if self._on_host is None:
            reads = ReadAhead(self._read_to_host, self.network.order)
            try:
                with self._reading():
                    self._on_host = {at: reads(at) for at in self.network.order}
            finally:
                reads.close()
        return self._on_host.__getitem__

    @property
    def _keeps_on_host(self) -> bool:
        return self.placement.kind in self.KEEP_ON_HOST

    @property
    def _divided(self) -> bool:
        """Whether every device has a shard of each block, which is gathered when the block's turn comes."""
        return self.placement.is_sharded and self.devices.num_shards > 1

    def _waiting_specs(self, part: int) -> Params:
        # Offloaded parts wait as shards too: the host has room for one copy, not for one a device.
        return (self._gathered_specs if self.placement.kind == "resident" else self._sharded_specs)[part]

    def _copy(self, at: tuple[int, int], params: Params) -> Params:
        there = self.devices.put(params, self._waiting_specs(at[1]))
        together = self.placement.kind == "offloaded" and self.devices.num_shards > 1
        return self._gather[at[1]](there)[0] if together else there

    def _read_to_host(self, at: tuple[int, int]) -> Params:
        return self.devices.keep_on_host(self._read_part(at), self._waiting_specs(at[1]))

    def _read_part(self, at: tuple[int, int]) -> Params:
        block, part = at
        return self._stored.part(block, self.network.parts[part])

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._disk is not None:
            self._disk.close()
        self._stream = self._disk = None
