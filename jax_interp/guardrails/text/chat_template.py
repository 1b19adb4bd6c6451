"""A tokenizer's chat template, read from the files beside its vocabulary; only Jinja's sandbox runs it."""

from pathlib import Path
from typing import Any

from jax_interp.errors import CheckpointError
from jax_interp.files.json_file import read_json
from jax_interp.files.json_schema import JsonFault

CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


def add_chat_template(tokenizer: Any, folder: Path) -> None:
    """Add chat template and end tokens to `tokenizer`, a tokenizer of `transformers` with only a vocabulary.

    Raises:
        CheckpointError: a file in `folder` is missing or damaged, there is no template, or a special token is unknown.
    """
    config = _read_config(folder / CONFIG)
    tokenizer.chat_template = _template(folder, config)
    for name in ("bos_token", "eos_token"):
        token = _content(config.get(name))
        if token is not None:
            if token not in tokenizer.get_vocab():
                raise CheckpointError(
                    f"{folder / CONFIG}: {name} {token!r} is not in tokenizer.json; download both again and convert"
                    " again"
                )
            setattr(tokenizer, name, token)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, dict[str, Any])
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; put it beside the weights and convert again") from None
    except JsonFault as fault:
        raise CheckpointError(f"{path}: damaged, {fault}; download it again and convert again") from None


def _template(folder: Path, config: dict[str, Any]) -> str:
    """Return the template, which newer downloads have in a file of its own; among several, the default one."""
    path = folder / TEMPLATE
    try:
        template = path.read_text("utf-8") if path.is_file() else config.get("chat_template")
    except (OSError, UnicodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); convert again") from error
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if not isinstance(template, str) or not template:
        raise CheckpointError(
            f"{folder / CONFIG}: has no chat template; take the file that is published with the model"
        )
    return template


def _content(token: Any) -> str | None:
    """Return a special token's text from its entry, which is the text or an object that has it."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None
