"""Weight table of the T5 encoder: `pytorch_model.bin` (or safetensors) of a Hugging Face T5 checkpoint."""

from convert.mapping.ops import transpose
from convert.mapping.rules import Ignored, Rule

_ATTENTION = "encoder.block.{layer}.layer.0"
_MLP = "encoder.block.{layer}.layer.1"

RULES = (
    Rule("shared.weight", "embedding"),
    Rule("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "relative_bias"),
    Rule(_ATTENTION + ".layer_norm.weight", "blocks/attention_norm/scale"),
    Rule(_ATTENTION + ".SelfAttention.q.weight", "blocks/attention/query/kernel", transpose),
    Rule(_ATTENTION + ".SelfAttention.k.weight", "blocks/attention/key/kernel", transpose),
    Rule(_ATTENTION + ".SelfAttention.v.weight", "blocks/attention/value/kernel", transpose),
    Rule(_ATTENTION + ".SelfAttention.o.weight", "blocks/attention/out/kernel", transpose),
    Rule(_MLP + ".layer_norm.weight", "blocks/mlp_norm/scale"),
    Rule(_MLP + ".DenseReluDense.wi.weight", "blocks/mlp/up/kernel", transpose),
    Rule(_MLP + ".DenseReluDense.wo.weight", "blocks/mlp/down/kernel", transpose),
    Rule("encoder.final_layer_norm.weight", "final_norm/scale"),
)

IGNORED = (
    Ignored("encoder.embed_tokens.weight", "tied copy of shared.weight"),
    Ignored("decoder.*", "only the encoder reads prompts"),
    Ignored("lm_head.weight", "output layer of the decoder"),
)
