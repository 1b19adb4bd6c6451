"""The reading of text by its looks: letters of other scripts and styles become the Latin letters that they resemble.

What a letter looks like comes from Unicode's own list of confusable characters (UTS #39, in the package
`confusable-homoglyphs`), from its normal forms, and from its name: ʟ is the LATIN LETTER SMALL CAPITAL L. A few shapes
that Unicode does not count as confusable, because nobody would take them for the same, are read all the same where a
word mixes scripts: я in "яed".

Whether a word of another script is read by its looks at all is decided word by word, so that Russian stays Russian:

- Latin letters of any style are always read.
- A word that mixes Latin with another script, or two others, is read. Chinese, Japanese and Korean count as one script.
- A word wholly in one other script is read if more words of the text are Latin than in that script, and each of its
  letters looks like a Latin one.
- Elsewhere it is read only if each of its letters is on Unicode's list, so that it could be taken for Latin as a whole
  ("ѕсоре"), and the text is not in that script: not more of its words have a letter that rules a confusion out than
  there are words in Latin. "НОЕ" is Noah in a Russian sentence; in an English one, or alone, it is read as it looks.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from jax_interp.errors import UsageError
from jax_interp.guardrails.text.accents import is_accented, without_marks

BAR = "ǀ"
"""The character for every upright stroke that may be an i or an l."""

_ORDER_MARK = "\u200e"
"""The mark that surrounds right-to-left letters in Unicode's list."""

_NAMED_LETTER = re.compile(
    r"(?:LATIN (?:SMALL |CAPITAL )?|REGIONAL INDICATOR SYMBOL )LETTER (?:[A-Z-]{2,} )*([A-Z])(?: .+)?"
)
_IN_FRONT = re.compile(r"^(?:TAG|SQUARED|(?:CROSSED )?NEGATIVE (?:SQUARED|CIRCLED)) ")
_INVISIBLE = ("Mn", "Me", "Cc", "Cf", "Cn", "Co", "Cs")
"""Unicode categories of marks, controls, formats and unassigned characters."""
_FILLERS = "\u115f\u1160"
"""Letters of Hangul that are not drawn."""
_ONE_SCRIPT = {"HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"}
"""Scripts that are written together with Han."""
_NO_SCRIPT = {"COMMON", "INHERITED", "UNKNOWN"}

_LATIN = {
    char: letters
    for letters, chars in {
        "a": "ɐ", "ae": "æ", "b": "ß", "c": "ɔ", "d": "ð", "e": "ǝə", "f": "ɟ", "g": "ƃ", "h": "ɥ",
        "j": "ɾ", "k": "ʞ", "l": "ʅ", "m": "ʍ", "n": "ŋ", "oe": "œ", "p": "þÞ", "v": "ʌ", "y": "ʎ",
    }.items()
    for char in chars
}  # fmt: skip
"""Latin letters that look like other letters than those of their names, some because they are upside down."""

_SHAPES = {
    char: letters
    for letters, chars in {
        "a": "дΔΛλ", "b": "ьъвбβ", "d": "δ", "e": "эєзΞΣεξ", "io": "ю", "n": "ийлпΠηπ",
        "o": "фΘΦΩθσφ", "r": "ягΓ", "s": "ς", "t": "тτ", "u": "цμυ", "v": "ν", "w": "шщΨψω",
        "x": "ж", "y": "чγ", "z": "ζ", BAR: "ӏ",
    }.items()
    for char in chars
}  # fmt: skip
"""Shapes of Cyrillic and Greek that people use for Latin letters, though they are not the same."""


class LookAlikes:
    """A reader of text by its looks, with Unicode's list of confusable characters."""

    def __init__(self):
        """Read the list.

        Raises:
            UsageError: confusable-homoglyphs is not installed, or its list cannot be read.
        """
        try:
            from confusable_homoglyphs.categories import alias
            from confusable_homoglyphs.confusables import confusables_data
        except (ImportError, OSError, ValueError) as error:
            raise UsageError(
                f"the blocklist needs confusable-homoglyphs ({error}): install it with"
                ' `pip install -e ".[guardrails]"` in the clone, and leave CONFUSABLE_DATA unset'
            ) from error
        self._prototypes = {
            confusable.strip(_ORDER_MARK): alike[0]["c"].strip(_ORDER_MARK)
            for confusable, alike in confusables_data.items()
            if alike
        }
        if self._prototypes.get("\N{CYRILLIC SMALL LETTER A}") != "a":
            raise UsageError("the list of confusable-homoglyphs is not Unicode's: leave CONFUSABLE_DATA unset")
        self._alias = alias
        self._exact = lru_cache(maxsize=4096)(self._find_exact)
        self._loose = lru_cache(maxsize=4096)(self._find_loose)
        self._script = lru_cache(maxsize=4096)(self._find_script)
        signs = (char for char in self._prototypes if len(char) == 1 and not char.isalnum() and self._exact(char))
        self._word = re.compile(rf"(?:[^\W_]|[{''.join(sign for sign in signs if not sign.isascii())}])+")

    def read(self, text: str) -> str:
        """Replace every letter that is read by its looks, and remove marks and invisible characters."""
        text = normalized_text(text)
        if text.isascii():
            return text
        words = self._word.findall(text)
        count, plain = Counter[str](), Counter[str]()
        for word in words:
            scripts = self._scripts(word)
            count.update({"LATIN"} if "LATIN" in scripts else scripts)
            if len(scripts) == 1 and not all(map(self._exact, word)):
                plain.update(scripts)
        latin = count["LATIN"]
        seldom = {script for script, number in count.items() if number < latin}
        written = {script for script, number in plain.items() if number > latin}
        return self._word.sub(lambda found: self._read_word(found[0], seldom, written), text)

    def _read_word(self, word: str, seldom: set[str], written: set[str]) -> str:
        """`word`, in a text that has more Latin words than ones in the scripts `seldom`, and is `written` in others."""
        if word.isascii():
            return word
        scripts = self._scripts(word)
        if "LATIN" in scripts or len(scripts) > 1:
            return "".join(self._loose(char) or char for char in word)
        if scripts <= seldom and all(map(self._loose, word)):
            return "".join(map(self._loose, word))
        if scripts & written or not all(map(self._exact, word)):
            return word
        return "".join(map(self._exact, word))

    def _scripts(self, word: str) -> set[str]:
        scripts = {self._script(char) for char in word}
        return scripts - _NO_SCRIPT

    def _find_script(self, char: str) -> str:
        found = self._alias(char).upper()
        return "HAN" if found in _ONE_SCRIPT else found

    def _find_exact(self, char: str) -> str:
        """Return the Latin letters or digits that Unicode lists as confusable with `char`; none is an empty text."""
        if char.isascii():
            return char
        alike = self._prototypes.get(char, "").replace("rn", "m")
        if alike == "l":
            return BAR
        return alike if alike.isascii() and alike.isalnum() else ""

    def _find_loose(self, char: str) -> str:
        """Return what `char` stands for in a word that is Latin by its other letters."""
        return _SHAPES.get(char) or self._exact(char) or _SHAPES.get(char.lower()) or self._exact(char.upper())


def normalized_text(text: str) -> str:
    """Normalise `text` to Unicode's compatibility form with plain Latin letters and nothing invisible.

    Full-width, mathematical, circled and squared letters, small capitals and letters with hooks become plain, and
    accents that are not spelling are removed (`guardrails.accents`).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_plain, without_marks(unicodedata.normalize("NFKC", text))))


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    if char in _LATIN:
        return _LATIN[char]
    if char.isspace() or is_accented(char):
        return char
    parts = unicodedata.normalize("NFKD", char)
    if parts != char:
        return "".join(map(_plain, parts))
    if unicodedata.category(char) in _INVISIBLE or char in _FILLERS:
        return ""
    if char.isascii():
        return char
    named = _NAMED_LETTER.fullmatch(_IN_FRONT.sub("", unicodedata.name(char, "")))
    return named[1].lower() if named else char
