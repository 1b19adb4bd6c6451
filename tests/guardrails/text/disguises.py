"""Ways to write a word so that a list of words does not find it, by name: each is a function from the word."""

import string
from collections.abc import Callable, Mapping

LETTERS = string.ascii_lowercase
CYRILLIC = str.maketrans("aceopxyisjkhbmtn", "асеорхуіѕјкһьмтп")
GREEK = str.maketrans("aoeiuvkptxyn", "αοειυνκρτχγη")
CAPITALS = str.maketrans("ABCEHIJKMOPSTXYZ", "АВСЕНІЈКМОРЅТХΥΖ")
CHEROKEE = str.maketrans("abcdeghijklmprstvwz", "ᎪᏴᏟᎠᎬᏀᎻᎥᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ")
LISU = str.maketrans("abcdefghjklmnoprstuvwxyz", "ꓮꓐꓚꓓꓰꓝꓖꓧꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ")
ARMENIAN = str.maketrans("oghnusfq", "օցհոսѕքգ")
ACCENTS = str.maketrans("aeiouyrlsnzgcw", "áèîöůýřĺšñžğçŵ")
HOOKS = str.maketrans("bcdfghklmnprstuvyzqo", "ɓƈɗƒɠɦƙɫɱɲƥɍʂƭʉʋƴȥɋɵ")
UPSIDE_DOWN = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ɐqɔpǝɟƃɥᴉɾʞʅɯuodbɹsʇnʌʍxʎz")
SMALL_CAPITALS = str.maketrans(LETTERS, "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡxʏᴢ")
SUPERSCRIPT = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
DIGITS = str.maketrans("oiasetb", "0145378")
SIGNS = str.maketrans("aeislc", "@€!$|¢")
BARS = str.maketrans("l", "I")


def shifted(first: int, step: int = 1) -> Callable[[str], str]:
    """Letters from the alphabet of Unicode that begins at `first`."""
    return lambda word: "".join(chr(first + step * LETTERS.index(c)) if c in LETTERS else c for c in word)


def between(what: str) -> Callable[[str], str]:
    """`what` between letters."""
    return what.join


def after(what: str) -> Callable[[str], str]:
    """`what` after every letter."""
    return lambda word: "".join(c + what for c in word)


def mapped(*tables: Mapping[int, str | int]) -> Callable[[str], str]:
    """Some letters replaced."""

    def replace(word: str) -> str:
        for table in tables:
            word = word.translate(table)
        return word

    return replace


def alternating(first: Callable[[str], str], second: Callable[[str], str]) -> Callable[[str], str]:
    """Two disguises in turn, letter by letter."""
    return lambda word: "".join((first, second)[index % 2](c) for index, c in enumerate(word))


def entities(pattern: str) -> Callable[[str], str]:
    """Every letter as `pattern` of its number."""
    return lambda word: "".join(pattern % ord(c) for c in word)


def halves(what: str) -> Callable[[str], str]:
    """`what` in the middle."""
    return lambda word: word[: len(word) // 2] + what + word[len(word) // 2 :]


fullwidth = shifted(0xFF41)

STYLES = {
    "full-width": fullwidth,
    "full-width capitals": lambda word: shifted(0xFF21)(word),
    **{
        f"mathematical {name}": shifted(first)
        for name, first in {
            "bold": 0x1D41A,
            "bold italic": 0x1D482,
            "bold script": 0x1D4EA,
            "fraktur": 0x1D51E,
            "double-struck": 0x1D552,
            "bold fraktur": 0x1D586,
            "sans-serif": 0x1D5BA,
            "sans-serif bold italic": 0x1D656,
            "monospace": 0x1D68A,
        }.items()
    },
    "circled": shifted(0x24D0),
    "circled, negative": shifted(0x1F150),
    "squared": shifted(0x1F130),
    "squared, negative": shifted(0x1F170),
    "parenthesized": shifted(0x249C),
    "regional indicators": shifted(0x1F1E6),
    "regional indicators apart": lambda word: " ".join(shifted(0x1F1E6)(word)),
    "small capitals": mapped(SMALL_CAPITALS),
    "superscript": mapped(SUPERSCRIPT),
    "hooks": mapped(HOOKS),
    "accents": mapped(ACCENTS),
    "upside down": lambda word: word.translate(UPSIDE_DOWN)[::-1],
    "capitals in turn": lambda word: "".join(c.upper() if i % 2 else c for i, c in enumerate(word)),
}
INVISIBLE = {
    f"{name} between": between(what)
    for name, what in {
        "zero-width spaces": "\u200b",
        "zero-width joiners": "\u200d",
        "zero-width non-joiners": "\u200c",
        "word joiners": "\u2060",
        "byte order marks": "\ufeff",
        "soft hyphens": "\xad",
        "grapheme joiners": "\u034f",
        "left-to-right marks": "\u200e",
        "invisible times": "\u2062",
        "vowel separators": "\u180e",
        "Hangul fillers": "\u3164",
        "half-width fillers": "\uffa0",
        "variation selectors": "\ufe0f",
        "more variation selectors": "\U000e0101",
        "tags": "\U000e0041",
        "null characters": "\0",
        "backspaces": "\b",
        "private characters": "\ue000",
    }.items()
}
MARKS = {
    "acute accents": after("\u0301"),
    "strokes over letters": after("\u0336"),
    "enclosing circles": after("\u20dd"),
    "a heap of marks": after("\u0300\u0316\u0334\u035c\u0489"),
    "a mark on one letter": halves("\u0332"),
}
LOOK_ALIKES = {
    "Cyrillic": mapped(CYRILLIC),
    "Greek": mapped(GREEK),
    "Cyrillic and Greek capitals": lambda word: word.upper().translate(CAPITALS),
    "Cherokee": mapped(CHEROKEE),
    "Lisu": mapped(LISU),
    "Armenian": mapped(ARMENIAN),
    "Cyrillic and Greek in turn": alternating(mapped(CYRILLIC), mapped(GREEK)),
    "Arabic alef": lambda word: word.replace("l", "ا"),
    "palochka": lambda word: word.replace("l", "ӏ").replace("i", "Ӏ"),
    "capital I for l": mapped(BARS),
    "false Cyrillic": mapped(str.maketrans("nrwb", "ияшв")),
}
SEPARATED = {
    f"{name} between": between(what)
    for name, what in {
        "dots": ".",
        "hyphens": "-",
        "underscores": "_",
        "spaces": " ",
        "wide spaces": "   ",
        "line breaks": "\n",
        "tabs": "\t",
        "no-break spaces": "\xa0",
        "ideographic spaces": "\u3000",
        "thin spaces": "\u2009",
        "line separators": "\u2028",
        "bullets": "•",
        "middle dots": "·",
        "slashes": "/",
        "backslashes": "\\",
        "asterisks": "*",
        "tildes": "~",
        "commas": ", ",
        "bars": "|",
        "plus signs": "+",
        "apostrophes": "'",
        "dashes": " – ",
        "ellipses": "…",
        "hearts": "❤",
        "smileys": "😀",
        "heart emoji": "❤️",
        "spaces and line breaks": " \n ",
        "quotation marks": '"',
    }.items()
} | {
    "brackets": lambda word: "".join(f"({c})" for c in word),
    "square brackets": lambda word: "".join(f"[{c}]" for c in word),
    "a dot in the middle": halves("."),
    "an underscore in the middle": halves("_"),
    "an apostrophe in the middle": halves("'"),
    "two dots": lambda word: f"{word[:2]}.{word[2:4]}.{word[4:]}",
}
LEET = {
    "digits": mapped(DIGITS),
    "signs": mapped(SIGNS),
    "digits and signs": mapped(SIGNS, DIGITS),
    "digits and dots": lambda word: ".".join(word.translate(DIGITS)),
    "digits and spaces": lambda word: " ".join(word.translate(DIGITS)),
    "signs and spaces": lambda word: " ".join(word.translate(SIGNS)),
    "digits, full-width": lambda word: fullwidth(word.translate(DIGITS)),
    "digits and Cyrillic": lambda word: word.translate(DIGITS).translate(CYRILLIC),
    "digits and zero-width spaces": lambda word: "\u200b".join(word.translate(DIGITS)),
    "signs and accents": mapped(SIGNS, ACCENTS),
}
REPEATED = {
    "every letter three times": lambda word: "".join(3 * c for c in word),
    "every letter twice": lambda word: "".join(2 * c for c in word),
    "one letter four times": lambda word: word[:2] + 4 * word[2] + word[3:],
    "the last letter five times": lambda word: word + 4 * word[-1],
    "repeated and full-width": lambda word: fullwidth("".join(3 * c for c in word)),
    "repeated and Cyrillic": lambda word: "".join(3 * c for c in word).translate(CYRILLIC),
}
ENCODED = {
    "right-to-left override": lambda word: f"\u202e{word[::-1]}\u202c",
    "unended override": lambda word: f"\u202e{word[::-1]}",
    "entities": entities("&#%d;"),
    "hexadecimal entities": entities("&#x%x;"),
    "entities within entities": entities("&amp;#%d;"),
    "percent signs": entities("%%%02x"),
    "percent signs twice": entities("%%25%02x"),
    "one entity": lambda word: f"{word[0]}&#{ord(word[1])};{word[2:]}",
    "soft hyphens as entities": between("&shy;"),
    "written in tags": lambda word: "".join(chr(0xE0000 + ord(c)) for c in word),
}
MIXED = {
    "full-width and dots": lambda word: ".".join(fullwidth(word)),
    "full-width and zero-width spaces": lambda word: "\u200b".join(fullwidth(word)),
    "Cyrillic and dots": lambda word: ".".join(word.translate(CYRILLIC)),
    "Cyrillic and marks": lambda word: after("\u0336")(word.translate(CYRILLIC)),
    "mathematical and Cyrillic in turn": alternating(shifted(0x1D552), mapped(CYRILLIC)),
    "squared and spaces": lambda word: " ".join(shifted(0x1F170)(word)),
    "small capitals and underscores": lambda word: "_".join(word.translate(SMALL_CAPITALS)),
    "entities of full-width letters": lambda word: entities("&#%d;")(fullwidth(word)),
    "upside down with zero-width spaces": lambda word: "\u200b".join(word.translate(UPSIDE_DOWN)[::-1]),
}
DISGUISES: dict[str, Callable[[str], str]] = (
    STYLES | INVISIBLE | MARKS | LOOK_ALIKES | SEPARATED | LEET | REPEATED | ENCODED | MIXED
)
