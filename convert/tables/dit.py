"""Weight table of the diffusion transformer: `model.pt` of the Cosmos-Predict1 checkpoints."""

from convert.mapping.ops import transpose
from convert.mapping.rules import Ignored, Rule

_BLOCK = "net.blocks.block{layer}.blocks"

RULES = (
    Rule("net.x_embedder.proj.1.weight", "patch_embedding/kernel", transpose),
    Rule("net.extra_pos_embedder.pos_emb_t", "positions/t"),
    Rule("net.extra_pos_embedder.pos_emb_h", "positions/h"),
    Rule("net.extra_pos_embedder.pos_emb_w", "positions/w"),
    Rule("net.t_embedder.1.linear_1.weight", "time_in/kernel", transpose),
    Rule("net.t_embedder.1.linear_2.weight", "time_out/kernel", transpose),
    Rule("net.affline_norm.weight", "time_norm/scale"),
    Rule(_BLOCK + ".0.block.attn.to_q.0.weight", "blocks/self_attention/query/kernel", transpose),
    Rule(_BLOCK + ".0.block.attn.to_q.1.weight", "blocks/self_attention/query_norm/scale"),
    Rule(_BLOCK + ".0.block.attn.to_k.0.weight", "blocks/self_attention/key/kernel", transpose),
    Rule(_BLOCK + ".0.block.attn.to_k.1.weight", "blocks/self_attention/key_norm/scale"),
    Rule(_BLOCK + ".0.block.attn.to_v.0.weight", "blocks/self_attention/value/kernel", transpose),
    Rule(_BLOCK + ".0.block.attn.to_out.0.weight", "blocks/self_attention/out/kernel", transpose),
    Rule(_BLOCK + ".0.adaLN_modulation.1.weight", "blocks/self_modulation/down/kernel", transpose),
    Rule(_BLOCK + ".0.adaLN_modulation.2.weight", "blocks/self_modulation/up/kernel", transpose),
    Rule(_BLOCK + ".1.block.attn.to_q.0.weight", "blocks/cross_attention/query/kernel", transpose),
    Rule(_BLOCK + ".1.block.attn.to_q.1.weight", "blocks/cross_attention/query_norm/scale"),
    Rule(_BLOCK + ".1.block.attn.to_k.0.weight", "blocks/cross_attention/key/kernel", transpose),
    Rule(_BLOCK + ".1.block.attn.to_k.1.weight", "blocks/cross_attention/key_norm/scale"),
    Rule(_BLOCK + ".1.block.attn.to_v.0.weight", "blocks/cross_attention/value/kernel", transpose),
    Rule(_BLOCK + ".1.block.attn.to_out.0.weight", "blocks/cross_attention/out/kernel", transpose),
    Rule(_BLOCK + ".1.adaLN_modulation.1.weight", "blocks/cross_modulation/down/kernel", transpose),
    Rule(_BLOCK + ".1.adaLN_modulation.2.weight", "blocks/cross_modulation/up/kernel", transpose),
    Rule(_BLOCK + ".2.block.layer1.weight", "blocks/mlp/up/kernel", transpose),
    Rule(_BLOCK + ".2.block.layer2.weight", "blocks/mlp/down/kernel", transpose),
    Rule(_BLOCK + ".2.adaLN_modulation.1.weight", "blocks/mlp_modulation/down/kernel", transpose),
    Rule(_BLOCK + ".2.adaLN_modulation.2.weight", "blocks/mlp_modulation/up/kernel", transpose),
    Rule("net.final_layer.adaLN_modulation.1.weight", "final_modulation/down/kernel", transpose),
    Rule("net.final_layer.adaLN_modulation.2.weight", "final_modulation/up/kernel", transpose),
    Rule("net.final_layer.linear.weight", "final_linear/kernel", transpose),
)

IGNORED = (
    Ignored("*_extra_state*", "bookkeeping of Transformer Engine"),
    Ignored("logvar.*", "loss weighting of training"),
    Ignored("net.pos_embedder.seq", "0, 1, 2, ...: rotary positions are computed"),
    Ignored("net.accum_*", "counters of training"),
)
