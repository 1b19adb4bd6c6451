"""The options for the memory of a run; they are parsed before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import typer

from jax_interp.byte_sizes import parse_bytes
from jax_interp.components import PLACEMENT_NAMES
from jax_interp.errors import UsageError
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.runtime.placement import Kind, Placement

AUTO = "auto"
MIN_BUDGET = 2**20
"""The smallest budget in bytes; a smaller one is a number whose unit was forgotten."""


@dataclass(frozen=True)
class MemoryOptions:
    """The options for a budget, or for the placement of every network."""

    memory_budget: Annotated[
        str,
        typer.Option(
            help="GPU memory to use, as 8GB or 6GiB; auto: what is free. Chooses where every network lives, unless an"
            " option below says so. `jax-interp memory` shows the plans."
        ),
    ] = AUTO
    placement: Annotated[
        list[str] | None,
        typer.Option(
            help="NETWORK=resident, =offloaded (in host memory outside of its stage) or =streamed (block by block"
            " through the GPU) or =sharded (divided among several GPUs), for diffusion_transformer, tokenizer,"
            " text_encoder, prompt_upsampler or guardrail_models."
        ),
    ] = None
    resident_blocks: Annotated[
        str,
        typer.Option(
            help="Stream the transformer and keep this many of its blocks on the GPU; auto: as --memory-budget says."
        ),
    ] = AUTO
    pairs_per_batch: Annotated[
        str, typer.Option(help="Pairs that share a pass over the weights; auto: from memory.")
    ] = AUTO
    offload_diffusion_transformer: Annotated[
        bool, typer.Option("--offload-diffusion-transformer", help="Offload it.")
    ] = False
    offload_tokenizer: Annotated[bool, typer.Option("--offload-tokenizer", help="Offload it.")] = False
    offload_text_encoder_model: Annotated[
        bool, typer.Option("--offload-text-encoder-model", help="Free it after the prompts.")
    ] = False
    offload_prompt_upsampler: Annotated[
        bool, typer.Option("--offload-prompt-upsampler", help="Free it after the prompt.")
    ] = False
    offload_guardrail_models: Annotated[bool, typer.Option("--offload-guardrail-models", help="Offload them.")] = False

    def settings(self) -> MemorySettings:
        """Return the memory settings; see `parse_memory` for what it raises."""
        return parse_memory(
            self.memory_budget,
            self.placement or [],
            self.resident_blocks,
            self.pairs_per_batch,
            offloaded={
                "prompt_upsampler": self.offload_prompt_upsampler,
                "guardrail_models": self.offload_guardrail_models,
                "text_encoder": self.offload_text_encoder_model,
                "tokenizer": self.offload_tokenizer,
                "diffusion_transformer": self.offload_diffusion_transformer,
            },
        )


@dataclass(frozen=True)
class StageMemoryOptions:
    """The memory options of a command whose networks share one placement."""

    memory_budget: Annotated[str, typer.Option(help="GPU memory to use, as 8GB or 6GiB; auto: what is free.")] = AUTO
    placement: Annotated[
        Literal["resident", "offloaded", "streamed"] | None,
        typer.Option(help="Where it lives until it is needed; without, as --memory-budget says."),
    ] = None

    def settings(self, name: str) -> MemorySettings:
        """Return the memory settings of the networks that are placed by `name`; raise as `parse_memory` does."""
        placements = [] if self.placement is None else [f"{name}={self.placement}"]
        return parse_memory(self.memory_budget, placements, AUTO, "1", offloaded={})


def parse_memory(
    budget: str, placements: list[str], resident_blocks: str, pairs: str, offloaded: Mapping[str, bool]
) -> MemorySettings:
    """Convert the values of the options into settings.

    Raises:
        UsageError: a value cannot be understood, or two contradict each other.
    """
    fixed = {name: Placement("offloaded") for name, wanted in offloaded.items() if wanted}
    for entry in placements:
        name, _, kind = entry.partition("=")
        name = name.strip().replace("-", "_")
        if name not in PLACEMENT_NAMES:
            raise UsageError(f"--placement {entry}: no such network; expected NETWORK=KIND with {_choices()}")
        wanted = Placement(_kind(entry, kind.strip()))
        if fixed.get(name, wanted) != wanted:
            raise UsageError(f"--placement {entry}: contradicts another option for {name}; give one of them")
        fixed[name] = wanted
    if resident_blocks != AUTO:
        name = "diffusion_transformer"
        if fixed.get(name, Placement("streamed")).kind != "streamed":
            raise UsageError(f"--resident-blocks is for a streamed {name}, which another option places elsewhere")
        fixed[name] = Placement("streamed", _count("--resident-blocks", resident_blocks, least=0))
    count = None if pairs == AUTO else _count("--pairs-per-batch", pairs, least=1)
    size = None if budget == AUTO else parse_budget(budget)
    return MemorySettings(budget=size, placements=fixed, pairs_per_batch=count)


def parse_budget(text: str) -> int:
    """Parse a --memory-budget into bytes: `8GB`, `6GiB`, `512MiB` or a number of bytes, of 1 MiB or more.

    Raises:
        UsageError: the text is none of these.
    """
    try:
        size = parse_bytes(text)
    except ValueError:
        size = 0
    if size < MIN_BUDGET:
        raise UsageError(f"--memory-budget {text}: expected an amount of memory like 8GB or 6GiB, or auto")
    return size


def _kind(entry: str, kind: str) -> Kind:
    match kind:
        case "resident" | "sharded" | "offloaded" | "streamed":
            return kind
    raise UsageError(f"--placement {entry}: expected NETWORK=KIND with {_choices()}")


def _count(flag: str, text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{flag} {text}: expected auto or a whole number from {least} on")
    return int(text)


def _choices() -> str:
    return f"NETWORK one of {', '.join(PLACEMENT_NAMES)} and KIND one of {', '.join(get_args(Kind))}"
