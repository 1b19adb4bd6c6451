"""Listed words that no reading shows as separate words: stretched, or within a run of single letters."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

MIN_LETTERS_WITHIN = 4
"""The fewest letters of a listed word that is looked for within a run of single letters."""

MIN_REPEATED_LETTERS = 2
"""The fewest letters that a stretched word repeats. With one, ordinary words would count: rapper, diner."""

_WORDS_OF_ONE_LETTER = "aio"
_MAX_NEIGHBOURS = 2


class HiddenWords:
    """A search for listed words that consist of letters alone; phrases are left to the readings of a text."""

    def __init__(self, words: Iterable[str], *, is_word: Callable[[str], bool]):
        """`is_word` tells whether there is an ordinary word that is spelled so: "c l a s s" hides nothing."""
        self._words = {word for word in words if word.isalpha() and word.isascii() and len(word) > 2}
        self._is_word = is_word
        self._by_letters: dict[str, list[str]] = defaultdict(list)
        for word in self._words:
            self._by_letters[_once(word)].append(word)
        within = sorted((word for word in self._words if len(word) >= MIN_LETTERS_WITHIN), key=len, reverse=True)
        self._within = re.compile("|".join(within) or r"(?!)")

    def in_run(self, run: str) -> str | None:
        """Find a listed word that `run` spells, alone, beside words of one letter, or among other letters.

        An example is "a f l o r b l e" as "aflorble". Among other letters the word must have `MIN_LETTERS_WITHIN`
        letters or more, and the run itself must not be an ordinary word.
        """
        for candidate in _without_neighbours(run):
            if candidate in self._words:
                return candidate
        found = self._within.search(run)
        return found[0] if found and not self._is_word(run) else None

    def stretched(self, text: str) -> str | None:
        """Find a listed word that `text` has with `MIN_REPEATED_LETTERS` or more letters repeated, as "floorrrble"."""
        for word in re.findall(r"(?<!\w)[a-z]+(?!\w)", text):
            for listed in self._by_letters.get(_once(word), ()):
                if _is_stretched(listed, word):
                    return listed
        return None


def _without_neighbours(run: str) -> Iterator[str]:
    """Yield `run` without up to `_MAX_NEIGHBOURS` words of one letter at its start and its end."""
    before = len(run) - len(run.lstrip(_WORDS_OF_ONE_LETTER))
    behind = len(run) - len(run.rstrip(_WORDS_OF_ONE_LETTER))
    for start in range(min(before, _MAX_NEIGHBOURS) + 1):
        for end in range(min(behind, _MAX_NEIGHBOURS) + 1):
            yield run[start : len(run) - end]


def _is_stretched(listed: str, word: str) -> bool:
    """Tell whether `word`, which has the letters of `listed` in order, repeats too many to be another word."""
    ours, theirs = _lengths(word), _lengths(listed)
    more = len(word) - len(listed) >= MIN_REPEATED_LETTERS and all(map(int.__le__, theirs, ours))
    return more and (len(listed) > 3 or max(ours) > 2)


def _once(word: str) -> str:
    """Return `word` without repetitions of a letter."""
    return "".join(letter for letter, _ in groupby(word))


def _lengths(word: str) -> list[int]:
    return [len(list(same)) for _, same in groupby(word)]
