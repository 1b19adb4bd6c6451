"""Every kind of Pixtral checkpoint through the real conversion, against transformers' own model, live."""

import json
import shutil
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers

from convert.conversion import ConversionRequest, convert_checkpoints
from convert.exporting import export_checkpoints
from convert.inspection import inspect_path
from convert.mapping.ops import halved_pairs, picture_patches
from convert.networks.components import PROMPT_UPSAMPLER
from jax_interp.config import PIXTRAL_12B, PixtralConfig, from_json, to_json
from jax_interp.errors import CheckpointError
from jax_interp.models.decoder_lm import empty_cache
from jax_interp.models.pixtral import Pixtral
from jax_interp.nn.params import Network, flatten, unflatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests.convert.checkpoints import everything_below
from tests.convert.pixtral_checkpoints import (
    CONFIG,
    FOLDER,
    KINDS,
    mistral_tensors,
    newer_tensors,
    peer,
    write_pixtral,
)
from tests.golden import relative_l2
from tests.pixtral_tokenizer import CONTROL_TOKENS
from tests.tolerances import PEER_F32

IMG, BREAK, END = (CONTROL_TOKENS.index(name) for name in ("[IMG]", "[IMG_BREAK]", "[IMG_END]"))


def convert(source, target, **options):
    (path,) = convert_checkpoints(ConversionRequest(checkpoint_dir=source, output_dir=target, **options))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A converted folder of each kind, by kind."""
    root = tmp_path_factory.mktemp("pixtral")
    for kind in KINDS:
        convert(write_pixtral(root / "checkpoints" / kind, kind), root / "converted" / kind)
    return {kind: root / "converted" / kind for kind in KINDS}


@cache
def network():
    return Network(lambda rngs: Pixtral(CONFIG, dtype=jnp.float32, rngs=rngs))


def params_of(folder):
    return load_params(find_component(folder, "prompt_upsampler"), network().abstract)


@cache
def forward():
    def run(params, ids, pixels):
        model = network().bind(params)
        patches = model.vision(pixels)
        (places,) = jnp.nonzero(ids[0] == IMG, size=patches.shape[1])
        shown = model.language.embed(ids).at[0, places].set(patches[0])
        cache = empty_cache(CONFIG.text, *ids.shape, dtype=jnp.float32)
        return model.language.prefill(shown, jnp.array([ids.shape[1]]), cache)[0]

    return jax.jit(run)


def prompt(rng, rows, columns):
    """Ids with a picture of so many patches among them, and the picture."""
    text = rng.integers(len(CONTROL_TOKENS), CONFIG.text.vocab_size, 9).tolist()
    row = [IMG] * columns
    ids = [1, *text[:4], *([*row, BREAK] * (rows - 1)), *row, END, *text[4:]]
    return np.array([ids], np.int32), rng.normal(size=(1, 4 * rows, 4 * columns, 3)).astype(np.float32)


def logits_of_peer(ids, pixels, model=None):
    model = peer() if model is None else model
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(ids).long(),
            pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2),
            image_sizes=torch.tensor([pixels.shape[1:3]]),
        )
    return out.logits[:, -1].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (1, 7)], ids=str)
def test_logits_after_a_picture_equal_transformers(folders, grid, rng):
    ids, pixels = prompt(rng, *grid)
    assert relative_l2(forward()(params_of(folders["published"]), ids, pixels), logits_of_peer(ids, pixels)) < PEER_F32


@pytest.mark.parametrize(
    "path", ["language/blocks/attention/key/kernel", "vision/blocks/attention/query/kernel", "vision/projector/up/bias"]
)
def test_one_changed_weight_is_noticed(folders, path, rng):
    ids, pixels = prompt(rng, 2, 5)
    leaves = dict(flatten(params_of(folders["published"])))
    leaves[path] = leaves[path].at[(0,) * leaves[path].ndim].add(0.5)
    assert relative_l2(forward()(unflatten(leaves), ids, pixels), logits_of_peer(ids, pixels)) > PEER_F32


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_kind_gives_the_same_parameters(folders, kind):
    expected, found = (dict(flatten(params_of(folders[name]))) for name in ("published", kind))
    assert expected.keys() == found.keys()
    for path, array in expected.items():
        assert np.asarray(array).tobytes() == np.asarray(found[path]).tobytes(), path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_configuration(folders, kind):
    config = find_component(folders[kind], "prompt_upsampler").config
    if kind == "upstream":  # which names the published picture encoder
        assert config.vision.image_size == PIXTRAL_12B.vision.image_size
        config = replace(config, vision=replace(config.vision, image_size=CONFIG.vision.image_size))
    assert config == CONFIG
    assert (folders[kind] / FOLDER / "tokenizer" / "tokenizer.json").is_file()


def test_mistrals_weights_are_in_another_order():
    """Else the test above would say nothing about queries and keys."""
    ours, theirs = newer_tensors(), mistral_tensors()
    for network_name, name in (("language_model.", ""), ("vision_tower.transformer.", "vision_encoder.transformer.")):
        part = "self_attn" if not name else "attention"
        for letter in "qk":
            moved = theirs[f"{name}layers.1.attention.w{letter}.weight"]
            assert not np.array_equal(ours[f"model.{network_name}layers.1.{part}.{letter}_proj.weight"], moved)


def test_scores_of_neighbouring_pairs_are_those_of_halves(rng):
    """Mistral's picture encoder turns complex numbers of neighbours; transformers' and ours the halves of a head."""
    weights = rng.normal(size=(2, 16, 6))  # queries and keys of two heads of width 8
    patch, angles = rng.normal(size=(2, 6)), rng.normal(size=(2, 4))

    def complex_scores():
        q, k = (
            ((w @ x).reshape(2, 4, 2) @ [1, 1j]) * np.exp(1j * a)
            for w, x, a in zip(weights, patch, angles, strict=True)
        )
        return (q * k.conj()).real.sum(axis=-1)

    def turned(w, x, a):
        first, second = np.split((x @ halved_pairs(8).forward(w)).reshape(2, 8), 2, axis=-1)
        return np.concatenate([first * np.cos(a) - second * np.sin(a), second * np.cos(a) + first * np.sin(a)], axis=-1)

    q, k = (turned(*each) for each in zip(weights, patch, angles, strict=True))
    np.testing.assert_allclose((q * k).sum(axis=-1), complex_scores(), rtol=1e-12)


def test_patches_move_back(rng):
    kernel = rng.normal(size=(5, 3, 4, 4))
    np.testing.assert_array_equal(picture_patches.inverse(picture_patches.forward(kernel)), kernel)
    assert picture_patches.forward(kernel).shape == (48, 5)


def test_export_is_transformers_own_and_converts_back(folders, tmp_path, rng):
    (exported,) = export_checkpoints(folders["mistral"], tmp_path / "exported")
    assert {path.name for path in exported.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    model = transformers.LlavaForConditionalGeneration.from_pretrained(exported, attn_implementation="eager").eval()
    ids, pixels = prompt(rng, 2, 5)
    np.testing.assert_array_equal(logits_of_peer(ids, pixels, model), logits_of_peer(ids, pixels))
    convert(tmp_path / "exported", tmp_path / "again")
    before, after = (find_component(folder, "prompt_upsampler") for folder in (folders["mistral"], tmp_path / "again"))
    assert before.config == after.config
    arrays = [
        {name: data for name, data in everything_below(found.path / "params").items() if "/c/" in name}
        for found in (before, after)
    ]
    assert arrays[0]
    assert arrays[0] == arrays[1]
    export_checkpoints(folders["mistral"], tmp_path / "exported", overwrite=True)


Q = "layers.1.attention.wq.weight"
FAULTS = [
    ({Q: None}, ["missing keys (1)", Q]),
    ({"layers.0.surprise": np.zeros(2, np.float32)}, ["no rule knows (1)", "layers.0.surprise"]),
    ({Q: np.zeros((32, 39), np.float32)}, ["wrong shape", "(32, 39), expected (32, 40)"]),
    ({Q: np.zeros(32, np.float32)}, ["wrong shape", "(32,), expected (32, 40)"]),
    ({"vision_encoder.patch_conv.weight": np.zeros((128, 48), np.float32)}, ["patch_conv.weight has shape (128, 48)"]),
    ({"tok_embeddings.weight": None}, ["tok_embeddings.weight is missing"]),
    ({"output.weight": None}, ["missing keys (1)", "output.weight"]),
]


@pytest.mark.parametrize(("changes", "texts"), FAULTS, ids=[" and ".join(changes) for changes, _ in FAULTS])
def test_keys_that_do_not_fit_are_named_and_nothing_is_written(tmp_path, changes, texts):
    source = write_pixtral(tmp_path / "checkpoints", "mistral", changes)
    with pytest.raises(CheckpointError) as error:
        convert(source, tmp_path / "converted")
    assert all(text in str(error.value) for text in [*texts, str(source / FOLDER)])
    assert not (tmp_path / "converted").exists()


def test_an_embedding_without_its_language_model_is_no_pixtral(tmp_path):
    tensors = {key: None for key in newer_tensors() if "language_model.layers" in key}
    source = write_pixtral(tmp_path / "checkpoints", "newer", tensors)
    with pytest.raises(CheckpointError, match=r"no key looks like model.language_model.layers.0"):
        convert(source, tmp_path / "converted")


def test_a_missing_tokenizer_is_named_with_where_to_get_it(tmp_path):
    source = write_pixtral(tmp_path / "checkpoints", "mistral")
    (source / FOLDER / "tokenizer.json").rename(source / FOLDER / "tekken.json")
    with pytest.raises(CheckpointError, match=r"lacks tokenizer.json \(of mistral-community/pixtral-12b"):
        convert(source, tmp_path / "converted")


def test_old_buffers_are_ignored(folders, tmp_path):
    buffers = {
        f"model.language_model.layers.{n}.self_attn.rotary_emb.inv_freq": np.zeros(4, np.float32) for n in (0, 2)
    }
    source = write_pixtral(tmp_path / "checkpoints", "newer", buffers)
    convert(source, tmp_path / "converted")
    before, after = (dict(flatten(params_of(folder))) for folder in (folders["newer"], tmp_path / "converted"))
    assert all(np.array_equal(before[path], after[path]) for path in before)


def test_a_folder_without_settings_is_refused(tmp_path):
    source = write_pixtral(tmp_path / "checkpoints", "mistral")
    (source / FOLDER / "params.json").unlink()
    with pytest.raises(CheckpointError, match=r"Pixtral-12B: lacks params.json or config.json"):
        convert(source, tmp_path / "converted")


def test_what_is_wrong_with_a_folder_is_told_of_the_network_that_it_is_of(tmp_path):
    folder = write_pixtral(tmp_path, "upstream") / FOLDER
    (whole,) = inspect_path(tmp_path)
    assert (whole.kind, whole.faults) == ("prompt_upsampler, not converted", ())
    assert whole.parameters == sum(array.size for array in newer_tensors().values())
    (folder / "config.json").unlink()
    (finding,) = inspect_path(tmp_path)
    assert finding.kind == "prompt_upsampler, not converted"
    assert "lacks config.json" in finding.faults[0]


def test_the_published_network_has_the_published_size():
    leaves = list(flatten(PROMPT_UPSAMPLER.abstract(PIXTRAL_12B)))
    assert round(sum(leaf.size for _, leaf in leaves) / 1e9, 2) == 12.68
    assert {path.partition("/")[0] for path, _ in leaves} == {"language", "vision"}
    assert from_json(PixtralConfig, to_json(PIXTRAL_12B), "here") == PIXTRAL_12B


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"text": 5}, "here: not a PixtralConfig of this version: text is 5, expected an object .DecoderConfig"),
        ({"vision": {"width": 3}}, "vision lacks num_layers, num_heads, head_width, mlp_width"),
        ({"tone": 1}, "here: not a PixtralConfig of this version: tone is not known to this version"),
    ],
)
def test_a_configuration_of_another_version_is_refused(change, text):
    with pytest.raises(CheckpointError, match=text):
        from_json(PixtralConfig, to_json(CONFIG) | change, "here")


def test_a_damaged_configuration_of_a_converted_folder_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["published"], tmp_path / "converted") / FOLDER
    description = json.loads((folder / "config.json").read_text())
    del description["config"]["vision"]["width"]
    (folder / "config.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match=r"not a PixtralConfig of this version: vision lacks width;"):
        find_component(folder.parent, "prompt_upsampler")
