"""The networks of `tests.guardrails.tiny_guards` in PyTorch, whose weights are set by hand."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import transformers

from tests.guardrails.text.llama_tokenizer import LLAMA_2, NUM_TOKENS, write_files
from tests.guardrails.text.word_lists import write_blocklist
from tests.guardrails.tiny_guards import MARK
from tests.models import video_peers

TEXT_FOLDER, LISTS = "meta-llama/Llama-Guard-3-8B", "nvidia/Cosmos-Guardrail1/blocklist"
LETTERS = "]safeun\nO1"
"""Those that follow each other in a question's end and an answer; each has an axis of the residual stream."""
WIDTH = 16
MARK_AXIS, SEEN_AXIS, OTHER_AXIS = 13, 14, 15


def write_text_safety(root: Path) -> None:
    write_blocklist(root / LISTS)
    folder = write_files(root / TEXT_FOLDER, LLAMA_2)
    text_classifier(folder / "tokenizer.json").save_pretrained(folder)
    # Its own, which says which tokens end an answer, was replaced.
    write_files(folder, LLAMA_2)


def text_classifier(tokenizer_file: Path) -> transformers.LlamaForCausalLM:
    """Answers `SAFE`, or `UNSAFE` if there is `MARK` in the question.

    The residual stream says which letter a token is. The first block's attention, the same to all tokens, adds how
    many marks there are. The head knows which letter follows which; where there are two, marks decide.
    """
    config = transformers.LlamaConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=1024,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
    token = dict(zip(LETTERS, tokenizer(LETTERS)["input_ids"], strict=True))
    axis = {letter: index for index, letter in enumerate(LETTERS)}
    [mark], end = tokenizer(MARK)["input_ids"], tokenizer.convert_tokens_to_ids("</s>")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(1.0 if "norm" in name else 0.0)
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding[:, OTHER_AXIS] = 1
        for letter in LETTERS:
            embedding[token[letter]] = torch.eye(WIDTH)[axis[letter]]
        embedding[mark] = torch.eye(WIDTH)[MARK_AXIS]
        attention: Any = model.model.layers[0].self_attn
        attention.v_proj.weight[0, MARK_AXIS] = 1
        attention.o_proj.weight[SEEN_AXIS, 0] = 1
        for first, second in ("]s", "sa", "af", "fe", "un", "ns", "\nO", "O1"):
            head[token[second], axis[first]] = 10
        head[end, axis["e"]] = head[end, axis["1"]] = 10
        for first, second in ("]u", "e\n"):
            head[token[second], axis[first]] = 8
            head[token[second], SEEN_AXIS] = 160
    return model


def brightness_classifier(*, calm: bool = False) -> video_peers.SafetyFilter:
    """Calls a white frame Violence and a black one Safe, by a plane between their hidden units; all Safe if `calm`."""
    classifier = video_peers.safety_filter()
    layers = classifier.network.layers
    with torch.no_grad():
        black, white = layers[:-1](torch.cat([_embedding(-1.0), _embedding(1.0)]))
        towards_white = (white - black) / (white - black).square().sum()
        layers[-1].bias.fill_(-50)
        layers[-1].bias[0] = 0
        if calm:
            return classifier
        layers[-1].weight[2] = 10 * towards_white
        layers[-1].bias[2] = -10 * towards_white @ (black + white) / 2
    return classifier


def face_detector() -> video_peers.RetinaFace:
    """Finds the faces that its second feature map looks for, of 64 and 128 pixels, wherever it looks."""
    detector = video_peers.retinaface()
    with torch.no_grad():
        heads: Any = detector.ClassHead
        for level, head in enumerate(heads):
            head.conv1x1.bias.copy_(torch.tensor([0.0, 3.0 if level == 1 else -3.0] * 2))
    return detector


def _embedding(level: float) -> torch.Tensor:
    tower: Any = video_peers.siglip()
    side = tower.config.vision_config.image_size
    pooled = tower.vision_model(pixel_values=torch.full((1, 3, side, side), level)).pooler_output
    return pooled / pooled.norm(dim=-1, keepdim=True)
