"""Words that are spelled out among other letters, or stretched; and ordinary words that are not."""

import pytest

from jax_interp.guardrails.text.hidden_words import HiddenWords

LISTED = ("florble", "raper", "ass", "butt", "god", "two zorks", "c++", "oo")


@pytest.fixture
def hidden():
    return HiddenWords(LISTED, is_word=lambda word: word in ("button", "class"))


@pytest.mark.parametrize(
    ("run", "found"),
    [
        ("florble", "florble"),
        ("aflorble", "florble"),
        ("iaflorbleai", "florble"),
        ("theflorbledog", "florble"),
        ("ass", "ass"),
        ("iassa", "ass"),
        ("xbuttx", "butt"),
    ],
)
def test_spelled_out(hidden, run, found):
    assert hidden.in_run(run) == found


@pytest.mark.parametrize("run", ["button", "class", "glass", "zass", "twozorks", "oo", "", "c++", "usa", "aiaiai"])
def test_not_spelled_out(hidden, run):
    assert hidden.in_run(run) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a floooorble", "florble"),
        ("fflloorrbbllee!", "florble"),
        ("florbleee", "florble"),
        ("asssss", "ass"),
        ("buttttt", "butt"),
        ("goood gooood", "god"),
    ],
)
def test_stretched(hidden, text, found):
    assert hidden.stretched(text) == found


@pytest.mark.parametrize("text", ["rapper", "good", "aass", "assess", "but", "sooo", "jälleen", "florbel", "bbut"])
def test_not_stretched(hidden, text):
    assert hidden.stretched(text) is None


def test_without_long_words_nothing_is_within():
    assert HiddenWords(("ass",), is_word=lambda _: False).in_run("glassy") is None
