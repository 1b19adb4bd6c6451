"""The decision which accents belong to a word's spelling, and which hide the word from a blocklist.

Marks that Unicode has no letter for are never spelling. Of letters like é, å or ł nobody can tell for sure: `väg` is
Swedish for road, and `fück` is no word. Taken for spelling is

- every accent of a text in which most words have one, as in Vietnamese;
- the only accent of a word, unless the text is English by its small words and has no other accented word, or the word
  is all there is.
"""

import re
import string
import unicodedata
from functools import lru_cache

_WITH_STROKES = dict(zip("đĐøØłŁħĦ", "dDoOlLhH", strict=True))
"""Letters of large languages that have no decomposition, and what they look like without it."""

_SMALL_WORDS = (
    "a the this that these those they their there then with from into through and of what when where which while who"
    " would could should about between behind above"
)
_ENGLISH = frozenset(_SMALL_WORDS.split())
"""Few other languages have these; "a" is a word of several, whose texts mostly have more than one accent."""
_AROUND_WORDS, _IN_WORDS = string.punctuation + "“”„«»‘’…–—¡¿", "-'’"
_TOKEN = re.compile(r"\S+")
_MIN_WORDS = 3
"""The number of words that tell the language of a text."""


def without_marks(text: str) -> str:
    """Return `text`, in a composed Unicode form, without the accents that are not taken for spelling."""
    tokens = _TOKEN.findall(text)
    counts = [sum(map(is_accented, token)) for token in tokens]
    accented = sum(map(bool, counts))
    if len(tokens) >= _MIN_WORDS and 2 * accented > len(tokens):
        return text
    english = accented == 1 and not _ENGLISH.isdisjoint(token.lower() for token in tokens)
    one_is_spelling = not english and len(tokens) > 1

    def stripped(found: re.Match[str]) -> str:
        token = found[0]
        if one_is_spelling and sum(map(is_accented, token)) == 1 and _is_plain_word(token):
            return token
        return without_accents(token)

    return _TOKEN.sub(stripped, text)


def without_accents(text: str) -> str:
    """Return `text` without any accent on a Latin letter."""
    return "".join(_without_accent(char) if is_accented(char) else char for char in text)


def _is_plain_word(token: str) -> bool:
    """Tell whether `token` is a word of Latin letters, with punctuation around it, and nothing else."""
    word = token.strip(_AROUND_WORDS)
    return all((char.isascii() and char.isalpha()) or is_accented(char) or char in _IN_WORDS for char in word)


@lru_cache(maxsize=4096)
def is_accented(char: str) -> bool:
    """Tell whether `char` is a Latin letter with an accent as languages have them."""
    base = _decomposed(char)
    return char in _WITH_STROKES or (base != char and base.isascii() and base.isalpha())


def _without_accent(char: str) -> str:
    return _WITH_STROKES.get(char) or _decomposed(char)


@lru_cache(maxsize=4096)
def _decomposed(char: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFD", char) if not unicodedata.combining(part))
