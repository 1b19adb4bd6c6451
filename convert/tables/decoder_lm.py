"""Weight tables of a decoder-only language model: Hugging Face's key names of Llama and Mistral, and Mistral's own."""

from convert.mapping.ops import halved_pairs, transpose
from convert.mapping.rules import Ignored, Rule


def hugging_face(prefix: str = "model.", head: str = "lm_head.weight", into: str = "") -> tuple[Rule, ...]:
    """Return rules for `LlamaForCausalLM` and `MistralForCausalLM`; both halves of a head are rotary pairs, as here.

    `prefix` comes before every key but `head`, which a model with a tied head lacks; `into` before every path.
    """
    layer, block = f"{prefix}layers.{{layer}}", f"{into}blocks"
    return (
        Rule(f"{prefix}embed_tokens.weight", f"{into}embedding"),
        Rule(f"{layer}.input_layernorm.weight", f"{block}/attention_norm/scale"),
        Rule(f"{layer}.self_attn.q_proj.weight", f"{block}/attention/query/kernel", transpose),
        Rule(f"{layer}.self_attn.k_proj.weight", f"{block}/attention/key/kernel", transpose),
        Rule(f"{layer}.self_attn.v_proj.weight", f"{block}/attention/value/kernel", transpose),
        Rule(f"{layer}.self_attn.o_proj.weight", f"{block}/attention/out/kernel", transpose),
        Rule(f"{layer}.post_attention_layernorm.weight", f"{block}/mlp_norm/scale"),
        Rule(f"{layer}.mlp.gate_proj.weight", f"{block}/mlp/gate/kernel", transpose),
        Rule(f"{layer}.mlp.up_proj.weight", f"{block}/mlp/up/kernel", transpose),
        Rule(f"{layer}.mlp.down_proj.weight", f"{block}/mlp/down/kernel", transpose),
        Rule(f"{prefix}norm.weight", f"{into}final_norm/scale"),
        Rule(head, f"{into}head/kernel", transpose),
    )


def hugging_face_ignored(prefix: str = "model.") -> tuple[Ignored, ...]:
    """Return the keys that files for `hugging_face` have besides, which no network reads."""
    return (Ignored(f"{prefix}layers.*.self_attn.rotary_emb.inv_freq", "rotary frequencies are computed"),)


def mistral(head_width: int, prefix: str = "", into: str = "") -> tuple[Rule, ...]:
    """Return rules for the files that Mistral publishes, whose rotary pairs are neighbours.

    `prefix` comes before every key, `into` before every path.
    """
    layer, block, halved = f"{prefix}layers.{{layer}}", f"{into}blocks", halved_pairs(head_width)
    return (
        Rule(f"{prefix}tok_embeddings.weight", f"{into}embedding"),
        Rule(f"{layer}.attention_norm.weight", f"{block}/attention_norm/scale"),
        Rule(f"{layer}.attention.wq.weight", f"{block}/attention/query/kernel", halved),
        Rule(f"{layer}.attention.wk.weight", f"{block}/attention/key/kernel", halved),
        Rule(f"{layer}.attention.wv.weight", f"{block}/attention/value/kernel", transpose),
        Rule(f"{layer}.attention.wo.weight", f"{block}/attention/out/kernel", transpose),
        Rule(f"{layer}.ffn_norm.weight", f"{block}/mlp_norm/scale"),
        Rule(f"{layer}.feed_forward.w1.weight", f"{block}/mlp/gate/kernel", transpose),
        Rule(f"{layer}.feed_forward.w3.weight", f"{block}/mlp/up/kernel", transpose),
        Rule(f"{layer}.feed_forward.w2.weight", f"{block}/mlp/down/kernel", transpose),
        Rule(f"{prefix}norm.weight", f"{into}final_norm/scale"),
        Rule(f"{prefix}output.weight", f"{into}head/kernel", transpose),
    )
