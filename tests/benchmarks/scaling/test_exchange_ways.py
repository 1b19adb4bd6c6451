"""Every way to exchange heads and tokens gives what attention over all tokens does, and nothing sent does not."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from benchmarks.scaling.exchange_ways import PERMUTED
from jax_interp.nn.attention import attention
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from tests.golden import relative_l2
from tests.tolerances import ELEMENTWISE_F32

TOKENS = P(None, "sequence")


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("way", PERMUTED)
def test_it_is_attention_over_all_tokens(rng, way, ranks):
    devices = DeviceMesh(MeshShape(sequence=ranks))
    q, k, v = (rng.standard_normal((2, 16, 8, 4)).astype(np.float32) for _ in range(3))
    program = jax.shard_map(
        PERMUTED[way](ranks), mesh=devices.mesh, in_specs=(TOKENS,) * 3, out_specs=TOKENS, check_vma=False
    )
    out = jax.jit(program)(*(devices.put(x, TOKENS) for x in (q, k, v)))
    error = relative_l2(out, attention(*map(jax.numpy.asarray, (q, k, v))))
    assert error > 0.1 if way == "unsent" else error < ELEMENTWISE_F32
