"""A small T5 vocabulary and a random T5 encoder for the demo, in the Hugging Face layout.

```
python -m scripts.demo_training.text jax_interp/demo/checkpoints/google-t5/t5-11b
```
"""

import json
import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from scripts.demo_training.captions import random_caption

SENTENCES = (
    "Two frames of a film are given and the pictures between them are drawn.",
    "A ball rolls slowly to the left while a box turns in the light.",
    "The camera stands still; shadows glide over a soft, coloured background.",
    "Smooth motion, clean edges, steady brightness and natural colours.",
    "Blurred, shaky or flickering pictures of poor quality are not wanted.",
    "A dark room, a bright window, a quick jump, a long walk in the rain.",
    "Quiet water mirrors the hills; a small boat crosses from right to left.",
    "What moves in this scene, how fast, and where does it go next?",
)
NUM_PIECES = 320
MAX_TOKENS = 512


@dataclass(frozen=True)
class T5Sizes:
    width: int = 32
    head_width: int = 8
    num_heads: int = 4
    mlp_width: int = 64
    num_layers: int = 2


def build_tokenizer(seed: int) -> Tokenizer:
    """Return a Unigram tokenizer of the project's own sentences with T5's specials: pad 0, end 1, unknown 2, extra ids
    last."""
    specials = ["<pad>", "</s>", "<unk>"]
    pieces = [(name, 0.0) for name in specials] + _pieces(seed)
    extra = [f"<extra_id_{i}>" for i in reversed(range(100))]
    model = Unigram([*pieces, *((name, 0.0) for name in extra)], unk_id=2, byte_fallback=False)
    tokenizer = _with_rules(Tokenizer(model))
    tokenizer.add_special_tokens([*specials, *extra])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


def _pieces(seed: int) -> list[tuple[str, float]]:
    """Return frequent substrings of words, and every ASCII character, with their log probabilities.

    They are counted here because the library's own trainer gives another vocabulary on every run.
    """
    rng = np.random.default_rng(seed)
    corpus = [*SENTENCES * 4, *(random_caption(rng, 1.5) for _ in range(200))]
    words = Counter(f"▁{word}" for sentence in corpus for word in sentence.split())
    counts = Counter(dict.fromkeys(["▁", *map(chr, range(33, 127))], 1))
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, len(word) + 1):
                counts[word[start:end]] += count
    needed = [piece for piece in counts if len(piece) == 1]
    longer = sorted((p for p in counts if len(p) > 1), key=lambda p: (-counts[p] * (len(p) - 1), p))
    chosen = sorted([*needed, *longer[: NUM_PIECES - len(needed)]], key=lambda p: (-counts[p], p))
    total = sum(counts[piece] for piece in chosen)
    return [(piece, math.log(counts[piece] / total)) for piece in chosen]


def _with_rules(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    marks: dict[str, Any] = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**marks)]
    )
    tokenizer.decoder = decoders.Metaspace(**marks)
    return tokenizer


def write_t5(folder: Path, tokenizer: Tokenizer, sizes: T5Sizes, seed: int) -> None:
    """Write `config.json`, `pytorch_model.bin`, `tokenizer.json` and `tokenizer_config.json` of a random T5 encoder."""
    from transformers import T5Config, T5EncoderModel

    folder.mkdir(parents=True, exist_ok=True)
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=sizes.width,
        d_kv=sizes.head_width,
        d_ff=sizes.mlp_width,
        num_heads=sizes.num_heads,
        num_layers=sizes.num_layers,
    )
    torch.manual_seed(seed)
    model = T5EncoderModel(config)
    state = {name: tensor.detach().float().contiguous() for name, tensor in model.state_dict().items()}
    # parity: the published file names the embedding twice; both names share one storage.
    state["encoder.embed_tokens.weight"] = state["shared.weight"]
    torch.save(state, folder / "pytorch_model.bin")
    kept = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "vocab_size", "relative_attention_num_buckets")
    values = {name: getattr(config, name) for name in kept}
    values |= {
        "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True,
        "n_positions": 512, "layer_norm_epsilon": 1e-6, "dropout_rate": 0.1, "initializer_factor": 1.0,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    names = [f"<extra_id_{i}>" for i in range(100)]
    settings = {
        "tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
        "extra_ids": 100, "additional_special_tokens": names, "model_max_length": MAX_TOKENS,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


if __name__ == "__main__":
    write_t5(Path(sys.argv[1]), build_tokenizer(0), T5Sizes(), 0)
