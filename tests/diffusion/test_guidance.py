"""Which branches are evaluated, and how they combine."""

import jax.numpy as jnp
import pytest

from jax_interp.diffusion.branches import Branch, branches
from jax_interp.diffusion.guidance import combine

COND, UNCOND = jnp.asarray([2.0]), jnp.asarray([1.0])


@pytest.mark.parametrize("guidance", [-1.0, 0.0, 0.5, 3.0])
def test_skipping_a_branch_changes_nothing(guidance):
    prediction = {Branch.CONDITIONAL: COND, Branch.UNCONDITIONAL: UNCOND}
    out = combine([prediction[branch] for branch in branches(guidance)], jnp.asarray(guidance))
    assert out.tolist() == [2 + guidance * (2 - 1)]


def test_one_branch_suffices_at_minus_one_and_zero():
    assert branches(-1) == (Branch.UNCONDITIONAL,)
    assert branches(0) == (Branch.CONDITIONAL,)
    assert branches(1) == (Branch.CONDITIONAL, Branch.UNCONDITIONAL)
