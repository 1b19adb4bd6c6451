"""Pixtral's picture preparation and token layout against transformers' processors, live."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import transformers.utils
from transformers.models.pixtral.image_processing_pil_pixtral import (
    PixtralImageProcessorPil,
    get_resize_output_image_size,
)

from jax_interp.config import PIXTRAL_12B_VISION, PixtralVisionConfig
from jax_interp.errors import MediaError, UsageError
from jax_interp.media.picture_tokens import TOKEN_NAMES, PictureTokens
from jax_interp.media.pictures.pixtral_image import (
    DEVIATION,
    MEAN,
    expand_pictures,
    picture_patch_grid,
    picture_tokens,
    prepare_picture,
)

IDS = PictureTokens(patch=10, row_break=12, end=13)
SIZES = [  # height, width
    (64, 64),
    (100, 37),
    (37, 100),
    (1, 1),
    (17, 16),
    (3, 200),
    (1024, 1024),
    (1025, 300),
    (1080, 1920),
    (1500, 900),
    (100, 20000),
]


def levels(prepared):
    return prepared * DEVIATION * 255 + MEAN * 255


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_pixels_equal_the_peers(size, rng):
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = PixtralImageProcessorPil()(picture, input_data_format="channels_last", return_tensors="np")
    ours = prepare_picture(picture, PIXTRAL_12B_VISION)
    assert ours.dtype == np.float32
    assert ours.shape[:2] == tuple(expected["image_sizes"][0])
    np.testing.assert_allclose(ours, expected["pixel_values"][0].transpose(1, 2, 0), atol=2e-6)


def test_swapped_channels_and_other_filters_would_be_noticed(rng):
    picture = rng.integers(0, 256, (90, 130, 3), dtype=np.uint8)
    ours = prepare_picture(picture, PIXTRAL_12B_VISION)
    for peer in (PixtralImageProcessorPil(resample=2), PixtralImageProcessorPil(image_mean=[0.5, 0.5, 0.5])):
        other = peer(picture, input_data_format="channels_last", return_tensors="np")
        assert np.abs(ours - other["pixel_values"][0].transpose(1, 2, 0)).max() > 0.05
    assert np.abs(ours - prepare_picture(picture[..., ::-1].copy(), PIXTRAL_12B_VISION)).max() > 0.05


def test_grids_equal_the_peers(rng):
    sizes = rng.integers(1, 5000, (3000, 2)).tolist() + rng.integers(1, 70, (300, 2)).tolist() + [[1, 1024], [2, 2048]]
    for height, width in sizes:
        empty = np.broadcast_to(np.uint8(0), (3, height, width))
        peer = get_resize_output_image_size(empty, size=1024, patch_size=16, input_data_format="channels_first")
        if 0 in peer:
            with pytest.raises(MediaError):
                picture_patch_grid(height, width, PIXTRAL_12B_VISION)
        else:
            grid = picture_patch_grid(height, width, PIXTRAL_12B_VISION)
            assert grid == (peer[0] // 16, peer[1] // 16), (height, width)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((1, 1), (1, 1)),
        ((16, 17), (1, 2)),
        ((576, 1024), (36, 64)),
        ((704, 1280), (36, 64)),  # shrunk to 563x1024
        ((100, 20000), (1, 64)),
        ((20000, 100), (64, 1)),
        ((1, 1024), (1, 64)),
        ((2, 2048), (1, 64)),
    ],
)
def test_grids_by_hand(size, grid):
    assert picture_patch_grid(size[0], size[1], PIXTRAL_12B_VISION) == grid


@pytest.mark.parametrize("size", [(1, 1025), (2049, 2), (10, 20000), (20000, 19)])
def test_a_side_that_would_vanish_is_refused(size):
    height, width = size
    with pytest.raises(MediaError, match=rf"{width}x{height} pixels is too elongated.*crop it.*1024:1"):
        picture_patch_grid(height, width, PIXTRAL_12B_VISION)
    with pytest.raises(MediaError, match="too elongated"):
        prepare_picture(np.zeros((*size, 3), np.uint8), PIXTRAL_12B_VISION)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_an_empty_picture_is_refused(size):
    with pytest.raises(MediaError, match=rf"{size[1]}x{size[0]} pixels is empty"):
        prepare_picture(np.zeros((*size, 3), np.uint8), PIXTRAL_12B_VISION)


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)])
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match=r"expected a uint8 picture \[Y, X, 3\]"):
        prepare_picture(picture, PIXTRAL_12B_VISION)


def test_sizes_come_from_the_config():
    config = PixtralVisionConfig(patch_size=4, image_size=20)
    assert picture_patch_grid(10, 40, config) == (2, 5)
    assert prepare_picture(np.zeros((10, 40, 3), np.uint8), config).shape == (8, 20, 3)


def test_one_level_by_hand():
    prepared = prepare_picture(np.full((16, 16, 3), (0, 128, 255), np.uint8), PIXTRAL_12B_VISION)
    expected = [-0.48145466 / 0.26862954, (128 / 255 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711]
    np.testing.assert_allclose(prepared, np.broadcast_to(expected, (16, 16, 3)), rtol=1e-6)


def test_an_upscaled_pixel_keeps_its_level():
    prepared = prepare_picture(np.full((1, 1, 3), 77, np.uint8), PIXTRAL_12B_VISION)
    np.testing.assert_allclose(levels(prepared), np.full((16, 16, 3), 77), atol=1e-3)


@pytest.fixture
def peers_layout(monkeypatch):
    """transformers' own text for a picture. Its module wants torchvision for what is not called here."""
    monkeypatch.setattr(transformers.utils, "is_vision_available", lambda: False)
    name = "transformers.models.pixtral.processing_pixtral"
    monkeypatch.delitem(sys.modules, name, raising=False)
    processor = importlib.import_module(name).PixtralProcessor
    names = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    stub = SimpleNamespace(patch_size=16, spatial_merge_size=1, **names)
    yield lambda rows, columns: processor.replace_image_token(stub, {"image_sizes": [(16 * rows, 16 * columns)]}, 0)
    monkeypatch.undo()
    sys.modules.pop(name, None)


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (4, 1), (2, 3), (36, 64)])
def test_layout_equals_the_peers(grid, peers_layout):
    assert "".join(picture_tokens(grid, TOKEN_NAMES)) == peers_layout(*grid)
    assert len(picture_tokens(grid, IDS)) == grid[0] * (grid[1] + 1)


def test_layout_by_hand():
    assert picture_tokens((2, 3), IDS) == [10, 10, 10, 12, 10, 10, 10, 13]
    assert picture_tokens((1, 2), TOKEN_NAMES) == ["[IMG]", "[IMG]", "[IMG_END]"]
    with pytest.raises(ValueError, match="0x3 holds no patch"):
        picture_tokens((0, 3), IDS)


def test_pictures_are_put_in_their_places_in_order():
    prompt = [1, 3, 10, 900, 10, 4]
    assert expand_pictures(prompt, [(1, 2), (2, 1)], IDS) == [1, 3, 10, 10, 13, 900, 10, 12, 10, 13, 4]
    assert expand_pictures([1, 900], [], IDS) == [1, 900]


@pytest.mark.parametrize("prompt", [[1, 900], [1, 10, 10]])
def test_a_prompt_with_too_few_or_too_many_places_is_refused(prompt):
    with pytest.raises(UsageError, match=rf"has {len(prompt) - 1 if 10 in prompt else 0} places .* 1 pictures"):
        expand_pictures(prompt, [(1, 1)], IDS)
