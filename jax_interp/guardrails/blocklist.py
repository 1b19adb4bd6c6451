"""The blocklist: refuses a prompt for its words, with the word lists of the checkpoint.

Upstream's rules, in its order; what none of them finds may pass. Everything outside ASCII counts as a space.

1. An empty prompt is refused.
2. better-profanity looks for the words of `custom`, which replace its own list: folded to lower case, with digits and
   signs for letters, and across the spaces of neighbouring words. Words of `whitelist` are not looked for, and where
   they stand in the prompt nothing counts as found.
3. The same with every word of the prompt replaced by its singular (`guardrails.english`).
4. Entries of `exact_match`, words or phrases: whole words of the prompt, or as many neighbouring words, with their
   punctuation, that hardly differ from an entry of at least `NEAR_LENGTH` characters. The whitelist has no say in this.
"""

import re
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, partial
from pathlib import Path
from typing import Any

from jax_interp.errors import CheckpointError, UsageError
from jax_interp.guardrails.english import English
from jax_interp.guardrails.verdict import Verdict

CATEGORY = "Blocklist"
NEAR_LENGTH = 6
"""Characters from which on an entry is also found in what is nearly it."""
NEAR_CHARACTERS = 0.4
"""How much less than an entry's length the likeness (`difflib`'s ratio times that length) of a near match may be.

parity: one other, missing or additional character costs more than this, so near matches are equal words after all;
they add entries that begin or end with a sign, of which no whole word is found.
"""

_FOUND = "█"
"""Stands for a character of a found word. Not ASCII, so no prompt can hold it where it is looked for."""


@dataclass(frozen=True)
class WordLists:
    """Lower-case words and phrases, as they lie in a checkpoint's `blocklist` folder."""

    custom: tuple[str, ...]
    whitelist: tuple[str, ...]
    exact_match: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> "WordLists":
        """Every line of every file in the folders `custom`, `whitelist` and `exact_match`.

        Raises:
            CheckpointError: a folder is missing, or a file cannot be read; or there is nothing to look for.
        """
        lists = cls(*(_read_words(folder / name) for name in ("custom", "whitelist", "exact_match")))
        if not lists.custom or not lists.exact_match:
            raise CheckpointError(
                f"{folder}: custom or exact_match has no words, so nothing would be found; download them again and"
                " convert again"
            )
        return lists


class Blocklist:
    """Checks prompts against word lists. Reading them takes a second, a prompt far less."""

    def __init__(self, folder: Path):
        """Read the word lists and `nltk_data` in `folder`.

        Raises:
            UsageError: better-profanity or nltk is not installed.
            CheckpointError: a file is missing or damaged.
        """
        lists = WordLists.read(folder)
        self._whitelist = frozenset(lists.whitelist)
        self._profanity = _profanity(lists)
        self._english = English(folder / "nltk_data")
        self._exact = tuple(dict.fromkeys(_one_space(entry) for entry in lists.exact_match))
        self._whole_words = re.compile(r"\b(?:" + "|".join(map(re.escape, self._exact)) + r")\b")

    def check(self, prompt: str) -> Verdict:
        """Whether `prompt` may be used.

        Raises:
            UsageError: it is not text.
        """
        if not isinstance(prompt, str):
            raise UsageError(f"prompt: expected text, got {prompt!r:.80}")
        if not prompt:
            return Verdict.block("the prompt is empty", CATEGORY)
        text = re.sub(r"[^\x00-\x7f]+", " ", prompt)
        singular = " ".join(map(self._english.lemma, self._english.words(text)))
        for candidate in (text, singular):
            marked = self._marked(candidate)
            if _FOUND in marked:
                shown = marked.replace(_FOUND, "*")
                return Verdict.block(f"it has words that are on the blocklist: {shown!r:.300}", CATEGORY)
        text = _one_space(text).lower()
        found = self._whole_words.search(text)
        near = found[0] if found else self._nearly(text.split())
        if near is not None:
            return Verdict.block(f"it has {near!r}, which is on the blocklist", CATEGORY)
        return Verdict.allow("no word is on the blocklist")

    def _marked(self, text: str) -> str:
        """`text` with `_FOUND` in the place of what is found."""
        marked = self._profanity.censor(text, censor_char=_FOUND)
        words, given = marked.split(), text.split()
        aligned = len(given)
        if len(words) != len(given):
            # A find across several words became one. Upstream goes on counting words as if nothing had, puts a word
            # of the whitelist in the place of another find, and so lets that one pass; here the rest stays refused.
            aligned = 1 + next((index for index, word in enumerate(words) if _FOUND in word), -1)
        for index, word in enumerate(given[:aligned]):
            if word.strip(string.punctuation).lower() in self._whitelist:
                words[index] = word
        return " ".join(words)

    def _nearly(self, words: Sequence[str]) -> str | None:
        """Words of the prompt that nearly are an entry."""
        runs = cache(partial(_runs_by_length, words))
        for entry in self._exact:
            if len(entry) >= NEAR_LENGTH and (near := _near_match(runs(len(entry.split())), entry)) is not None:
                return near
        return None


def _runs_by_length(words: Sequence[str], size: int) -> dict[int, list[str]]:
    """Every `size` neighbours among `words`, by how many characters they have together."""
    runs: dict[int, list[str]] = defaultdict(list)
    for start in range(len(words) - size + 1):
        run = " ".join(words[start : start + size])
        runs[len(run)].append(run)
    return runs


def _near_match(runs: dict[int, list[str]], entry: str) -> str | None:
    wanted = (len(entry) - NEAR_CHARACTERS) / len(entry)
    for length, candidates in runs.items():
        # No two texts of these lengths are more alike than this, and most have other lengths.
        if 2 * min(length, len(entry)) / (length + len(entry)) < wanted:
            continue
        matcher = SequenceMatcher(None, b=entry)
        for candidate in candidates:
            matcher.set_seq1(candidate)
            # The first is a bound of the second, which takes long.
            if matcher.quick_ratio() >= wanted and matcher.ratio() >= wanted:
                return candidate
    return None


def _profanity(lists: WordLists) -> Any:
    """better-profanity, looking for `custom` alone."""
    try:
        from better_profanity import Profanity
    except ImportError as error:
        raise UsageError(
            f"the blocklist needs better-profanity ({error}): install it with `pip install 'jax-interp[guardrails]'`"
        ) from error
    # parity: made with its own list first, whose longest phrase says over how many words a find may reach at least.
    profanity = Profanity()
    profanity.load_censor_words(custom_words=list(lists.custom), whitelist_words=list(lists.whitelist))
    return profanity


def _read_words(folder: Path) -> tuple[str, ...]:
    files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise CheckpointError(f"{folder}: the word list is missing; download it and convert again")
    words: dict[str, None] = {}
    for path in files:
        try:
            lines = path.read_text("utf-8").split("\n")
        except (OSError, UnicodeError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); download it again and convert again") from error
        words.update(dict.fromkeys(word for line in lines if (word := line.strip().lower())))
    return tuple(words)


def _one_space(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
