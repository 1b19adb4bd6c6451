"""Words and dictionary forms against nltk's own loaders of the same files."""

import re

import nltk
import pytest

from jax_interp.guardrails.text.english import English
from tests.guardrails.text.word_lists import IRREGULAR, NOUNS, write_language

TEXTS = (
    "A dog. Then mice! It's Dr. Gribbly's leaf, e.g. 3.5 boxes (or 7) -- \"so\" they said... The end",
    "don't; can't we'd cannot gonna",
    "J. Florble met 5. dog and Prof. X.Y. Snargle went on. the end. Then what",
    "tabs\tand\n\nlines. New\nline: 12:30 a/b c++ $5 @home #1 50%",
    "",
    "...",
)
FORMS = [noun + ending for noun in NOUNS for ending in ("", "s", "es", "ses", "zes", "xes", "shes", "ches", "'s")]
FORMS += [re.sub(old, new, noun) for noun in NOUNS for old, new in (("f$", "ves"), ("y$", "ies"), ("man$", "men"))]
FORMS += [form.title() for form in FORMS] + [*IRREGULAR, "x", "s", "ss", "men", "ies", "."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """nltk finds its data in this folder, and only there."""
    folder = tmp_path_factory.mktemp("nltk_data")
    write_language(folder, NOUNS)
    before, nltk.data.path[:] = nltk.data.path[:], [str(folder)]
    yield folder
    nltk.data.path[:] = before


def words_of_nltk(text):
    """As `nltk.word_tokenize`, which keeps the sentence tables of the first folder that it finds them in."""
    sentences = nltk.tokenize.PunktTokenizer("english").tokenize(text)
    return [word for sentence in sentences for word in nltk.word_tokenize(sentence, preserve_line=True)]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_nltks(folder, text):
    assert English(folder).words(text) == words_of_nltk(text)


def test_lemmas_are_nltks(folder):
    english, lemmatizer = English(folder), nltk.WordNetLemmatizer()
    lemmas = {form: english.lemma(form) for form in FORMS}
    assert lemmas == {form: lemmatizer.lemmatize(form) for form in FORMS}
    assert sum(form != lemma for form, lemma in lemmas.items()) > 20
    known = {"mice": "mouse", "leaves": "leaf", "us": "u", "boxes": "box", "Boxes": "Boxes"}
    assert {form: english.lemma(form) for form in known} == known
    assert english.lemma("dogs") == "dogs"  # listed as irregular, so that it is not looked at as a plural in -s
