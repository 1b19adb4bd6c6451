"""A tiny `blocklist` folder with made-up words, laid out as the published one, with the smallest WordNet that loads."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

CUSTOM = ("florble", "snargle", "Gribbly", "wumple", "two zorks", "zork-off", "quibbit", "fiat", "blue grib", "oaves")
WHITELIST = ("Flat", "blue")
EXACT_MATCH = ("Norbert Plinth", "zibberish", "crumpetation", "ox", "moon   pie", "c++", "Zed +++")
NOUNS = ("gribbly", "quibbit", "wumple", "dog", "mouse", "leaf", "glass", "man", "box", "church", "florble", "us", "u")
IRREGULAR = {"mice": "mouse", "wumpae": "wumple", "dogs": "hound"}
ABBREVIATIONS = ("dr", "prof", "e.g")

_NOTICE = "  1 the licence stands here, indented  \n"


def write_blocklist(
    folder: Path,
    custom: Sequence[str] = CUSTOM,
    exact_match: Sequence[str] = EXACT_MATCH,
    nouns: Sequence[str] = NOUNS,
) -> Path:
    """Write all of it to `folder`, a new one."""
    for name, words in (("custom/blocklist", custom), ("whitelist/whitelisted", WHITELIST)):
        write(folder / name, "\n".join(words) + "\n")
    write(folder / "exact_match/blocked", "\n\n".join(exact_match))
    write_language(folder / "nltk_data", nouns)
    return folder


def write_language(nltk_data: Path, nouns: Sequence[str]) -> None:
    """WordNet with `nouns` and nothing else, and tables of sentence ends."""
    punkt = nltk_data / "tokenizers/punkt_tab/english"
    write(punkt / "abbrev_types.txt", "\n".join(ABBREVIATIONS))
    write(punkt / "collocations.tab", "##number##\tdog\nj\tflorble")
    write(punkt / "sent_starters.txt", "then\nthe")
    write(punkt / "ortho_context.tab", "dog\t46\nthe\t126\nthen\t62\nsnargle\t32")
    data, index = _NOTICE, _NOTICE
    for noun in sorted(nouns):
        line = f"{len(data):08d} 03 n 01 {noun} 0 000 | made up  \n"
        index += f"{noun} n 1 0 1 0 {len(data):08d}  \n"
        data += line
    members = {
        "lexnames": "00\tadj.all\t3\n01\tadj.pert\t3\n02\tadv.all\t4\n03\tnoun.Tops\t1\n",
        "index.noun": index,
        "data.noun": data,
        "noun.exc": "".join(f"{form} {noun}\n" for form, noun in IRREGULAR.items()),
        "index.sense": "",
        "cntlist.rev": "",
    }
    for kind in ("adj", "adv", "verb"):
        members |= {f"index.{kind}": _NOTICE, f"data.{kind}": _NOTICE, f"{kind}.exc": ""}
    path = nltk_data / "corpora/wordnet.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"wordnet/{name}", content)


def write(path: Path, content: str) -> None:
    """Write a text file and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")
