"""Accents that belong to a language stay, others do not."""

import pytest

from jax_interp.guardrails.text.accents import is_accented, without_marks


@pytest.mark.parametrize("char", "éåÜñçøłđñşőảựĦ")
def test_letters_with_an_accent(char):
    assert is_accented(char)


@pytest.mark.parametrize("char", ["e", "E", "1", "й", "ё", "ß", "æ", "ɓ", "\u0301", "が", "½", " ", "°", "¨"])
def test_others(char):
    assert not is_accented(char)


@pytest.mark.parametrize(
    "text",
    [
        "en väg i regn",
        "“väg”, på dansk",
        "jeg kan høre havet",
        "Kočka a pes již spí",
        "một cánh đồng lúa chín",
        "The café is près de l'église",  # more than one accented word tells of another language
        "a street",
        "",
    ],
)
def test_spelling_stays(text):
    assert without_marks(text) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("flörble", "florble"),  # nothing else tells what it is
        ("the flörble dog", "the florble dog"),
        ("a flörble dog", "a florble dog"),
        ("see flörblé", "see florble"),  # two in one word
        ("see fl0rblé", "see fl0rble"),  # a word has no digits
        ("en väg ɓy", "en väg ɓy"),  # other letters are not looked at
        ("see łøđħ", "see lodh"),
    ],
)
def test_a_disguise_goes(text, read):
    assert without_marks(text) == read
