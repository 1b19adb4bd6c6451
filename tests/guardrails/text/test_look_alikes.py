"""Letters that look like Latin ones are read as those, where they are not what they seem to be."""

import sys

import pytest

from jax_interp.errors import UsageError
from jax_interp.guardrails.text.look_alikes import BAR, LookAlikes, normalized_text


@pytest.fixture(scope="module")
def look_alikes():
    return LookAlikes()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("ｆｌｏ 𝔣𝔩𝔬 ⓕⓛⓞ 🄵🄻🄾 🅵🅻🅾 🅕🅛🅞 🇫🇱🇴 ﬂo", "flo flo flo flo flo flo flo flo"),
        ("ꜰʟᴏʀʙʟᴇ ᶠˡᵒʳᵇˡᵉ", "florble florble"),
        ("ƒɫɵɍɓɫɇ ʉ", "florble u"),
        ("f\u200bl\u00ado\u2060r\ufe0fb\U000e0101l\u034fe\u180e", "florble"),
        ("f\u0336l\u20ddo\u0489r\u0301b", "florb"),
        ("f\u3164l\uffa0o", "flo"),
        ("a\nb\tc\u2003d", "a\nb\tc d"),
        ("plain, as it is!", "plain, as it is!"),
    ],
)
def test_what_is_visible(text, seen):
    assert normalized_text(text).lower() == seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("flоrblе ѕnаrglе", "florble snargle"),  # Cyrillic among Latin
        ("flοrblε", "florble"),  # Greek among Latin
        ("яed иight", "red night"),  # shapes, in words that are mixed
        ("ѕсоре αѕ", "scope as"),  # Cyrillic and Greek, without any Latin
        ("оаѵеѕ", "oaves"),  # wholly Cyrillic and wholly confusable, in no text that is Russian
        ("a НОЕ street", "a HOE street"),
        ("flاrble fӏorble", f"fl{BAR}rble f{BAR}orble"),
        ("florbl℮ 4×4", "florble 4x4"),
        ("ꓝꓡꓳꓣꓐꓡꓰ ᎪᏴ", "FLORBLE AB"),
    ],
)
def test_what_looks_like_latin_is_read(look_alikes, text, seen):
    assert look_alikes.read(text).lower() == seen.lower()


@pytest.mark.parametrize(
    "text",
    [
        "Ноев ковчег и НОЕ на рее",  # Russian, though some of its words are wholly confusable
        "СОМ, РОТ и КОТ плывут домой",
        "το νερο και ο ουρανος",
        "Tシャツを着た人がコーヒーを飲む",
        "一个人在工口",
        "اهلا بالعالم",
        "улица и дом",
    ],
)
def test_other_scripts_stay(look_alikes, text):
    assert look_alikes.read(text) == normalized_text(text)  # without the marks of й and が


def test_a_word_of_another_script_in_a_text_of_that_script_stays_unless_it_mixes(look_alikes):
    assert look_alikes.read("сор на улице города") == "сор на улице города"
    assert look_alikes.read("cор на улице города").startswith("cop ")  # its first letter is Latin


def test_a_few_words_of_another_script_in_latin_text_are_read_by_their_shapes(look_alikes):
    assert look_alikes.read("a соск in the rain").lower() == "a cock in the rain"
    assert look_alikes.read("a соск улица") == "a соск улица"  # as much Russian as English
    assert look_alikes.read("a б工 in the rain") == "a b工 in the rain"  # two scripts
    assert look_alikes.read("a 工口 in the rain") == "a 工口 in the rain"  # not every letter looks like one


def test_without_the_package_or_with_another_list_nothing_is_read(monkeypatch, tmp_path):
    from confusable_homoglyphs import confusables

    monkeypatch.setattr(confusables, "confusables_data", {"a": [{"c": "b"}], "z": []})
    with pytest.raises(UsageError, match="CONFUSABLE_DATA"):
        LookAlikes()
    for name in ("confusable_homoglyphs.confusables", "confusable_homoglyphs.categories"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("CONFUSABLE_DATA", str(tmp_path))
    with pytest.raises(UsageError, match=r"needs confusable-homoglyphs .*CONFUSABLE_DATA unset"):
        LookAlikes()
    (tmp_path / "categories.json").write_text("{")
    with pytest.raises(UsageError, match="CONFUSABLE_DATA unset"):
        LookAlikes()
