"""The blocklist against the same rules written down once more, with nltk's own lemmatiser and data loaders."""

import random
import re
import string
import sys
import zipfile
from collections import Counter
from difflib import SequenceMatcher

import nltk
import pytest
from better_profanity import Profanity

from jax_interp.errors import CheckpointError, UsageError
from jax_interp.guardrails.blocklist import CATEGORY, Blocklist
from tests.guardrails.word_lists import CUSTOM, EXACT_MATCH, WHITELIST, write, write_blocklist

FILLERS = re.findall(
    r"\S+", "a red robot turns over the hill, then runs. It sees Dr. Dog e.g. near 3 lamps in mice, leaves"
)
LEET = {"a": "@4*", "i": "*l1", "o": "*0@", "u": "*v", "l": "1", "e": "*3", "s": "$5", "t": "7"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_blocklist(tmp_path_factory.mktemp("checkpoint") / "blocklist")


@pytest.fixture(scope="module")
def blocklist(folder):
    return Blocklist(folder)


@pytest.fixture(scope="module")
def nltk_loads(folder):
    """nltk finds its data in the folder, and only there."""
    before, nltk.data.path[:] = nltk.data.path[:], [str(folder / "nltk_data")]
    yield
    nltk.data.path[:] = before


class Rules:
    """Upstream's rules, one after the other. `misaligned` tells whether its whitelist was applied to wrong words."""

    def __init__(self):
        self.profanity = Profanity()
        self.profanity.load_censor_words(custom_words=list(CUSTOM), whitelist_words=list(WHITELIST))
        self.whitelist = {word.lower() for word in WHITELIST}
        self.misaligned = False

    def allow(self, prompt):
        self.misaligned = False
        if prompt == "":
            return False
        ascii_only = "".join(c if ord(c) < 128 else " " for c in prompt)
        lemmatizer = nltk.WordNetLemmatizer()
        lemmas = " ".join(lemmatizer.lemmatize(token) for token in nltk.word_tokenize(ascii_only))
        if self.censored(ascii_only) or self.censored(lemmas):
            return False
        lowered = re.sub(r"\s+", " ", ascii_only).strip().lower()
        return not any(self.on_list(lowered, entry) for entry in EXACT_MATCH)

    def censored(self, text):
        before, after = text.split(), self.profanity.censor(text, censor_char="\0").split()
        kept = [i for i, word in enumerate(before) if word.strip(string.punctuation).lower() in self.whitelist]
        self.misaligned |= len(before) != len(after) and bool(kept)
        for i in kept:
            if i < len(after):  # upstream ends with an IndexError
                after[i] = before[i]
        return "\0" in "".join(after)

    @staticmethod
    def on_list(prompt, entry):
        entry = re.sub(r"\s+", " ", entry).strip().lower()
        if re.search(rf"\b{re.escape(entry)}\b", prompt):
            return True
        words, count = prompt.split(), len(entry.split())
        windows = [" ".join(words[i : i + count]) for i in range(len(words) - count + 1)]
        needed = (len(entry) - 0.4) / len(entry)
        return len(entry) >= 6 and any(SequenceMatcher(None, w, entry).ratio() >= needed for w in windows)


def disguised(word, draw):
    """`word` in one of the ways in which people write a word that they should not."""
    return draw.choice(
        [
            lambda: word,
            lambda: word.upper(),
            lambda: "".join(draw.choice(LEET[c]) if c in LEET and draw.random() < 0.5 else c for c in word.lower()),
            lambda: word + "s",
            lambda: re.sub("y$", "ie", word) + "s",
            lambda: word + draw.choice([".", "!?", "'s", "...", ")", '"', ","]),
            lambda: draw.choice(["(", '"', "'", "-", "*"]) + word,
            lambda: word.replace(" ", "   \t"),
            lambda: word[: len(word) // 2] + draw.choice([" ", "-", ".", "_", "\u200b", "é"]) + word[len(word) // 2 :],
            lambda: word[:2] + word[3:],
            lambda: word[:3] + draw.choice("xq") + word[3:],
            lambda: "un" + word,
            lambda: word + draw.choice(["\u00e9", " 世界", "\N{SNOWMAN}", "\u0301"]),
            lambda: word + "\n" + word,
        ]
    )()


def prompts(number):
    draw = random.Random(7)
    rare = [*CUSTOM, *EXACT_MATCH, *WHITELIST, "wumpae", "gribblies", "blue", "long zibberish tale"]
    for _ in range(number):
        words = draw.choices(FILLERS, k=draw.randrange(9))
        for _ in range(draw.choice([0, 1, 1, 2])):
            words.insert(draw.randrange(len(words) + 1), disguised(draw.choice(rare), draw))
        yield draw.choice([" ", " ", "  ", " \n"]).join(words)


def test_verdicts_equal_those_of_the_rules_on_a_thousand_prompts(blocklist, nltk_loads):
    rules, seen = Rules(), Counter()
    for prompt in prompts(1000):
        allowed, ours = rules.allow(prompt), blocklist.check(prompt)
        seen[allowed, rules.misaligned] += 1
        if rules.misaligned:
            assert allowed or not ours.allowed, prompt
        else:
            assert ours.allowed == allowed, prompt
        assert (ours.category is None) == ours.allowed
    assert min(seen[True, False], seen[False, False]) > 300
    assert seen[True, True] + seen[False, True] < 30


def test_the_comparison_can_fail(folder, nltk_loads, tmp_path):
    write_blocklist(tmp_path / "blocklist")
    write(tmp_path / "blocklist/custom/blocklist", "\n".join(set(CUSTOM) - {"quibbit"}))
    other, rules = Blocklist(tmp_path / "blocklist"), Rules()
    assert any(other.check(prompt).allowed != rules.allow(prompt) for prompt in prompts(300))


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


def test_the_reason_hides_the_word(blocklist):
    assert "'a **** dog'" in blocklist.check("a florble dog").reason


def test_a_find_across_words_lets_no_later_one_pass(blocklist):
    """Upstream counts "blue grib" as one word, and so puts the last "blue" in the place of florble."""
    rules = Rules()
    assert not rules.censored("blue grib blue florble")
    assert rules.misaligned
    assert not blocklist.check("blue grib blue florble").allowed


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
    ("module", "package"), [("better_profanity", "better-profanity"), ("nltk.tokenize.punkt", "nltk")]
)
def test_a_missing_package_is_an_error_that_names_the_extra(folder, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"needs {package} .*jax-interp\[guardrails\]"):
        Blocklist(folder)
