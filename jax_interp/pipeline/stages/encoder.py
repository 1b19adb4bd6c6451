"""A stage for encoders, which are networks that read their whole input once."""

from typing import Any, ClassVar

import jax
import numpy as np

from jax_interp.config import Precision
from jax_interp.pipeline.stages.stage import ModuleT, StackedStage
from jax_interp.runtime.all_to_all import collectives_between
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import REPLICATED, DeviceMesh, Specs
from jax_interp.types import Params, Tokens


class EncoderStage(StackedStage[ModuleT]):
    """A stage that runs `embed`, every block of the stack in turn, and `finish`: one pass over the input.

    The network's `embed` returns the residual stream, or a tuple of the residual stream and the other inputs that all
    blocks share. A block's `attend` takes (residual stream, shared inputs, collectives), its `transform` takes
    (residual stream, collectives). An input is short enough that every device of a mesh has all of its tokens, and with
    `tensor` some of the heads.
    """

    SHARED_SPECS: ClassVar[Specs] = REPLICATED
    """The specs, on a mesh, of the inputs that all blocks share beside the residual stream."""

    def __init__(self, converted: ConvertedComponent, precision: Precision, devices: DeviceMesh | None = None):
        super().__init__(converted, precision, devices)
        collectives = collectives_between(self.devices)
        self._embed = self.jit(self._embed_input)
        self._parts = (
            self.compile_part(
                0, lambda block, x, shared: block.attend(x, *shared, collectives), REPLICATED, self.SHARED_SPECS
            ),
            self.compile_part(1, lambda block, x, _: block.transform(x, collectives), REPLICATED, self.SHARED_SPECS),
        )
        self._finish = self.jit(self._finish_output)

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the output of `finish` for the arguments of `embed`; every other shape compiles anew."""
        with self.numerics():
            x, shared = self._embed(self.outer, *self.devices.put(inputs))
            x = self.run_blocks(lambda call, x: self._parts[call.part](call.params, x, shared, call.ahead), x)
            return np.asarray(self._finish(self.outer, x))

    # Traced by `jit`.

    def _embed_input(self, outer: Params, *inputs: jax.Array) -> tuple[Tokens, tuple[Any, ...]]:
        network: Any = self.network.bind_outer(outer)
        embedded = network.embed(*inputs)
        x, *shared = embedded if isinstance(embedded, tuple) else (embedded,)
        return self.constrain(x, REPLICATED), self.constrain(tuple(shared), self.SHARED_SPECS)

    def _finish_output(self, outer: Params, x: Tokens) -> jax.Array:
        network: Any = self.network.bind_outer(outer)
        return self.constrain(network.finish(x), REPLICATED)
