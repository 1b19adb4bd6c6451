"""The conversion between parameter trees, which are nested dicts, and NNX modules, which exist in jitted functions."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, Generic, TypeVar

import jax
from flax import nnx

from jax_interp.types import Params

ModuleT = TypeVar("ModuleT", bound=nnx.Module)


class Network(Generic[ModuleT]):
    """The structure of a network without its arrays: it gives abstract parameters, and binds parameters to a module.

    ```python
    network = Network(lambda rngs: DiT(config, dtype=jnp.bfloat16, rngs=rngs))
    network.abstract            # nested dict of jax.ShapeDtypeStruct
    jax.jit(lambda params, x: network.bind(params)(x))
    ```
    """

    def __init__(self, build: Callable[[nnx.Rngs], ModuleT]):
        self._build = build
        self._graphdef, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
        self.abstract: Params = nnx.to_pure_dict(state)

    def random_params(self, seed: int = 0) -> Params:
        """Return freshly initialised parameters."""
        _, state = nnx.split(self._build(nnx.Rngs(seed)))
        return nnx.to_pure_dict(state)

    def bind(self, params: Params) -> ModuleT:
        """Return the module with `params` in it; they must have exactly the paths and shapes of `abstract`."""
        check_complete(params, self.abstract)
        return nnx.merge(self._graphdef, params)


class StackedNetwork(Network[ModuleT]):
    """The structure of a network with a stack of equal blocks under `blocks`, which can be placed apart from the rest.

    A forward pass is then the caller's loop: the module's start and end from `bind_outer`, every part of every block
    from `bind_part` in between. The block's class names the parameters of its parts in `PARTS`. The parameters named in
    `host_only` belong to neither: whoever runs the network uses them by itself.
    """

    def __init__(self, build: Callable[[nnx.Rngs], ModuleT], host_only: Collection[str] = ()):
        super().__init__(build)
        stacked = self.abstract["blocks"]
        self._host_only = {name: self.abstract[name] for name in host_only}
        inner = {"blocks", *host_only}
        self.outer_abstract: Params = {name: leaf for name, leaf in self.abstract.items() if name not in inner}
        self.block_abstract: Params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), stacked)
        self.num_blocks: int = jax.tree.leaves(stacked)[0].shape[0]
        blocks: Any = self.bind(self.abstract).blocks  # type: ignore[attr-defined]
        self.parts: tuple[tuple[str, ...], ...] = blocks.PARTS
        self.order = [(block, part) for block in range(self.num_blocks) for part in range(len(self.parts))]
        """Every part of every block as (block, part), in the order in which they run."""
        self._block_graphdef, _ = nnx.split(blocks)

    def bind_outer(self, params: Params) -> ModuleT:
        """Return the module with the outer `params` in it; its blocks and `host_only` parameters are not usable."""
        check_complete(params, self.outer_abstract)
        return nnx.merge(self._graphdef, {**params, **self._host_only, "blocks": self.abstract["blocks"]})

    def part_abstract(self, part: int) -> Params:
        """Return the abstract parameters of one part of a block."""
        return {name: self.block_abstract[name] for name in self.parts[part]}

    def bind_part(self, part: int, params: Params, abstract: Params | None = None) -> Any:
        """Return a block with `params`, those of one of its parts, in it; its other parameters are not usable.

        `abstract` says what `params` are if it is not `part_abstract`: a device may hold a slice of them.
        """
        check_complete(params, self.part_abstract(part) if abstract is None else abstract)
        return nnx.merge(self._block_graphdef, {**self.block_abstract, **params})


def flatten(tree: Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk a nested dict in order as ("path/of/leaf", leaf)."""
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from flatten(value, f"{path}/")
        else:
            yield path, value


def unflatten(leaves: dict[str, Any]) -> dict[str, Any]:
    """Build the nested dict from its leaves by path: the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def check_complete(params: Params, abstract: Params) -> None:
    """Raise `ValueError` naming every path or shape of `params` that differs from `abstract`.

    NNX fills a module from an incomplete tree without a word, so this runs before every merge.
    """
    have = {path: jax.numpy.shape(leaf) for path, leaf in flatten(params)}
    want = {path: tuple(leaf.shape) for path, leaf in flatten(abstract)}
    faults = [f"missing {path}" for path in want.keys() - have.keys()]
    faults += [f"unknown {path}" for path in have.keys() - want.keys()]
    faults += [f"{p}: shape {have[p]}, expected {want[p]}" for p in have.keys() & want.keys() if have[p] != want[p]]
    if faults:
        raise ValueError("parameters do not fit the network: " + "; ".join(sorted(faults)))
