"""The blocklist, which refuses a prompt for its words, by the word lists of the checkpoint.

An empty prompt is refused, and one in which upstream's rules (`guardrails.listed_words`) find something. They are asked
about the prompt as it stands and about every other way to read it (`guardrails.disguises`): the text encoder turns
full-width and mathematical letters into plain ones, and people read what looks like a word. One reading is enough.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from jax_interp.errors import UsageError
from jax_interp.guardrails.text.disguises import readings, spelled_out
from jax_interp.guardrails.text.english import English
from jax_interp.guardrails.text.hidden_words import HiddenWords
from jax_interp.guardrails.text.listed_words import ListedWords, WordLists
from jax_interp.guardrails.text.look_alikes import LookAlikes
from jax_interp.guardrails.verdict import Verdict

CATEGORY = "Blocklist"


class Blocklist:
    """A check of prompts against word lists. Reading the lists takes a second, checking a prompt far less."""

    def __init__(self, folder: Path):
        """Read the word lists and `nltk_data` in `folder`.

        Raises:
            UsageError: better-profanity, nltk or confusable-homoglyphs is not installed.
            CheckpointError: a file is missing or damaged.
        """
        self._lists = WordLists.read(folder)
        self._english = English(folder / "nltk_data")
        self._listed = ListedWords(self._lists, self._english)
        self._look_alikes = LookAlikes()

    def check(self, prompt: str) -> Verdict:
        """Judge whether `prompt` may be used.

        Raises:
            UsageError: `prompt` is not text.
        """
        if not isinstance(prompt, str):
            raise UsageError(f"prompt: expected text, got {prompt!r:.80}")
        if not prompt:
            return Verdict.block("the prompt is empty", CATEGORY)
        reason = next(filter(None, map(self._find, self._readings(prompt))), None)
        return Verdict.allow("no word is on the blocklist") if reason is None else Verdict.block(reason, CATEGORY)

    def _readings(self, prompt: str) -> Iterator[str]:
        return readings(prompt, self._look_alikes)

    def _find(self, reading: str) -> str | None:
        """Return what is on the lists, as a reason; None if nothing is."""
        return self._listed.find(reading) or self._find_hidden(reading)

    def _find_hidden(self, reading: str) -> str | None:
        runs = map(self._hidden.in_run, spelled_out(reading.lower()))
        found = next(filter(None, runs), None) or self._hidden.stretched(reading.lower())
        return None if found is None else f"it spells {found!r}, which is on the blocklist"

    @cached_property
    def _hidden(self) -> HiddenWords:
        words = {*self._lists.custom, *self._lists.exact_match} - set(self._lists.whitelist)
        return HiddenWords(words, is_word=self._english.is_noun)
