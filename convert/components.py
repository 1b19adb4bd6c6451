"""The networks that can be converted: files, weight table and architecture of each. A new one is one more entry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from convert.infer import Shapes, infer_dit, infer_t5, infer_tokenizer
from convert.matching import Leaf, plan
from convert.rules import Ignored, Rule
from convert.tables import dit, t5, tokenizer
from jax_interp.errors import UsageError
from jax_interp.models.dit import DiT
from jax_interp.models.t5 import T5Encoder
from jax_interp.models.tokenizer import Tokenizer
from jax_interp.nn.params import Network
from jax_interp.runtime.checkpoint import DEFAULT_FOLDERS
from jax_interp.types import Params


@dataclass(frozen=True)
class Source:
    """One file that a network is read from."""

    names: tuple[str, ...]
    """Spellings under which it may lie in the folder; the first that is there is read."""
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
    sources: tuple[Source, ...]
    rules: tuple[Rule, ...]
    ignored: tuple[Ignored, ...]
    required_files: tuple[str, ...] = ()
    """Files that are not weights and are copied as they are, to `EXTRA_FOLDER`."""
    optional_files: tuple[str, ...] = ()
    """The same, if they are there."""

    @property
    def folder(self) -> str:
        """Upstream's folder of it, relative to the checkpoint folder."""
        return DEFAULT_FOLDERS[self.name]

    @property
    def flag(self) -> str:
        """The option that names another folder."""
        return f"--{self.name.replace('_', '-')}-dir"

    def abstract(self, config: Any) -> Params:
        """The parameter tree of the network without its arrays; dtypes say nothing."""
        return Network(lambda rngs: self.network(config, dtype=jnp.float32, rngs=rngs)).abstract

    def plan(self, config: Any) -> tuple[Leaf, ...]:
        """What each array of the network is made of, or goes to."""
        return plan(self.rules, self.abstract(config))


EXTRA_FOLDER = "tokenizer"
"""Where a converted folder keeps the files of a text tokenizer."""

DIFFUSION_TRANSFORMER = Component(
    name="diffusion_transformer",
    network=DiT,
    infer=infer_dit,
    sources=(Source(names=("model.pt", "model.safetensors"), exported="model.safetensors", post_trained=True),),
    rules=dit.RULES,
    ignored=dit.IGNORED,
)

TOKENIZER = Component(
    name="tokenizer",
    network=Tokenizer,
    infer=infer_tokenizer,
    sources=(
        Source(("encoder.jit", "encoder.safetensors"), "encoder.safetensors", keys=("encoder.", "quant_conv.")),
        Source(("decoder.jit", "decoder.safetensors"), "decoder.safetensors", keys=("decoder.", "post_quant_conv.")),
        Source(("mean_std.pt", "mean_std.safetensors"), "mean_std.safetensors", "mean_std.", ("mean_std.",)),
        Source(
            ("image_mean_std.pt", "image_mean_std.safetensors"),
            "image_mean_std.safetensors",
            "image_mean_std.",
            ("image_mean_std.",),
        ),
    ),
    rules=tokenizer.RULES,
    ignored=tokenizer.IGNORED,
)

TEXT_ENCODER = Component(
    name="text_encoder",
    network=T5Encoder,
    infer=infer_t5,
    sources=(
        Source(
            names=(
                "model.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
            ),
            exported="model.safetensors",
        ),
    ),
    rules=t5.RULES,
    ignored=t5.IGNORED,
    required_files=("tokenizer.json",),
    optional_files=("spiece.model", "tokenizer_config.json", "special_tokens_map.json"),
)

COMPONENTS = {component.name: component for component in (DIFFUSION_TRANSFORMER, TOKENIZER, TEXT_ENCODER)}


def named(names: tuple[str, ...]) -> tuple[Component, ...]:
    """The components called `names`, in the pipeline's order; all of them for no name.

    Raises:
        UsageError: there is none of that name; lists those there are.
    """
    names = tuple(name.replace("-", "_") for name in names)
    unknown = [name for name in names if name not in COMPONENTS]
    if unknown:
        raise UsageError(f"--components: unknown {', '.join(unknown)}; there are {', '.join(COMPONENTS)}")
    return tuple(component for component in COMPONENTS.values() if not names or component.name in names)
