"""Weight table of the classifier of frames: `safety_filter.pt` of Cosmos-Guardrail1.

The file keeps its state dict below `model`; in `network.layers` activations are counted too.
"""

from convert.mapping.ops import transpose
from convert.mapping.rules import Ignored, Rule

_LAYERS = "model.network.layers"


def _linear(src: int, dst: str) -> tuple[Rule, ...]:
    return Rule(f"{_LAYERS}.{src}.weight", f"{dst}/kernel", transpose), Rule(f"{_LAYERS}.{src}.bias", f"{dst}/bias")


def _norm(src: int, dst: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{_LAYERS}.{src}.weight", f"{dst}/scale"),
        Rule(f"{_LAYERS}.{src}.bias", f"{dst}/bias"),
        Rule(f"{_LAYERS}.{src}.running_mean", f"{dst}/mean"),
        Rule(f"{_LAYERS}.{src}.running_var", f"{dst}/variance"),
    )


RULES = (
    *_linear(0, "head/linear_0"),
    *_norm(1, "head/norm_0"),
    *_linear(3, "head/linear_1"),
    *_norm(4, "head/norm_1"),
    *_linear(6, "head/linear_2"),
)

IGNORED = (
    Ignored("model.network.layers.*.num_batches_tracked", "counter of training"),
    Ignored("optimizer.*", "state of training"),
    Ignored("scheduler.*", "state of training"),
)
