"""The text tokenizer of a converted network, read from a single file."""

import logging
from pathlib import Path
from typing import Any

from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.converted import ConvertedComponent


def tokenizer_path(converted: ConvertedComponent) -> Path:
    """Return the path of the only tokenizer file that is read."""
    return converted.path / "tokenizer" / "tokenizer.json"


def load_tokenizer(path: Path, vocab_size: int, component: str) -> Any:
    """Load the fast tokenizer in `path`, a `tokenizer.json`; nothing else is read and nothing is downloaded.

    Raises:
        CheckpointError: the file is missing or damaged, or has ids that a network of `vocab_size` ids lacks.
    """
    read_tokenizer(path, component)
    # transformers advises at import to install PyTorch, which nothing here needs.
    advice = logging.getLogger("transformers")
    was_disabled, advice.disabled = advice.disabled, True
    try:
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    except ImportError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception for a file it cannot parse
        raise CheckpointError(f"{path}: damaged tokenizer ({error}); convert the {component} again") from error
    finally:
        advice.disabled = was_disabled
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < vocab_size:
        raise CheckpointError(
            f"{path}: has token ids up to {largest}, the network only {vocab_size} embeddings; convert the {component}"
            " again with the tokenizer.json that belongs to it"
        )
    return tokenizer


def read_tokenizer(path: Path, component: str) -> bytes:
    """Return the bytes of a tokenizer file of the network `component`.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: the tokenizer cannot be read ({error.strerror}); put tokenizer.json beside the weights of the"
            f" {component} and convert it again"
        ) from error
