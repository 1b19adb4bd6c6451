"""Weight table of the face detector: `Resnet50_Final.pth`, whose keys begin as PyTorch's `DataParallel` writes them."""

from convert.mapping.ops import picture_conv
from convert.mapping.rules import Ignored, Rule

_BLOCK = "module.body.layer{stage}.{block}"
_INTO = "body/stage_{stage}_block_{block}"


def _norm(src: str, dst: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{src}.weight", f"{dst}/scale"),
        Rule(f"{src}.bias", f"{dst}/bias"),
        Rule(f"{src}.running_mean", f"{dst}/mean"),
        Rule(f"{src}.running_var", f"{dst}/variance"),
    )


def _conv_norm(conv: str, norm: str, dst: str) -> tuple[Rule, ...]:
    return Rule(f"{conv}.weight", f"{dst}/conv/kernel", picture_conv), *_norm(norm, f"{dst}/norm")


def _pair(src: str, dst: str) -> tuple[Rule, ...]:
    """Return the rules of a convolution and its norm, the first two modules of a sequence."""
    return _conv_norm(f"module.{src}.0", f"module.{src}.1", dst)


def _head(src: str, dst: str) -> tuple[Rule, ...]:
    conv = f"module.{src}.{{level}}.conv1x1"
    return (
        Rule(f"{conv}.weight", f"{dst}_head_{{level}}/kernel", picture_conv),
        Rule(f"{conv}.bias", f"{dst}_head_{{level}}/bias"),
    )


RULES = (
    *_conv_norm("module.body.conv1", "module.body.bn1", "body/stem"),
    *_conv_norm(_BLOCK + ".conv1", _BLOCK + ".bn1", _INTO + "/reduce"),
    *_conv_norm(_BLOCK + ".conv2", _BLOCK + ".bn2", _INTO + "/spatial"),
    *_conv_norm(_BLOCK + ".conv3", _BLOCK + ".bn3", _INTO + "/expand"),
    *_conv_norm(_BLOCK + ".downsample.0", _BLOCK + ".downsample.1", _INTO + "/shortcut"),
    *_pair("fpn.output{level}", "neck/output{level}"),
    *_pair("fpn.merge{level}", "neck/merge{level}"),
    *_pair("ssh{level}.conv3X3", "context{level}/see_3"),
    *_pair("ssh{level}.conv5X5_1", "context{level}/see_5_first"),
    *_pair("ssh{level}.conv5X5_2", "context{level}/see_5"),
    *_pair("ssh{level}.conv7X7_2", "context{level}/see_7_first"),
    *_pair("ssh{level}.conv7x7_3", "context{level}/see_7"),
    *_head("BboxHead", "box"),
    *_head("ClassHead", "class"),
    *_head("LandmarkHead", "landmark"),
)

IGNORED = (Ignored("*.num_batches_tracked", "counter of training"),)
