"""Parameter trees from tensors in memory, through the weight tables."""

from collections.abc import Mapping, Sequence

import numpy as np

from convert.mapping.matching import check_tensors, plan_leaves
from convert.mapping.rules import Ignored, Rule
from jax_interp.nn.params import unflatten
from jax_interp.types import Params


def tree_of(
    tensors: Mapping[str, np.ndarray], rules: Sequence[Rule], abstract: Params, ignored: Sequence[Ignored] = ()
) -> Params:
    """What conversion makes of `tensors` for the network with the parameters `abstract`."""
    leaves = plan_leaves(rules, abstract)
    check_tensors(leaves, ignored, tensors).check("tensors in memory")
    arrays = {}
    for leaf in leaves:
        parts = [leaf.op.forward(tensors[key]) for key in leaf.keys]
        arrays[leaf.path] = np.stack(parts) if leaf.stacked else np.array(parts[0])
    return unflatten(arrays)


def arrays_of(module) -> dict[str, np.ndarray]:
    """The state dict of a PyTorch module as arrays."""
    return {key: tensor.detach().numpy() for key, tensor in module.state_dict().items()}
