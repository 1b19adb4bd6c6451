"""The prompt upsampler against transformers, through the real conversion; and in every placement and mesh."""

import dataclasses
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from jax_interp.errors import CheckpointError, JaxInterpError, MediaError, UsageError
from jax_interp.media.pictures.pixtral_image import prepare_picture
from jax_interp.models.sampling import Sampling
from jax_interp.pipeline.prompt.prompt_upsampler import PromptUpsampler
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import StackedParams
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import Placement
from tests.changed_weights import change_weight
from tests.commands import jax_interp
from tests.convert.pixtral_checkpoints import CONFIG, peer, write_pixtral
from tests.tolerances import NETWORK_F32

GREEDY = UpsamplerSettings(instruction="What is it?", max_new_tokens=64, temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pixtral")
    checkpoints = write_pixtral(root / "checkpoints")
    outcome = jax_interp("convert", "--checkpoint-dir", checkpoints, "--output-dir", root / "converted")
    assert outcome.code == 0, outcome.output
    return root / "converted"


@pytest.fixture(scope="module")
def found(folder):
    return find_component(folder, "prompt_upsampler")


@pytest.fixture(scope="module")
def upsampler(found):
    return PromptUpsampler(found, "float32")


def draw(height=37, width=50):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def prompt_of(upsampler, picture, instruction=GREEDY.instruction):
    """What the language model reads."""
    ids = np.asarray(upsampler.prompt_ids(picture, instruction))
    prompt = upsampler.language.embed(ids)
    prompt[ids == 10] = upsampler.pictures.encode(prepare_picture(picture, CONFIG.vision))
    return ids, prompt


def answer(upsampler, picture, **changes):
    """Greedy tokens, without stopping."""
    _, prompt = prompt_of(upsampler, picture)
    return upsampler.language.answer(prompt, **{"max_new_tokens": 64, "stop": (), **changes})


@pytest.mark.slow
@pytest.mark.parametrize("size", [(37, 50), (4, 60), (64, 64), (90, 33)], ids=str)
def test_greedy_tokens_are_those_of_transformers(upsampler, size):
    """Of several sizes, among them a single row of patches and one that is shrunk first."""
    picture = draw(*size)
    ids, _ = prompt_of(upsampler, picture)
    pixels = prepare_picture(picture, CONFIG.vision)
    with torch.no_grad():
        theirs = peer().generate(
            input_ids=torch.from_numpy(ids)[None],
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            pixel_values=torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None],
            image_sizes=torch.tensor([pixels.shape[:2]]),
            max_new_tokens=64,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    assert answer(upsampler, picture) == theirs[0, len(ids) :].tolist()


def test_another_picture_gets_another_answer(upsampler):
    assert answer(upsampler, draw(37, 50)) != answer(upsampler, draw(50, 37))


def test_logits_are_those_of_a_forward_without_cache(upsampler, found):
    """Those behind a padded prompt."""
    ids, prompt = prompt_of(upsampler, draw())
    language = upsampler.language
    padded = np.pad(prompt, ((0, 300 - len(ids)), (0, 0)))[None]
    logits, caches = language._prefill(padded, np.asarray([len(ids)]), 384)
    assert [cache.key.shape[1] for cache in caches] == [384] * 3
    with torch.no_grad():
        inputs = torch.from_numpy(prompt)[None]
        theirs = peer().model.language_model(inputs_embeds=inputs).last_hidden_state
        expected = peer().lm_head(theirs)[0, -1].numpy()
    error = np.linalg.norm(np.asarray(logits)[0] - expected) / np.linalg.norm(expected)
    assert error < NETWORK_F32


def test_a_changed_weight_changes_the_answer(found):
    changed = PromptUpsampler(found, "float32")
    change_weight(changed.language, "blocks/attention/query/kernel", lambda kernel: kernel * 1.5)
    assert answer(changed, draw()) != answer(PromptUpsampler(found, "float32"), draw())


@pytest.mark.parametrize(
    "placement",
    [Placement("offloaded"), Placement("streamed"), Placement("streamed", 2), Placement("sharded")],
    ids=str,
)
def test_placement_changes_nothing(found, upsampler, placement):
    placed = PromptUpsampler(found, "float32")
    placed.place(placement)
    expected = upsampler.upsample(draw(), GREEDY)
    assert placed.upsample(draw(), GREEDY) == expected
    assert placed.upsample(draw(), GREEDY) == expected  # after the networks have left
    assert (placed.language._outer is None) != placement.stays


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [MeshShape(tensor=2), MeshShape(data=2, sequence=2), MeshShape(2, 2, 2)], ids=str)
@pytest.mark.parametrize("kind", ["resident", "sharded", "streamed"])
def test_mesh_changes_no_token(found, upsampler, mesh, kind):
    spread = PromptUpsampler(found, "float32", DeviceMesh(mesh))
    spread.place(Placement(kind))
    assert answer(spread, draw(), max_new_tokens=12) == answer(upsampler, draw(), max_new_tokens=12)


def test_tensor_has_to_divide_the_heads(found):
    with pytest.raises(UsageError, match=r"tensor=4 does not divide the 2 key and value heads of the prompt_upsampler"):
        PromptUpsampler(found, "float32", DeviceMesh(MeshShape(tensor=4)))


def test_a_seed_decides_what_is_drawn(upsampler):
    hot = {"sampling": Sampling(temperature=2.0, top_p=0.9), "max_new_tokens": 12}
    first, second = (answer(upsampler, draw(), seed=seed, **hot) for seed in (1, 2))
    assert first == answer(upsampler, draw(), seed=1, **hot) != second


def test_an_answer_ends_with_its_stop_token(upsampler):
    tokens = answer(upsampler, draw())
    stop = tokens[3]
    assert answer(upsampler, draw(), stop=[stop]) == tokens[: tokens.index(stop) + 1]


def test_progress_counts_tokens(upsampler):
    seen = []
    upsampler.upsample(draw(), dataclasses.replace(GREEDY, max_new_tokens=5), progress=seen.append)
    assert seen == [1, 2, 3, 4, 5]


def test_the_text_is_one_line_without_control_tokens(upsampler, monkeypatch):
    written = [*b"two\n lines", 2]
    alphabet = upsampler._tokenizer.get_vocab()
    ids = [alphabet[name] for name in upsampler._tokenizer.tokenize("two\n lines")] + [2]
    assert len(ids) == len(written)
    monkeypatch.setattr(upsampler.language, "answer", lambda *_, **__: ids)
    assert upsampler.upsample(draw(), GREEDY) == "two lines"
    monkeypatch.setattr(upsampler.language, "answer", lambda *_, **__: [2])
    with pytest.raises(JaxInterpError, match="wrote nothing; give a --prompt"):
        upsampler.upsample(draw(), GREEDY)


def test_the_embedding_table_stays_off_the_device(found):
    upsampler = PromptUpsampler(found, "float32")
    assert set(upsampler.language.outer) == {"final_norm", "head"}


@pytest.mark.parametrize(("size", "said"), [((1, 1), None), ((20000, 100), "too elongated"), ((0, 5), "is empty")])
def test_odd_pictures(upsampler, size, said):
    """One pixel is a patch; what shrinks to nothing is refused."""
    picture = np.zeros((*size, 3), np.uint8)
    if said is None:
        assert len(upsampler.upsample(picture, dataclasses.replace(GREEDY, max_new_tokens=2))) >= 0
        return
    with pytest.raises(MediaError, match=said):
        upsampler.upsample(picture, GREEDY)


def test_a_prompt_past_the_context_is_refused_before_anything_is_loaded(found, monkeypatch):
    short = dataclasses.replace(found, config=dataclasses.replace(
        found.config, text=dataclasses.replace(found.config.text, context_length=100)
    ))  # fmt: skip
    monkeypatch.setattr(StackedParams, "outer", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=r"a prompt of \d+ tokens and an answer of up to 64 do not fit .* 100 tokens"):
        PromptUpsampler(short, "float32").upsample(draw(), GREEDY)


def test_values_that_are_not_numbers_are_refused(found):
    broken = PromptUpsampler(found, "float32")
    change_weight(broken.language, "final_norm/scale", lambda scale: scale * np.float32(np.nan))
    with pytest.raises(JaxInterpError, match=r"token 1 of the answer .* not numbers; check the checkpoint"):
        broken.upsample(draw(), GREEDY)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"instruction": "  "}, "--upsampler-instruction is empty"),
        ({"instruction": "see [IMG] here"}, r"stand for the picture and the end"),
        ({"max_new_tokens": 0}, "--upsampler-tokens is 0"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"top_p": 0.0}, "top_p in"),
    ],
)
def test_settings_that_cannot_work(changes, said):
    with pytest.raises(UsageError, match=said):
        UpsamplerSettings(**changes)


def test_a_tokenizer_of_another_model(found, tmp_path):
    shutil.copytree(found.path, tmp_path / "copy")
    path = tmp_path / "copy/tokenizer/tokenizer.json"
    path.write_text(path.read_text().replace("[IMG_BREAK]", "[OTHER]"))
    with pytest.raises(CheckpointError, match=r"has no token \[IMG_BREAK\], so it is not Pixtral's"):
        PromptUpsampler(dataclasses.replace(found, path=tmp_path / "copy"), "float32").upsample(draw(), GREEDY)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: the tokenizer cannot be read"):
        PromptUpsampler(dataclasses.replace(found, path=tmp_path / "copy"), "float32").upsample(draw(), GREEDY)
