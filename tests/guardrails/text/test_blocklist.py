"""The blocklist: what is refused, however it is written, and what may pass in any language."""

import sys
import time
import zipfile
from pathlib import Path

import better_profanity
import pytest

from jax_interp.errors import CheckpointError, UsageError
from jax_interp.guardrails.text.blocklist import CATEGORY, Blocklist
from tests.guardrails.text.disguises import DISGUISES
from tests.guardrails.text.ordinary_prompts import AWKWARD, PHRASES, prompts
from tests.guardrails.text.word_lists import write_blocklist

DISGUISED = ("florble", "snargle", "wumple", "quibbit", "oaves", "zibberish", "crumpetation")
"""Words that are looked for in every disguise, of both lists."""
SENTENCES = ("{}", "a {} dog in the rain", "see {}, then run", "I like {}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_blocklist(tmp_path_factory.mktemp("checkpoint") / "blocklist")


@pytest.fixture(scope="module")
def blocklist(folder):
    return Blocklist(folder)


@pytest.fixture(scope="module")
def real_words(tmp_path_factory):
    """With better-profanity's own words, 900 of them, on both lists."""
    own = (Path(better_profanity.__file__).parent / "profanity_wordlist.txt").read_text().split()
    return Blocklist(write_blocklist(tmp_path_factory.mktemp("real") / "blocklist", custom=own, exact_match=own))


REFUSED = {
    "": "empty",
    "a florble": "florble, on the list",
    "A FLoRbLe!": "whatever the case",
    "a f10rb1e": "digits for letters",
    "five flo rble": "across a space",
    "a flo-rble": "across a hyphen",
    "see gribblies": "plural in -ies",
    "see the wumpae.": "irregular plural",
    "It ends here. Two zorks": "phrase",
    "so zork-off": "phrase with a hyphen",
    "the ox": "whole word",
    "say norbert \n plinth": "whole phrase",
    "a zed +++ b": "nearly a phrase: the same words, but without an end of a word",
    "one moon  pie, sir": "whole phrase with other spaces",
    "wir quibbité": "what is not ASCII is a space",
}
ALLOWED = {
    " ": "nothing but space",
    "a red robot": "harmless",
    "flat land": "fiat with another letter, but on the whitelist",
    "(flat)": "the same with punctuation",
    "oxen": "not the whole word",
    "an o x": "whole words are not folded",
    "so zork off": "without the hyphen",
    "zibberishh zibberis zibberisz": "not nearly enough",
    "its blue grib": "a phrase whose first word is on the whitelist",
    "c+ c#": "no word character ends the entry",
    "世界": "not ASCII",
    "a * b **bold**": "asterisks alone",
}


@pytest.mark.parametrize("prompt", REFUSED, ids=REFUSED.values())
def test_refused(blocklist, prompt):
    verdict = blocklist.check(prompt)
    assert not verdict.allowed
    assert verdict.category == CATEGORY


@pytest.mark.parametrize("prompt", ALLOWED, ids=ALLOWED.values())
def test_allowed(blocklist, prompt):
    assert blocklist.check(prompt).allowed


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguised_word_is_refused(blocklist, name):
    disguised = [DISGUISES[name](word) for word in DISGUISED]
    assert any(word not in DISGUISED for word in disguised)
    passed = [
        prompt
        for word in disguised
        for prompt in map(str.format, SENTENCES, 4 * [word])
        if blocklist.check(prompt).allowed
    ]
    assert passed == []


def test_upstreams_rules_alone_would_let_most_disguises_pass(blocklist):
    """So that the test above tests what it says."""
    texts = [disguise(word) for disguise in DISGUISES.values() for word in DISGUISED]
    passed = [text for text in texts if blocklist._listed.find(text) is None]
    assert len(passed) > 0.7 * len(texts)


@pytest.mark.parametrize("text", ["two zorks", "zork-off", "norbert plinth", "moon pie"])
def test_disguised_phrases_are_refused(blocklist, text):
    for name in ("full-width", "Cyrillic", "soft hyphens between", "circled", "entities", "upside down"):
        assert not blocklist.check(f"a {DISGUISES[name](text)} in the rain").allowed, name
    assert "-" in text or not blocklist.check(" ".join(".".join(word) for word in text.split())).allowed


def test_the_plural_of_a_disguised_word_is_refused(blocklist):
    assert not blocklist.check("Ｇｒｉｂｂｌｉｅｓ").allowed
    assert not blocklist.check("g.r.i.b.b.l.i.e.s").allowed


@pytest.mark.parametrize("known", ["blocklist", "real_words"])
def test_no_ordinary_prompt_is_refused_for_its_disguise(known, request):
    """In a Russian prompt Russian words are no disguise, nor are accents where they belong."""
    blocklist = request.getfixturevalue(known)
    ordinary = [*prompts(1150), *((prompt, "awkward") for prompt in AWKWARD)]
    assert len(PHRASES) > 20
    ordinary = [(prompt, language) for prompt, language in ordinary if blocklist._listed.find(prompt) is None]
    assert len(ordinary) > 1100  # "XX век" and "negro" are on the real list, whatever the language
    refused = [
        (language, prompt, verdict.reason)
        for prompt, language in ordinary
        if not (verdict := blocklist.check(prompt)).allowed
    ]
    assert refused == []


def test_what_is_refused_as_it_stands_is_refused(real_words):
    refused = [prompt for prompt, _ in prompts(1150) if real_words._listed.find(prompt) is not None]
    assert len(refused) > 10
    assert not any(real_words.check(prompt).allowed for prompt in refused)


@pytest.mark.parametrize("kind", ["plain", "disguised", "languages"])
def test_a_prompt_of_150_words_takes_less_than_half_a_second(real_words, kind):
    words = {
        "plain": " ".join(AWKWARD[4:8]).split() * 9,
        "disguised": [word for disguise in DISGUISES.values() for word in ("in", "the", "old", disguise("street"))],
        "languages": " ".join(prompt for prompt, _ in prompts(200)).split(),
    }[kind]
    prompt = " ".join(words[:150])
    assert len(words) >= 150
    real_words.check("a street")
    took = []
    for _ in range(5):
        started = time.perf_counter()
        list(map(real_words._find, real_words._readings(prompt)))  # every reading, whatever is found
        took.append(time.perf_counter() - started)
    assert min(took) < 0.5


@pytest.mark.parametrize(
    "text", ["1", "!", "a.", "a ", "a!", "&amp;", "%25", "\u202ea", "é", "а", "x, ", "ǝ", "f\u0301", "a'"]
)
def test_long_prompts_take_a_time_in_proportion(blocklist, text):
    started = time.perf_counter()
    blocklist.check(text * (20_000 // len(text)))
    assert time.perf_counter() - started < 5


def test_the_reason_hides_the_word(blocklist):
    assert "'a **** dog'" in blocklist.check("a florble dog").reason


def test_text_alone_is_checked(blocklist):
    with pytest.raises(UsageError, match="expected text"):
        blocklist.check(None)


@pytest.mark.parametrize(
    "name",
    [
        "custom/blocklist",
        "whitelist/whitelisted",
        "exact_match/blocked",
        "nltk_data/corpora/wordnet.zip",
        "nltk_data/tokenizers/punkt_tab/english/abbrev_types.txt",
        "nltk_data/tokenizers/punkt_tab/english/ortho_context.tab",
    ],
)
def test_a_missing_file_is_an_error(tmp_path, name):
    (write_blocklist(tmp_path / "blocklist") / name).unlink()
    with pytest.raises(CheckpointError, match="download"):
        Blocklist(tmp_path / "blocklist")


def test_damaged_files_are_errors(tmp_path):
    folder = write_blocklist(tmp_path / "blocklist")
    (folder / "nltk_data/tokenizers/punkt_tab/english/ortho_context.tab").write_text("dog")
    with pytest.raises(CheckpointError, match="damaged"):
        Blocklist(folder)
    with zipfile.ZipFile(folder / "nltk_data/corpora/wordnet.zip", "w") as archive:
        archive.writestr("wordnet/index.noun", "")
    with pytest.raises(CheckpointError, match=r"noun\.exc"):
        Blocklist(folder)
    (folder / "custom/blocklist").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="custom/blocklist: cannot be read"):
        Blocklist(folder)
    (folder / "custom/blocklist").write_text("\n \n")
    with pytest.raises(CheckpointError, match="has no words"):
        Blocklist(folder)


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("better_profanity", "better-profanity"),
        ("nltk.tokenize.punkt", "nltk"),
        ("confusable_homoglyphs.confusables", "confusable-homoglyphs"),
    ],
)
def test_a_missing_package_is_an_error_that_names_the_extra(folder, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf'needs {package} .*pip install -e "\.\[guardrails\]"'):
        Blocklist(folder)
