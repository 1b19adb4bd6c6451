"""What the program knows about a network in order to convert it. `components` beside this file lists all of them."""

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
from jax_interp.nn.params import Network
from jax_interp.types import Params

EXTRA_FOLDER = "tokenizer"
"""Where a converted folder keeps the files of a text tokenizer."""


@dataclass(frozen=True)
class WeightsFile:
    """One file that a network is read from."""

    names: tuple[str, ...]
    """Spellings under which it may lie in the folder, as `locating.find_file` takes them; the first that is there is
    read. Each may also lie there in several files with an index."""
    exported: str
    """The name, one of `names`, under which `export` writes it."""
    prefix: str = ""
    """What is put before the file's keys, so that keys of several files cannot be confused."""
    keys: tuple[str, ...] = ("",)
    """Beginnings of the (prefixed) keys that `export` writes to this file."""
    post_trained: bool = False
    """Whether post-training writes it with two sets of weights, of which one is chosen."""


@dataclass(frozen=True)
class Component:
    """A network of the pipeline as it lies in upstream's checkpoint folder."""

    name: str
    network: Callable[..., Any]
    """The class, taking (config, dtype=, rngs=)."""
    infer: Callable[[Shapes, Path], Any]
    """Its configuration from the shapes in its files, and the folder for messages and settings beside them."""
    sources: tuple[WeightsFile, ...]
    rules: tuple[Rule, ...]
    ignored: tuple[Ignored, ...]
    other_tables: tuple[Table, ...] = ()
    """Other spellings of the keys that are read; `rules` and `ignored` are those of what `export` writes."""
    settings: Callable[[Any], dict[str, Any]] | None = None
    """What `export` writes to `config.json` for a configuration, if shapes do not tell all of it."""
    required_files: tuple[str, ...] = ()
    """Files that are not weights and are copied as they are, to `EXTRA_FOLDER`."""
    optional_files: tuple[str, ...] = ()
    """The same, if they are there."""
    origin_of_required: str = ""
    """Where to get `required_files` if the weights come without them."""
    companion: Companion | None = None
    """A folder of files that are copied along."""
    adapter: AdapterFolder | None = None
    """What is merged into the weights if they are those that it was trained on."""

    @property
    def folder(self) -> str:
        """Upstream's folder of it, relative to the checkpoint folder."""
        return TABLE[self.name].folder

    @property
    def flag(self) -> str:
        """The option that names another folder."""
        return TABLE[self.name].flag

    def abstract(self, config: Any) -> Params:
        """The parameter tree of the network without its arrays; dtypes say nothing."""
        return Network(lambda rngs: self.network(config, dtype=jnp.float32, rngs=rngs)).abstract

    def table(self, keys: Collection[str] = ()) -> Table:
        """How a checkpoint with these keys spells them; without any, one that `export` writes."""
        own = Table(mark="", rules=lambda config: self.rules, ignored=self.ignored)
        return find_table(self.other_tables, keys) or own

    def plan(self, config: Any, keys: Collection[str] = ()) -> tuple[Leaf, ...]:
        """What each array of the network is made of in a checkpoint with `keys`, or where `export` writes it."""
        return plan_leaves(self.table(keys).rules(config), self.abstract(config))
