"""The text stage against upstream's ids and embeddings; when T5 is loaded and when not."""

import dataclasses
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from jax_interp.errors import CheckpointError, JaxInterpError, UsageError
from jax_interp.pipeline.prompt.embeddings import EmbeddingCache, load_embeddings, save_embeddings
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
from jax_interp.pipeline.prompt.text import PromptNetwork, TextEncoder
from jax_interp.pipeline.prompt.text_tokenizer import load_tokenizer
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import StackedParams
from tests import golden
from tests.changed_weights import change_weight
from tests.tolerances import NETWORK_F32

PROMPTS = golden.manifest()["golden"]["L7_t5.npz"]["prompts"]
LONG = PROMPTS[6]


@pytest.fixture(scope="module")
def found(converted):
    return find_component(converted, "text_encoder")


@pytest.fixture(scope="module")
def encoder(found):
    return TextEncoder(found)


@pytest.fixture(scope="module")
def embeddings(encoder):
    return encoder.encode(PROMPTS)


@pytest.fixture
def loads(monkeypatch):
    """Grows by one whenever a network's parameters are loaded."""
    seen = []
    load = StackedParams.outer
    monkeypatch.setattr(StackedParams, "outer", lambda stored, *rest: seen.append(stored) or load(stored, *rest))
    return seen


@pytest.fixture
def copied(found, tmp_path):
    """The component in a folder whose tokenizer a test may damage."""
    shutil.copytree(found.path, tmp_path / "t5")
    return dataclasses.replace(found, path=tmp_path / "t5")


@pytest.mark.parametrize("index", range(7))
def test_ids_equal_upstreams(encoder, index, monkeypatch):
    def refuse(*args):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    ids, num_tokens = encoder.network.tokenize(PROMPTS[index])
    np.testing.assert_array_equal(ids, golden.load("L7_t5")[f"ids_{index}"])
    assert (num_tokens > 512) == (index == 6)


def test_the_default_negative_prompt_is_upstreams():
    assert DEFAULT_NEGATIVE_PROMPT == PROMPTS[5] == golden.manifest()["negative_prompt"]


@pytest.mark.parametrize("index", range(7))
def test_embeddings_equal_upstreams_and_are_zero_behind_the_prompt(embeddings, index):
    expected = golden.load("L7_t5")[f"emb_{index}"]
    assert embeddings.shape == (7, 512, 64)
    assert embeddings.dtype == np.float32
    assert golden.relative_l2(embeddings[index, : len(expected)], expected) < NETWORK_F32
    assert not embeddings[index, len(expected) :].any()


def test_another_text_is_noticed(encoder):
    expected = golden.load("L7_t5")["emb_0"]
    other = encoder.encode([PROMPTS[0].replace("red", "tan")])[0, : len(expected)]
    assert golden.relative_l2(other, expected) > NETWORK_F32


def test_a_text_has_the_same_bits_in_any_company(encoder, embeddings):
    np.testing.assert_array_equal(encoder.encode([PROMPTS[5]])[0], embeddings[5])
    mixed = encoder.encode([PROMPTS[2], PROMPTS[5], PROMPTS[2]])
    np.testing.assert_array_equal(mixed, embeddings[[2, 5, 2]])


def test_no_texts(encoder):
    assert encoder.encode([]).shape == (0, 512, 64)


def test_bfloat16(found, embeddings):
    rows = TextEncoder(found, "bfloat16").encode([PROMPTS[5]])
    assert rows.dtype == np.float32
    assert NETWORK_F32 < golden.relative_l2(rows[0], embeddings[5]) < 2**-6
    assert not rows[0, 268:].any()


def test_cut_prompt_is_said_once(found, tmp_path, caplog):
    encoder = TextEncoder(found, cache=EmbeddingCache(tmp_path))
    for _ in range(2):
        encoder.encode([LONG, "rain"])
    assert caplog.text.count("only the first 512 are used") == 1
    assert LONG[:40] in caplog.text
    caplog.clear()
    TextEncoder(found, cache=EmbeddingCache(tmp_path)).encode([LONG])
    assert "only the first 512 are used" in caplog.text


def test_weights_are_loaded_by_the_first_text_that_is_nowhere_yet(found, tmp_path, loads, embeddings):
    first = TextEncoder(found, cache=EmbeddingCache(tmp_path))
    assert first.width == 64
    assert not loads
    rows = first.encode(PROMPTS[:3])
    assert len(loads) == 1
    second = TextEncoder(found, cache=EmbeddingCache(tmp_path))
    np.testing.assert_array_equal(second.encode(PROMPTS[:3]), rows)
    np.testing.assert_array_equal(rows, embeddings[:3])
    assert len(loads) == 1
    second.encode([*PROMPTS[:3], "snow"])
    assert len(loads) == 2


def test_without_a_cache_nothing_is_kept(found, loads):
    for _ in range(2):
        TextEncoder(found).encode(["rain"])
    assert len(loads) == 2


def test_freed_weights_are_loaded_again(found, loads, embeddings):
    encoder = TextEncoder(found)
    encoder.unload()
    encoder.encode(["rain"])
    encoder.unload()
    np.testing.assert_array_equal(encoder.encode(["rain"])[0], embeddings[2])
    assert len(loads) == 2


def test_damaged_cache_entry_is_encoded_again(found, tmp_path, loads, embeddings, caplog):
    cache = EmbeddingCache(tmp_path)
    TextEncoder(found, cache=cache).encode(["rain"])
    (entry,) = tmp_path.rglob("*.safetensors")
    entry.write_bytes(entry.read_bytes()[:-9])
    for _ in range(2):
        np.testing.assert_array_equal(TextEncoder(found, cache=cache).encode(["rain"])[0], embeddings[2])
    assert len(loads) == 2
    assert caplog.text.count("encoding its text again") == 1


def test_identity_follows_weights_precision_and_tokenizer(found, copied):
    here = PromptNetwork(found, "float32").identity
    assert PromptNetwork(copied, "float32").identity == here
    assert PromptNetwork(found, "bfloat16").identity != here
    assert PromptNetwork(dataclasses.replace(found, dtype="bfloat16"), "float32").identity != here
    sources = [{"name": "pytorch_model.bin", "sha256": "0" * 64}]
    other = dataclasses.replace(found, manifest={**found.manifest, "sources": sources})
    assert PromptNetwork(other, "float32").identity != here
    with (copied.path / "tokenizer" / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert PromptNetwork(copied, "float32").identity != here


def test_given_embeddings_need_no_text_encoder(tmp_path, embeddings):
    save_embeddings(tmp_path / "texts.safetensors", dict(zip(PROMPTS[:3], embeddings[:3], strict=True)))
    encoder = TextEncoder(None, given=load_embeddings(tmp_path / "texts.safetensors"))
    np.testing.assert_array_equal(encoder.encode([PROMPTS[2], PROMPTS[0]]), embeddings[[2, 0]])
    encoder.unload()
    with pytest.raises(UsageError, match=r"no embedding was given for \['snow', 'hail'\]"):
        encoder.encode(["rain", "snow", "hail"])


def test_given_embeddings_come_first(found, loads, embeddings):
    given = {"rain": np.ones((2, 64), np.float32)}
    encoder = TextEncoder(found, given=given)
    rows = encoder.encode(["rain"])[0]
    assert not loads
    assert rows[:2].all()
    assert not rows[2:].any()
    np.testing.assert_array_equal(encoder.encode(["rain", PROMPTS[1]])[1], embeddings[1])


def test_given_embeddings_of_another_width(found):
    with pytest.raises(UsageError, match=r"widths \[32, 64\]"):
        TextEncoder(found, given={"rain": np.ones((2, 32), np.float32)})


def test_neither_network_nor_embeddings():
    with pytest.raises(UsageError, match="no text encoder"):
        TextEncoder(None)


@pytest.mark.parametrize("texts", ["rain", b"rain", None, 3, [3], ["rain", None], [b"rain"], {"rain": 1}])
def test_texts_of_another_type(encoder, texts):
    with pytest.raises(UsageError, match="expected a list of strings"):
        encoder.encode(texts)


def test_text_that_is_not_unicode(encoder):
    with pytest.raises(UsageError, match="not valid Unicode"):
        encoder.encode(["rain \ud800"])


def test_missing_tokenizer(copied):
    (copied.path / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: the tokenizer cannot be read .* convert it again"):
        TextEncoder(copied).encode(["rain"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "1.0"}', b"\xff\xfe", b"not json"])
def test_damaged_tokenizer(copied, content):
    (copied.path / "tokenizer" / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: damaged tokenizer .* convert the text_encoder again"):
        TextEncoder(copied).encode(["rain"])


def test_tokenizer_of_a_larger_network(found):
    with pytest.raises(CheckpointError, match="has token ids up to 359, the network only 300 embeddings"):
        load_tokenizer(found.path / "tokenizer" / "tokenizer.json", 300, "text_encoder")


def test_values_that_are_not_numbers_are_not_kept(found, tmp_path):
    cache = EmbeddingCache(tmp_path)
    encoder = TextEncoder(found, cache=cache)
    assert encoder.network is not None
    change_weight(encoder.network, "final_norm/scale", lambda scale: scale * np.float32(np.nan))
    with pytest.raises(JaxInterpError, match="not numbers"):
        encoder.encode(["rain"])
    assert not list(tmp_path.iterdir())


def test_tokenizer_loads_quietly_where_pytorch_is_absent(found):
    path = found.path / "tokenizer" / "tokenizer.json"
    code = (
        "import sys, pathlib; sys.modules['torch'] = None\n"
        "from jax_interp.pipeline.prompt.text_tokenizer import load_tokenizer\n"
        f"print(load_tokenizer(pathlib.Path({str(path)!r}), 364, 'text_encoder')('rain')['input_ids'])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.strip() == str(golden.load("L7_t5")["ids_2"].tolist())
