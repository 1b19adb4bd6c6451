"""Readings of a text that was disguised so that a list of words does not find its words.

Each function undoes one kind of disguise for the whole text; `readings` combines them. What does not change a text
costs nothing, because no reading is given twice.
"""

import html
import re
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import unquote

from jax_interp.guardrails.text.accents import without_accents
from jax_interp.guardrails.text.look_alikes import BAR, LookAlikes, normalized_text

_ROUNDS = 3
"""How often entities and percent encodings are decoded, since one may hide another ("&amp;#102;")."""

_REVERSED = re.compile("\u202e([^\u202c\n]*)")
"""Text behind a right-to-left override, which is shown from its end to its start."""

_UPSIDE_DOWN = dict(
    zip(
        "ɐqɔpǝɟƃɓɥıᴉɾʞʅןꞁɯuodbɹsʇnʌʍxʎz" + "∀ƆƎℲ⅁⅂ԀᴚɹΛ∩⊥┴⅄˥",
        "abcdefgghiijklllmnopqrstuvwxyz" + "acefglprrvuttyl",
        strict=True,
    )
)
"""Characters that look like a letter when they are seen upside down."""
_UPSIDE_DOWN_ONLY = re.compile("[ɐǝɟƃɥᴉɾʞʅꞁɯɹʇʌʍʎƎℲ⅁⅂ᴚ⅄]")
"""The upside-down letters that no large language has; one of these tells that a text is written upside down."""

_TAGS = re.compile("[\U000e0020-\U000e007e]+")
"""Unicode's tag characters, which are invisible copies of ASCII."""

_SIGNS = "!|+*@$€£¢¥"
"""Signs that are written in place of letters."""
_LEET = str.maketrans("0234578@$+€£¢¥", "ozeastbastelcy")
_LEET_TABLES = tuple(_LEET | str.maketrans("1!|69", either) for either in ("iilbg", "lilgq", "iiibg", "lllgq"))
"""A table for each way to read the characters that may stand for two letters."""
_MIN_LENGTH = 3
"""The fewest characters of a word whose digits and signs are read as letters."""
_WORD_WITH_SIGNS = re.compile(rf"[\w{re.escape(_SIGNS)}]{{{_MIN_LENGTH},}}")
_BRACKET_IN_WORD = re.compile(r"(?<=[^\W_])[(<](?=[^\W_])")
_CAPITAL_I = re.compile(r"I(?=[a-z])|(?<=[a-z])I")
_CONTRACTION = re.compile(r"['’ʼ](?:s|t|d|m|ll|re|ve|em|n)\b|\b(?:[cdjlmnosty]|qu)['’ʼ]", re.IGNORECASE)
"""English ones behind an apostrophe, and French and Italian ones before it."""


def readings(text: str, look_alikes: LookAlikes) -> Iterator[str]:
    """Yield `text`, then every other text, in lower case, that it can be read as; none comes twice."""
    known = set()
    for source in _sources(text):
        # Joined first as well: letters that stand apart do not tell in which script their word is.
        seen = dict.fromkeys(look_alikes.read(each) for each in (source, joined(normalized_text(source))))
        for reading in (source, *(reading for each in seen for reading in _with_signs_read(each))):
            if reading not in known:
                known.add(reading)
                yield reading


def _sources(text: str) -> Iterator[str]:
    """Yield `text` as it is, decoded, and as it is displayed."""
    undo: tuple[Callable[[str], str], ...] = (decoded, shown_reversed, upside_down_read, tags_shown)
    for source in dict.fromkeys((text, decoded(text))):
        yield source
        for each in undo[1:]:
            if (other := each(source)) != source:
                yield other


def _with_signs_read(text: str) -> Iterator[str]:
    """Lower-case readings of what is left: digits and signs for letters, letters with something between them."""
    for plain in dict.fromkeys((text, _CAPITAL_I.sub(BAR, text))):
        for letter in "il" if BAR in plain else "i":
            one = plain.replace(BAR, letter).lower()
            for whole in dict.fromkeys((one, joined(one), joined(one, _SIGNS))):
                yield whole
                yield from leet_read(whole)


def decoded(text: str) -> str:
    """Replace HTML entities and percent-encoded bytes by the characters that they stand for."""
    for _ in range(_ROUNDS):
        text = unquote(html.unescape(text))
    return text


def shown_reversed(text: str) -> str:
    """Reverse what follows a right-to-left override, as a reader sees it."""
    return _REVERSED.sub(lambda found: found[1][::-1], text)


def upside_down_read(text: str) -> str:
    """Read a text of upside-down letters with the page turned round; other texts stay as they are."""
    if not _UPSIDE_DOWN_ONLY.search(text):
        return text
    return "".join(_UPSIDE_DOWN.get(char, char) for char in reversed(text))


def tags_shown(text: str) -> str:
    """Replace Unicode's tag characters, which nobody sees, by the letters that they are copies of."""
    return _TAGS.sub(lambda found: "".join(chr(ord(char) - 0xE0000) for char in found[0]), text)


def leet_read(text: str) -> Iterator[str]:
    """Yield the text with digits and signs in words replaced by the letters that they may stand for.

    Only words of three characters or more, one of which is a letter, are read so: 4K and 1920 stay.
    """
    text = _BRACKET_IN_WORD.sub("c", text)
    for table in _LEET_TABLES:
        yield _WORD_WITH_SIGNS.sub(lambda found, table=table: _letters_for_signs(found[0], table), text)


def _letters_for_signs(word: str, table: dict[int, int]) -> str:
    core = word.rstrip("!")
    if len(core) < _MIN_LENGTH or not any(map(str.isalpha, core)):
        return word
    return core.translate(table) + word[len(core) :]


def joined(text: str, signs: str = "") -> str:
    """Join letters that stand by themselves, and remove the punctuation within words.

    "f l o r b l e" and "fl.or_ble" become "florble". `signs` count as letters, elsewhere as punctuation. An apostrophe
    stays where contractions have one, and a number without letters keeps its point.
    """
    text = _spelled(signs).sub(
        lambda found: " ".join(_spelled_words(found[0], signs)) if _is_word(found[0]) else found[0], text
    )
    return re.sub(r"\S+", lambda found: _without_punctuation(found[0], signs), text)


def spelled_out(text: str) -> Iterator[str]:
    """Yield every run of letters that stand by themselves as one word, where `joined` may make several words."""
    for signs in ("", _SIGNS):
        for found in filter(_is_word, (found[0] for found in _spelled(signs).finditer(text))):
            run = without_accents("".join(re.findall(_letter(signs), found)))
            yield from dict.fromkeys((run, *leet_read(run)))


def _is_word(run: str) -> bool:
    """Tell whether a run of single letters and digits spells anything: "4, 5, 5" are numbers."""
    return any(map(str.isalpha, run))


def _spelled_words(run: str, signs: str) -> list[str]:
    """Return the words of a run of single letters.

    Spaces part them if there is something else between the letters of one, else a gap that is wider than a neighbour.
    """
    gaps = re.split(_letter(signs), run)[1:-1]
    spaces = [any(map(str.isspace, gap)) for gap in gaps]
    widths = [len(gap) for gap in gaps]
    ends = spaces
    if all(spaces) or not any(spaces):
        around = zip([widths[0], *widths], [*widths[1:], widths[-1]], strict=False)
        ends = [width > min(pair) for width, pair in zip(widths, around, strict=True)]
    words = [""]
    for letter, end in zip(re.findall(_letter(signs), run), (*ends, False), strict=True):
        words[-1] += letter
        if end:
            words.append("")
    return words


def _without_punctuation(token: str, signs: str) -> str:
    """`token`, which has no spaces, without what is neither letter nor digit between its first and its last one."""
    places = [index for index, char in enumerate(token) if char.isalnum()]
    if not places or len(places) == places[-1] + 1 - places[0]:
        return token
    start, end = places[0], places[-1] + 1
    core = token[start:end]
    if 2 * sum(map(str.isdigit, core)) >= len(places):
        return token
    kept = {index for found in _CONTRACTION.finditer(core) for index in range(*found.span())}
    inner = (char for index, char in enumerate(core) if char.isalnum() or index in kept or char in signs)
    return token[:start] + "".join(inner) + token[end:]


@cache
def _spelled(signs: str) -> re.Pattern[str]:
    """Three letters or more, each by itself, with whatever is between them."""
    letter = _letter(signs)
    alone = rf"{letter}(?![^\W_])"
    return re.compile(rf"(?<![^\W_]){alone}(?:(?:(?!{letter})[\W_])+{alone}){{2,}}")


def _letter(signs: str) -> str:
    return rf"(?:[^\W_]|[{re.escape(signs)}])" if signs else r"[^\W_]"
