"""The key names of LoRA files for the transformer's layers: PEFT's on diffusers' network, and upstream's."""

import re
from dataclasses import dataclass
from typing import Literal

DIFFUSERS_LAYERS = {
    "self_attention/query": "attn1.to_q",
    "self_attention/key": "attn1.to_k",
    "self_attention/value": "attn1.to_v",
    "self_attention/out": "attn1.to_out.0",
    "cross_attention/query": "attn2.to_q",
    "cross_attention/key": "attn2.to_k",
    "cross_attention/value": "attn2.to_v",
    "cross_attention/out": "attn2.to_out.0",
    "mlp/up": "ff.net.0.proj",
    "mlp/down": "ff.net.2",
}
"""The layers of a block that can have an adapter, with their names in diffusers' `CosmosTransformer3DModel`."""

PREFIX = "base_model.model."
"""The prefix of all names in a model that PEFT wraps."""

_PEFT = re.compile(
    r"(?:base_model\.model\.|transformer\.)?transformer_blocks\.(?P<block>\d{1,4})\.(?P<layer>.+)"
    r"\.lora_(?P<side>[AB])(?:\.default)?\.weight"
)
_UPSTREAM = re.compile(
    r"(?:model\.)?net\.blocks\.block(?P<block>\d{1,4})\.blocks\.(?P<attention>[01])\.block\.attn"
    r"\.to_(?P<letter>q|k|v|out)_lora\.net\.(?P<side>[01])\.weight"
)
_FROM_DIFFUSERS = {name: layer for layer, name in DIFFUSERS_LAYERS.items()}
_FROM_LETTER = {"q": "query", "k": "key", "v": "value", "out": "out"}


@dataclass(frozen=True)
class AdapterKey:
    """The layer, block and side (`down` or `up`) of a matrix in an adapter's file."""

    layer: str
    """One of `DIFFUSERS_LAYERS`."""
    block: int
    side: Literal["down", "up"]


def peft_key(layer: str, block: int, side: Literal["down", "up"]) -> str:
    """Return PEFT's key of a matrix."""
    letter = "A" if side == "down" else "B"
    return f"{PREFIX}transformer_blocks.{block}.{DIFFUSERS_LAYERS[layer]}.lora_{letter}.weight"


def parse_peft(key: str) -> AdapterKey | None:
    """Parse PEFT's `key`, with or without the prefixes of PEFT and diffusers; None if it is not one."""
    found = _PEFT.fullmatch(key)
    layer = _FROM_DIFFUSERS.get(found["layer"]) if found else None
    if found is None or layer is None:
        return None
    return AdapterKey(layer, int(found["block"]), "down" if found["side"] == "A" else "up")


def is_upstream(key: str) -> bool:
    """Tell whether `key` belongs to an adapter in upstream's own files."""
    return "_lora.net." in key


def parse_upstream(key: str) -> AdapterKey | None:
    """Parse upstream's `key`; None if it is not one of an adapter."""
    found = _UPSTREAM.fullmatch(key)
    if found is None:
        return None
    attention = "cross_attention" if found["attention"] == "1" else "self_attention"
    side = "down" if found["side"] == "0" else "up"
    return AdapterKey(f"{attention}/{_FROM_LETTER[found['letter']]}", int(found["block"]), side)
