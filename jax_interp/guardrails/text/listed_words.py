"""Upstream's rules that decide which words of a checkpoint's lists a text has.

A text in which no rule finds anything may pass. Everything outside ASCII counts as a space.

1. better-profanity looks for the words of `custom`, which replace its own list: folded to lower case, with digits and
   signs for letters, and across the spaces of neighbouring words. Words of `whitelist` are not looked for, and where
   they stand in the text nothing counts as found.
2. The same with every word of the text replaced by its singular (`guardrails.english`).
3. Entries of `exact_match`, words or phrases: whole words of the text, or as many neighbouring words, with their
   punctuation. The whitelist has no say in this.
"""

import re
import string
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jax_interp.errors import CheckpointError, UsageError
from jax_interp.guardrails.text.english import English

NEAR_LENGTH = 6
"""The fewest characters of an entry that is also found as neighbouring words, whatever it begins or ends with.

parity: upstream takes words that are nearly an entry: those whose `difflib` ratio is at least (n - 0.4) / n for an
entry of n characters. One other, missing or additional character costs more than that, so these are equal words after
all; they add entries that begin or end with a sign, of which no whole word is found.
"""

_FOUND = "█"
"""The character that replaces each character of a found word. It is not ASCII, so no searched text contains it."""


@dataclass(frozen=True)
class WordLists:
    """The lower-case words and phrases of a checkpoint's `blocklist` folder."""

    custom: tuple[str, ...]
    whitelist: tuple[str, ...]
    exact_match: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> "WordLists":
        """Read every line of every file in the folders `custom`, `whitelist` and `exact_match`.

        Raises:
            CheckpointError: a folder is missing, a file cannot be read, or there is nothing to look for.
        """
        lists = cls(*(_read_words(folder / name) for name in ("custom", "whitelist", "exact_match")))
        if not lists.custom or not lists.exact_match:
            raise CheckpointError(
                f"{folder}: custom or exact_match has no words, so nothing would be found; download them again and"
                " convert again"
            )
        return lists


class ListedWords:
    """A search for the words of the lists in a text as it stands."""

    def __init__(self, lists: WordLists, english: English):
        """Raises `UsageError` if better-profanity is not installed."""
        self._whitelist = frozenset(lists.whitelist)
        self._profanity = _profanity(lists)
        self._english = english
        exact = dict.fromkeys(_one_space(entry) for entry in lists.exact_match)
        self._whole_words = re.compile(r"\b(?:" + "|".join(map(re.escape, exact)) + r")\b")
        self._long = frozenset(entry for entry in exact if len(entry) >= NEAR_LENGTH)
        self._lengths = sorted({len(entry.split()) for entry in self._long})

    def find(self, text: str) -> str | None:
        """Return what was found, as a reason that hides words of `custom`; None if nothing was found."""
        text = re.sub(r"[^\x00-\x7f]+", " ", text)
        singular = " ".join(map(self._english.lemma, self._english.words(text)))
        for candidate in (text, singular):
            marked = self._marked(candidate)
            if _FOUND in marked:
                return f"it has words that are on the blocklist: {marked.replace(_FOUND, '*')!r:.300}"
        text = _one_space(text).lower()
        found = self._whole_words.search(text)
        listed = found[0] if found else self._neighbours(text.split())
        return None if listed is None else f"it has {listed!r}, which is on the blocklist"

    def _marked(self, text: str) -> str:
        """Return `text` with `_FOUND` in the place of what is found."""
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

    def _neighbours(self, words: Sequence[str]) -> str | None:
        """Return neighbours among `words` that are a long entry."""
        runs = (
            " ".join(words[start : start + size]) for size in self._lengths for start in range(len(words) - size + 1)
        )
        return next((run for run in runs if run in self._long), None)


class _Indexed:
    """better-profanity's words by how they look without what may vary in them: it compares each word of a text with
    every listed one, which takes seconds; here with the few that can be equal.
    """

    def __init__(self, words: Iterable[Any], varying: dict[str, tuple[str, ...]]):
        options = {option for options in varying.values() for option in options}
        if any(len(option) != 1 for option in options):
            raise UsageError("this better-profanity has other signs for letters than are known here: install 0.7")
        self._same = str.maketrans(dict.fromkeys("".join(options | varying.keys()), "?"))
        self._words: dict[str, list[Any]] = defaultdict(list)
        for word in words:
            self._words[str(word).translate(self._same)].append(word)
        self._longest = max(map(len, self._words), default=0)
        # Readings of one text have most words in common.
        self._finds = lru_cache(maxsize=1 << 16)(self._find)

    def __contains__(self, text: str) -> bool:
        return len(text) <= self._longest and self._finds(text)

    def __len__(self) -> int:
        return len(self._words)

    def _find(self, text: str) -> bool:
        return any(word == text for word in self._words.get(text.translate(self._same), ()))


def _profanity(lists: WordLists) -> Any:
    """Return a better-profanity that looks for `custom` alone."""
    try:
        from better_profanity import Profanity
    except ImportError as error:
        raise UsageError(
            f"the blocklist needs better-profanity ({error}): install it with"
            ' `pip install -e ".[guardrails]"` in the clone'
        ) from error
    # parity: made with its own list first, whose longest phrase says over how many words a find may reach at least.
    profanity = Profanity()
    profanity.load_censor_words(custom_words=list(lists.custom), whitelist_words=list(lists.whitelist))
    indexed = _Indexed(profanity.CENSOR_WORDSET, profanity.CHARS_MAPPING)
    profanity.CENSOR_WORDSET = indexed  # pyright: ignore[reportAttributeAccessIssue]  # only iterated and asked
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
