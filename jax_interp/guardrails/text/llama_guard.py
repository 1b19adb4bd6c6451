"""The text classifier Llama Guard: its question about a prompt, and the parsing of its answer.

The question is the model's own chat template with the prompt as the user's message. The language model is an argument,
a function from token ids to token ids. Only the answers that it was trained to give count: `safe` alone, or `unsafe`
and a line of category codes; anything else blocks.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_interp.errors import CheckpointError, UsageError
from jax_interp.files.json_file import read_json
from jax_interp.files.json_schema import JsonFault
from jax_interp.guardrails.text.chat_template import add_chat_template
from jax_interp.guardrails.verdict import Verdict

ANSWER_TOKENS = 100
"""The most tokens of an answer. parity: this is upstream's limit; a good answer has three tokens or some more."""

POLICY_FILE = "policy.md"
"""A text beside the tokenizer whose unsafe categories replace those of the chat template (Aegis' model card)."""

_BEGIN, _END = "<BEGIN UNSAFE CONTENT CATEGORIES>", "<END UNSAFE CONTENT CATEGORIES>"
_MARKS = re.compile(r"\[/?INST\]|<</?SYS>>|<(?:BEGIN|END) [A-Z ]+>")
"""Marks between the parts of a question in the chat templates that are not special tokens."""
_CODE = re.compile(r"[SO][1-9][0-9]?")
_CATEGORY = re.compile(rf"^\W*({_CODE.pattern}): *(\S.*?)[.:*\s]*$", re.MULTILINE)


class LlamaGuard:
    """The questions and answers of one converted classifier; it loads no weights."""

    def __init__(self, folder: Path, tokenizer: Any, context_length: int):
        """Read the files beside `tokenizer` in `folder`, the folder `tokenizer` of a converted classifier.

        `tokenizer` is a tokenizer of `transformers`, to which the chat template is added. `context_length` is the
        network's.

        Raises:
            CheckpointError: a file is missing or damaged, or nothing tells how an answer ends.
        """
        self._folder = folder
        self._context_length = context_length
        self._tokenizer = tokenizer
        add_chat_template(tokenizer, folder)
        self._policy = _read_policy(folder / POLICY_FILE)
        self.stop = _stop_tokens(self._tokenizer, folder)
        """Tokens that end an answer."""

    def check(self, prompt: str, answer: Callable[[list[int]], Sequence[int]]) -> Verdict:
        """Judge whether `prompt` may be used.

        `answer` returns the likeliest tokens that follow its argument, at most `ANSWER_TOKENS`, up to and including the
        first of `stop`.

        Raises:
            UsageError: `prompt` is not text.
            CheckpointError: the chat template cannot be filled in.
        """
        if not isinstance(prompt, str):
            raise UsageError(f"prompt: expected text, got {prompt!r:.80}")
        control = next((token for token in self._tokenizer.get_added_vocab() if token in prompt), None)
        control = control or next(iter(_MARKS.findall(prompt)), None)
        if control is not None:
            return Verdict.block(f"it has {control!r}, with which it could speak in the classifier's place")
        question = self.question(prompt)
        ids = self._tokenizer(question, add_special_tokens=False)["input_ids"]
        if len(ids) + ANSWER_TOKENS > self._context_length:
            return Verdict.block(
                f"it is too long for the classifier: {len(ids)} tokens with the question, of {self._context_length} for"
                f" both and an answer of {ANSWER_TOKENS}"
            )
        given = list(answer(ids))
        if not given or given[-1] not in self.stop:
            return Verdict.block(f"the classifier's answer does not end within {len(given)} tokens")
        return parse_answer(self._tokenizer.decode(given[:-1]), _categories(question))

    def question(self, prompt: str) -> str:
        """Return the text that the classifier reads about `prompt`."""
        try:
            text = self._tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False)
        except ImportError as error:
            raise UsageError(
                f'chat templates need jinja2 ({error}): install it with `pip install -e ".[guardrails]"` in the clone'
            ) from error
        except Exception as error:  # a template can fail in every way that an expression can
            raise CheckpointError(
                f"{self._folder}: its chat template cannot be filled in ({error}); download tokenizer_config.json again"
                " and convert again"
            ) from error
        if prompt.strip() not in text:
            raise CheckpointError(f"{self._folder}: its chat template leaves the prompt out; download it again")
        if self._policy is None:
            return text
        # The template's categories stand before the prompt, which may say anything.
        before, begin, rest = text.partition(_BEGIN)
        _, end, after = rest.partition(_END)
        if not end:
            raise CheckpointError(f"{self._folder}: {POLICY_FILE} has no place in this chat template; convert again")
        return f"{before}{begin}\n{self._policy}\n{end}{after}"


def parse_answer(answer: str, names: Mapping[str, str] | None = None) -> Verdict:
    """Parse the text `answer` to a verdict; `names` gives the category codes names for the reason."""
    lines = [line.strip() for line in answer.strip().split("\n")]
    if lines == ["safe"]:
        return Verdict.allow("the classifier calls it safe")
    if lines[0] != "unsafe":
        return Verdict.block(f"the classifier's answer {answer!r:.80} is neither safe nor unsafe")
    codes = [code.strip() for code in ",".join(lines[1:]).split(",")]
    if not all(_CODE.fullmatch(code) for code in codes):
        return Verdict.block("the classifier calls it unsafe, without a category that is known")
    named = (f"{code} ({names[code]})" if names and code in names else code for code in codes)
    return Verdict.block(f"the classifier calls it unsafe: {', '.join(named)}", ", ".join(codes))


def _categories(question: str) -> dict[str, str]:
    section = question.partition(_BEGIN)[2].partition(_END)[0]
    return {code: name[:60] for code, name in _CATEGORY.findall(section)}


def _read_policy(path: Path) -> str | None:
    """Return the categories in `path`, the first that are marked there as in a chat template; None without a file."""
    if not path.exists():
        return None
    try:
        text = html.unescape(path.read_text("utf-8"))
    except (OSError, UnicodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); convert again") from error
    _, _, rest = text.partition(_BEGIN)
    policy, end, _ = rest.partition(_END)
    if not end or not policy.strip():
        raise CheckpointError(
            f"{path}: has no categories between {_BEGIN} and {_END}; take a README.md of the adapter that has its"
            " prompt template, and convert again"
        )
    return policy.strip()


def _stop_tokens(tokenizer: Any, folder: Path) -> frozenset[int]:
    path = folder / "generation_config.json"
    try:
        given = read_json(path, dict[str, Any]).get("eos_token_id")
    except FileNotFoundError:
        given = None
    except JsonFault as fault:
        raise CheckpointError(f"{path}: damaged, {fault}; download it again and convert again") from None
    ids = {tokenizer.eos_token_id, *(given if isinstance(given, list) else [given])} - {None}
    if not ids or not all(type(token) is int for token in ids):
        raise CheckpointError(
            f"{folder}: neither tokenizer_config.json nor generation_config.json tells the token that ends an answer;"
            " download them again and convert again"
        )
    return frozenset(ids)
