"""The text stage: it turns prompts into embeddings, and runs T5 only for texts whose embedding is not stored yet."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from jax_interp.config import Precision, Quantization, T5Config
from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.models.t5 import T5Encoder
from jax_interp.pipeline.prompt.embeddings import PROMPT_TOKENS, Embedding, EmbeddingCache, load_embeddings
from jax_interp.pipeline.prompt.text_tokenizer import load_tokenizer, read_tokenizer, tokenizer_path
from jax_interp.pipeline.stages.encoder import EncoderStage
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.finding import find_component, has_component
from jax_interp.runtime.mesh import DeviceMesh

logger = logging.getLogger("jax_interp")

REVISION = "1"
"""The revision of the embeddings. It changes with every release that computes other embeddings from the same text and
weights, so that cached ones of earlier releases are not used."""

PAD_ID = 0


class PromptNetwork(EncoderStage[T5Encoder]):
    """The T5 encoder with its tokenizer; it encodes one prompt at a time.

    Prompts are never batched: the same program runs for each, so that the bits of an embedding do not depend on the
    other prompts, and memory does not grow with their number.
    """

    NETWORK = T5Encoder
    QUANTIZES = True
    KEEP_ON_HOST = ()  # a run encodes its prompts once
    SHARED_SPECS = P(None, "tensor")  # the bias of every head

    @classmethod
    def activations(cls, config: T5Config, size: int, workload: Workload) -> int:
        """Position bias, scores and weights in float32; queries, keys, values and output; the hidden MLP twice."""
        scores = 3 * 4 * config.num_heads * PROMPT_TOKENS**2
        hidden = size * PROMPT_TOKENS * (4 * config.num_heads * config.head_width + 2 * config.mlp_width)
        return (scores + hidden) // workload.mesh.tensor

    @property
    def tokenizer_path(self) -> Path:
        """The path of the only tokenizer file that is read."""
        return tokenizer_path(self.converted)

    @cached_property
    def identity(self) -> str:
        """The hash of everything that an embedding depends on beside its text."""
        digest = hashlib.sha256()
        in_8_bits = [self.quantization, self.converted.stored, self.converted.manifest["settings"].get("dtype")]
        weights = json.dumps(sorted(self.converted.source_sha256.values()))
        tokenizer = read_tokenizer(self.tokenizer_path, self.converted.component)
        for part in (
            REVISION.encode(),
            weights.encode(),
            self.converted.dtype.encode(),
            self.precision.encode(),
            tokenizer,
            *([json.dumps(in_8_bits).encode()] if self.quantization != "none" else []),
        ):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()

    def tokenize(self, text: str) -> tuple[Int[np.ndarray, " S"], int]:
        """Return the ids of `text` with the end token, at most `PROMPT_TOKENS`, and their number before the cut."""
        ids = self._tokenizer(text)["input_ids"]
        num_tokens = len(ids)
        if num_tokens > PROMPT_TOKENS:
            ids = self._tokenizer(text, truncation=True, max_length=PROMPT_TOKENS)["input_ids"]
        return np.asarray(ids, np.int32), num_tokens

    def encode(self, text: str) -> Embedding:
        """Run T5 on one text.

        Raises:
            CheckpointError: weights or tokenizer are missing, damaged or do not belong together.
        """
        ids, num_tokens = self.tokenize(text)
        padded = np.pad(ids, (0, PROMPT_TOKENS - len(ids)), constant_values=PAD_ID)
        mask = np.arange(PROMPT_TOKENS) < len(ids)
        rows = self.forward(padded[None], mask[None].astype(np.int32))[0, : len(ids)].astype(np.float32)
        if not np.isfinite(rows).all():
            raise JaxInterpError(
                f"{self.converted.path}: the text encoder gave values that are not numbers; check the checkpoint with"
                " `jax-interp inspect`"
            )
        return Embedding(rows, num_tokens)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.tokenizer_path, self.config.vocab_size, self.converted.component)


class TextEncoder:
    """The encoder of prompts into the embeddings that the diffusion transformer reads.

    A text is looked up in `given` (see `load_embeddings`), then in `cache`; T5's weights are loaded only if it is in
    neither. `converted` may be None if `given` holds every text that will be encoded.

    Raises:
        UsageError: there are neither a network nor embeddings, or their widths differ.
    """

    def __init__(
        self,
        converted: ConvertedComponent | None,
        precision: Precision = "float32",
        devices: DeviceMesh | None = None,
        *,
        cache: EmbeddingCache | None = None,
        given: Mapping[str, Float[np.ndarray, "S D"]] | None = None,
    ):
        self.network = PromptNetwork(converted, precision, devices) if converted is not None else None
        self._cache = cache
        self._given = {text: Embedding(rows, len(rows)) for text, rows in (given or {}).items()}
        self._warned: set[str] = set()
        widths = {embedding.rows.shape[1] for embedding in self._given.values()}
        widths |= {self.network.config.width} if self.network else set()
        if not widths:
            raise UsageError("no text encoder: convert one, or give a file of embeddings that holds the prompts")
        if len(widths) > 1:
            raise UsageError(f"the given embeddings do not fit this text encoder: widths {sorted(widths)}")
        self.width: int = widths.pop()

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n P D"]:
        """Return the embeddings of `texts` in float32, [n, 512, D]; rows after the end of a prompt are exactly zero.

        A prompt of more than 512 tokens is cut there, with a warning.

        Raises:
            UsageError: `texts` is not a list of strings, or has a text that is not given and cannot be encoded.
            CheckpointError: weights or tokenizer are missing, damaged or do not belong together.
        """
        _check_texts(texts)
        if self.network is None and (missing := [text for text in texts if text not in self._given]):
            raise UsageError(
                f"no embedding was given for {missing} and there is no text encoder to make one: add it to the file of"
                " embeddings, or convert a text encoder"
            )
        embeddings = {text: self._embedding(text) for text in dict.fromkeys(texts)}
        for text, embedding in embeddings.items():
            self._warn_if_cut(text, embedding)
        out = np.empty((len(texts), PROMPT_TOKENS, self.width), np.float32)
        for row, text in zip(out, texts, strict=True):
            row[:] = embeddings[text].padded()
        return out

    @property
    def given_sha256(self) -> str | None:
        """Return the hash of the given embeddings; None if there are none."""
        if not self._given:
            return None
        digest = hashlib.sha256()
        for text, embedding in sorted(self._given.items()):
            digest.update(hashlib.sha256(text.encode()).digest() + hashlib.sha256(embedding.rows.tobytes()).digest())
        return digest.hexdigest()

    def offload(self) -> None:
        """End the text stage: T5's weights leave the device unless they are resident."""
        if self.network is not None:
            self.network.offload()

    def unload(self) -> None:
        """Free the memory of T5's weights, if they were ever loaded."""
        if self.network is not None:
            self.network.unload()

    def _embedding(self, text: str) -> Embedding:
        if text in self._given or self.network is None:
            return self._given[text]
        if self._cache is None:
            return self.network.encode(text)
        embedding = self._cache.get(self.network.identity, text)
        if embedding is None:
            embedding = self.network.encode(text)
            self._cache.put(self.network.identity, text, embedding)
        return embedding

    def _warn_if_cut(self, text: str, embedding: Embedding) -> None:
        if embedding.num_tokens > PROMPT_TOKENS and text not in self._warned:
            self._warned.add(text)
            logger.warning(
                "the prompt that starts with %r has %d tokens; only the first %d are used",
                text[:40],
                embedding.num_tokens,
                PROMPT_TOKENS,
            )


def open_text_encoder(
    root: Path,
    name: str | None,
    precision: Precision,
    devices: DeviceMesh,
    text_embeddings: str | Path | None,
    cache: EmbeddingCache | None,
    *,
    quantization: Quantization | None = None,
) -> TextEncoder | None:
    """Open the text encoder below `root`, or the embeddings that replace it; return None if there is neither.

    Arguments are those of `Interpolator.from_pretrained`; `cache` keeps what is encoded.
    """
    given = load_embeddings(text_embeddings) if text_embeddings is not None else None
    wanted = name is not None or has_component(root, "text_encoder")
    converted = find_component(root, "text_encoder", name).quantized(quantization) if wanted else None
    if converted is None and given is None:
        return None
    return TextEncoder(converted, precision, devices, cache=cache, given=given)


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"texts: expected a list of strings, got {texts!r:.80}")
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"prompt {text[:40]!r}: not valid Unicode ({error.reason}); save it as UTF-8") from error
