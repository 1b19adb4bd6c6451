"""Tiny random Mistral and Llama models of transformers, and their weights as our tree."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers

from convert.tables import decoder_lm
from jax_interp.config import DecoderConfig
from jax_interp.models.decoder_lm import DecoderLM
from jax_interp.nn.params import Network
from tests.convert import trees
from tests.convert.trees import arrays_of

MISTRAL = DecoderConfig(
    vocab_size=97,
    width=24,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_width=8,
    mlp_width=40,
    norm_epsilon=1e-5,
    context_length=256,
    rotary_base=1e9,
)
LLAMA = replace(
    MISTRAL,
    num_layers=2,
    num_kv_heads=1,
    norm_epsilon=1e-3,
    tied_head=True,
    rotary_base=100.0,
    rotary_stretch=8.0,
    rotary_trained_length=32,
)
LLAMA_MANY_HEADS = replace(MISTRAL, num_kv_heads=4, rotary_base=1e4)
CONFIGS = {"mistral": MISTRAL, "llama 3.1": LLAMA, "llama 2": LLAMA_MANY_HEADS}


def peer_config(name):
    config = CONFIGS[name]
    rotary = {"rope_type": "default", "rope_theta": config.rotary_base}
    if config.rotary_stretch != 1:
        slow, fast = config.rotary_stretched_turns
        rotary |= {"rope_type": "llama3", "factor": config.rotary_stretch, "low_freq_factor": slow}
        rotary |= {"high_freq_factor": fast, "original_max_position_embeddings": config.rotary_trained_length}
    kind: Any = transformers.MistralConfig if name == "mistral" else transformers.LlamaConfig
    return kind(
        vocab_size=config.vocab_size,
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_width,
        rms_norm_eps=config.norm_epsilon,
        tie_word_embeddings=config.tied_head,
        max_position_embeddings=config.context_length,
        rope_parameters=rotary,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        **({"sliding_window": None} if name == "mistral" else {}),
    )


@cache
def peer(name):
    """(float32 model, its parameters as our tree); weights are such that attention is far from uniform."""
    kind: Any = transformers.MistralForCausalLM if name == "mistral" else transformers.LlamaForCausalLM
    model = kind(peer_config(name)).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            spread = 0.3 if weight.ndim == 2 else 0.2
            weight.copy_(torch.randn(weight.shape, generator=draw) * spread + ("norm" in key))
            weight.copy_(weight.to(torch.bfloat16).to(torch.float32))  # weights that both precisions represent
    return model, tree_of(model, CONFIGS[name])


def tree_of(model, config):
    """What conversion makes of a model's weights."""
    tensors = arrays_of(model)
    if config.tied_head:
        del tensors["lm_head.weight"]
    network = Network(lambda rngs: DecoderLM(config, dtype=jnp.float32, rngs=rngs))
    return trees.tree_of(tensors, decoder_lm.hugging_face(), network.abstract)


@contextmanager
def inference():
    """No gradients, and one thread: for sizes like these more spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def logits_of(model, ids):
    with inference():
        return model(torch.from_numpy(np.asarray(ids)).long()).logits.float().numpy()


def greedy_of(model, prompt, count):
    """The tokens that transformers' `generate` appends to one prompt."""
    ids = torch.from_numpy(np.asarray(prompt)[None]).long()
    with inference():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False
        )
    return out[0, len(prompt) :].tolist()


def cast(tree, dtype):
    return {k: cast(v, dtype) if isinstance(v, dict) else jnp.asarray(v, dtype) for k, v in tree.items()}
