"""Each disguise is undone, and what is none stays."""

import pytest

from jax_interp.guardrails.text.disguises import (
    decoded,
    joined,
    leet_read,
    readings,
    shown_reversed,
    spelled_out,
    tags_shown,
    upside_down_read,
)
from jax_interp.guardrails.text.look_alikes import LookAlikes

SIGNS = "!|+*@$€"


@pytest.fixture(scope="module")
def look_alikes():
    return LookAlikes()


def test_the_text_comes_first_and_nothing_twice(look_alikes):
    assert list(readings("a street", look_alikes)) == ["a street"]
    assert list(readings("A street", look_alikes)) == ["A street", "a street"]
    for text in ("Ａ f.l.o s7reet, 4K", "f|o &#102; ǝʇ", "fӏo I'm In"):
        found = list(readings(text, look_alikes))
        assert found[0] == text
        assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("fIorbIe", "florble"),
        ("f|orb|e", "florble"),
        ("fӏorbӏe", "florble"),
        ("f.l.о.r.ь.l.е", "florble"),  # that it is Cyrillic shows when it is one word
        ("&#102;l&#111;", "flo"),
        ("\u202eolf\u202c", "flo"),
    ],
)
def test_disguises_on_top_of_each_other(look_alikes, text, read):
    assert read in readings(text, look_alikes)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("&#102;l&#x6F;r&amp;#98;le", "florble"),
        ("%66l%6Fr%2562le", "florble"),
        ("rock &amp; roll, 100 % wool, 50%off", "rock & roll, 100 % wool, 50%off"),
    ],
)
def test_encoded(text, read):
    assert decoded(text) == read


def test_reversed():
    assert shown_reversed("a \u202eelbrolf\u202c dog") == "a florble\u202c dog"
    assert shown_reversed("a \u202egod\nelbrolf") == "a dog\nelbrolf"
    assert shown_reversed("nothing") == "nothing"


def test_upside_down():
    assert upside_down_read("ǝlqɹoʅɟ ɐ") == "a florble"
    for text in ("bdpq nu", "ışık", "ɔ", "Λ"):  # letters of living languages tell nothing
        assert upside_down_read(text) == text


def test_tags():
    assert tags_shown("a\U000e0066\U000e006c\U000e006f z") == "aflo z"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("fl0r8l3 5n@rg1€", "florble snargle"),
        ("gr!bb|y", "gribbly"),
        ("z1bber1sh! fu(k", "zibberish! fuck"),
        ("4K, 16x9, f1 and 1920", "4K, ibxg, f1 and 1920"),
        ("wow!!! and 10%", "wow!!! and 10%"),
    ],
)
def test_leet(text, read):
    assert read in list(leet_read(text))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a f.l.o.r.b.l.e dog", "a florble dog"),
        ("f-l_o/r\\b l\ne", "florb l e"),
        ("f l o r b l e", "florble"),
        ("f  l  o     d o g", "flo dog"),
        ("(f)(l)(o), [f][l][o]", "(flo flo]"),
        ("fl.or_ble and/or", "florble andor"),
        ("flo'rble, he'll, who're, d'or, qu'il, l’été", "florble, he'll, who're, d'or, qu'il, l’été"),
        ("24-70mm, 3.14, 16:9, 4-5-5", "24-70mm, 3.14, 16:9, 4-5-5"),
        ("an o x", "an o x"),
        ("4 5 5 and 1, 2, 3", "4 5 5 and 1, 2, 3"),
        ("q u 1 8 8 1 7", "qu18817"),
        ("f*l*o*r*b*l*e", "florble"),
        ("... - !", "... - !"),
    ],
)
def test_joined(text, read):
    assert joined(text) == read


def test_signs_are_letters_or_separators():
    assert joined("f l * r b l €", SIGNS) == "fl*rbl€"
    assert joined("f l * r b l e") == "fl rble"


def test_runs_of_single_letters():
    assert "aflorbleby" in spelled_out("a f l o r b l e b y the sea")
    assert "xflo" in spelled_out("x; f l 0, and")
    assert not list(spelled_out("4 5 5, then 1, 2, 3"))
    assert not list(spelled_out("words, an o x, it's 4K"))


def test_runs_of_single_letters_lose_their_accents():
    assert "aflorble" in spelled_out("a f l ó ř b l ê dog")
