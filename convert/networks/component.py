"""The facts about a network that converting it needs; `convert.networks.components` has one of these for each."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from convert.architecture.sizes import Shapes
from convert.mapping.matching import Leaf, plan_leaves
from convert.mapping.rules import Ignored, Rule, Table, find_table
from convert.networks.companions import AdapterFolder, Companion
from jax_interp.components import TABLE
from jax_interp.config import Quantization
from jax_interp.nn.params import Network
from jax_interp.types import Params

EXTRA_FOLDER = "tokenizer"
"""The folder in which a converted folder keeps the files of a text tokenizer."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that a network is read from."""

    names: tuple[str, ...]
    """File names in order of preference, as `locating.find_file` takes them; the first that exists is read. Each may be
    split into several files with an index."""
    exported: str
    """The name, one of `names`, under which `export` writes it."""
    prefix: str = ""
    """A prefix that is added to the file's keys, so that keys of several files cannot be confused."""
    keys: tuple[str, ...] = ("",)
    """The prefixes of the keys that `export` writes to this file."""
    post_trained: bool = False
    """Whether post-training writes this file with two sets of weights, of which one is chosen."""


@dataclass(frozen=True)
class Component:
    """A network of the pipeline as it is stored in upstream's checkpoint folder."""

    name: str
    network: Callable[..., Any]
    """The network's class, called with (config, dtype=, rngs=), and quantization= if it quantizes."""
    infer: Callable[[Shapes, Path], Any]
    """A function from the shapes in the files, and the folder that has settings beside them, to the configuration."""
    sources: tuple[WeightsFile, ...]
    rules: tuple[Rule, ...]
    ignored: tuple[Ignored, ...]
    other_tables: tuple[Table, ...] = ()
    """Weight tables of other spellings that are read; `rules` and `ignored` are for the one that `export` writes."""
    settings: Callable[[Any], dict[str, Any]] | None = None
    """A function from the configuration to the `config.json` that `export` writes; None if shapes tell everything."""
    required_files: tuple[str, ...] = ()
    """Files that are not weights and are copied as they are, to `EXTRA_FOLDER`."""
    optional_files: tuple[str, ...] = ()
    """Files that are copied like `required_files` where they exist."""
    origin_of_required: str = ""
    """The place to get `required_files` from if the weights come without them."""
    companion: Companion | None = None
    """A folder of files that are copied along."""
    adapter: AdapterFolder | None = None
    """A LoRA adapter that is merged into the weights that it was trained on."""

    @property
    def folder(self) -> str:
        """Upstream's folder of the network, relative to the checkpoint folder."""
        return TABLE[self.name].folder

    @property
    def flag(self) -> str:
        """The option that names another folder."""
        return TABLE[self.name].flag

    def abstract(self, config: Any, quantization: Quantization = "none") -> Params:
        """Return the parameter tree of the network without its arrays; its dtypes have no meaning."""
        options = {} if quantization == "none" else {"quantization": quantization}
        return Network(lambda rngs: self.network(config, dtype=jnp.float32, rngs=rngs, **options)).abstract

    def table(self, keys: Collection[str] = ()) -> Table:
        """Return the weight table of a checkpoint with these keys; without keys, of what `export` writes."""
        own = Table(mark="", rules=lambda config: self.rules, ignored=self.ignored)
        return find_table(self.other_tables, keys) or own

    def plan(self, config: Any, keys: Collection[str] = ()) -> tuple[Leaf, ...]:
        """Return what each array of the network is made of in a checkpoint with `keys` (`plan_leaves`)."""
        return plan_leaves(self.table(keys).rules(config), self.abstract(config))
