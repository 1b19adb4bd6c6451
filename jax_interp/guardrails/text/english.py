"""Words of an English text and their dictionary forms, by the language data beside the word lists.

Only text is read: the word index of a WordNet archive and nltk's tables of where sentences end. nltk's own loaders are
not used, because they would look through the home folder and the system for other data first.
"""

import importlib
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from jax_interp.errors import CheckpointError, UsageError

WORDNET = "corpora/wordnet.zip"
SENTENCES = "tokenizers/punkt_tab/english"
_LARGEST = 1 << 26
"""The number of bytes that an archive's member may unpack to; the largest that is read has 5 million."""
_NOUN_ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("ves", "f"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)
"""Endings of plurals and of their singulars. Source: WordNet's manual page morphy(7WN)."""


class English:
    """English words: splits text into words as nltk does, and looks nouns up in WordNet."""

    def __init__(self, nltk_data: Path):
        """Read `WORDNET` and `SENTENCES` below `nltk_data`.

        Raises:
            UsageError: nltk is not installed.
            CheckpointError: a file is missing or damaged.
        """
        index, irregular = (_member(nltk_data / WORDNET, f"wordnet/{name}") for name in ("index.noun", "noun.exc"))
        # The licence, at the top of the index, is indented.
        self._nouns = {line.split(" ", 1)[0] for line in index if line and not line.startswith(" ")}
        self._irregular = {terms[0]: tuple(terms[1:]) for line in irregular if (terms := line.split())}
        self._sentences = _sentence_splitter(nltk_data / SENTENCES)
        self._words = _import_nltk("nltk.tokenize.destructive").NLTKWordTokenizer()

    def words(self, text: str) -> list[str]:
        """Split `text` into words and punctuation marks, in order."""
        return [word for sentence in self._sentences.tokenize(text) for word in self._words.tokenize(sentence)]

    def is_noun(self, word: str) -> bool:
        """Tell whether `word`, or its singular, is among WordNet's nouns."""
        return self.lemma(word) in self._nouns

    def lemma(self, word: str) -> str:
        """Return the shortest noun of WordNet that `word` is a form of, or `word` itself if there is none.

        parity: every word is taken for a noun, and capitals are kept, so that "Dogs" is none that WordNet knows.
        """
        forms = self._irregular.get(word)
        if forms is None:
            forms = tuple(word.removesuffix(old) + new for old, new in _NOUN_ENDINGS if word.endswith(old))
        return min((form for form in (word, *forms) if form in self._nouns), key=len, default=word)


def _sentence_splitter(folder: Path) -> Any:
    punkt = _import_nltk("nltk.tokenize.punkt")
    parameters = punkt.PunktParameters()
    parameters.abbrev_types = set(_lines(folder / "abbrev_types.txt"))
    parameters.sent_starters = set(_lines(folder / "sent_starters.txt"))
    parameters.collocations = {tuple(line.split("\t")) for line in _lines(folder / "collocations.tab")}
    contexts = folder / "ortho_context.tab"
    try:
        pairs = [(word, int(flags)) for word, flags in (line.split("\t") for line in _lines(contexts))]
    except ValueError as error:
        raise CheckpointError(f"{contexts}: damaged ({error}); download it again") from error
    parameters.ortho_context = defaultdict(int, pairs)
    return punkt.PunktSentenceTokenizer(parameters)


def _import_nltk(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f'the blocklist needs nltk ({error}): install it with `pip install -e ".[guardrails]"` in the clone'
        ) from error


def _lines(path: Path) -> list[str]:
    try:
        return _split(path.read_text("utf-8"))
    except (OSError, UnicodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); download it again and convert again") from error


def _member(archive: Path, name: str) -> list[str]:
    """Return the lines of one file of a zip archive."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(name) as member:
            content = member.read(_LARGEST + 1)
    except (OSError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"{archive}: {name} cannot be read ({error}); download it again and convert again"
        ) from error
    if len(content) > _LARGEST:
        raise CheckpointError(f"{archive}: {name} is larger than any WordNet; download it again")
    return _split(content.decode("utf-8", "replace"))


def _split(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []
