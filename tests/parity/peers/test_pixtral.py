"""Where four kinds of files have Pixtral's weights; `tests/parity/comparison` runs networks of each."""

import numpy as np
import pytest

pytest.importorskip("torch")

from convert.mapping.ops import halved_pairs, transpose
from jax_interp.parity.peers.pixtral import halves, is_mistrals, names_in
from tests.convert.pixtral_checkpoints import CONFIG

QUERY = "language_model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("mark", "places"),
    [
        (
            "model.language_model.norm.weight",
            {QUERY: (f"model.{QUERY}", None), "lm_head.weight": ("lm_head.weight", None)},
        ),
        (
            "language_model.model.norm.weight",
            {
                QUERY: ("language_model.model.layers.1.self_attn.q_proj.weight", None),
                "lm_head.weight": ("language_model.lm_head.weight", None),
                "vision_tower.ln_pre.weight": ("vision_tower.ln_pre.weight", None),
            },
        ),
        (
            "vision_language_adapter.w_in.weight",
            {
                QUERY: ("layers.1.attention.wq.weight", CONFIG.text.head_width),
                "lm_head.weight": ("output.weight", None),
                "multi_modal_projector.linear_2.bias": ("vision_language_adapter.w_out.bias", None),
            },
        ),
        (
            "model.mm_projector.projector.0.weight",
            {
                QUERY: ("model.model.layers.1.attention.wq.weight", CONFIG.text.head_width),
                "multi_modal_projector.linear_2.bias": ("model.mm_projector.projector.2.bias", None),
                "vision_tower.transformer.layers.0.attention.k_proj.weight": (
                    "model.vision_encoder.transformer.layers.0.attention.wk.weight",
                    CONFIG.vision.head_width,
                ),
            },
        ),
    ],
)
def test_names_of_each_kind(mark, places):
    locate = names_in([mark], CONFIG)
    assert {name: locate(name) for name in places} == places
    assert is_mistrals([mark]) == (places.get(QUERY, ("", 1))[1] is not None)


def test_rotary_pairs_by_hand():
    weight = np.arange(8.0).reshape(8, 1)  # two heads of 4
    assert halves(weight, 4).reshape(-1).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_both_sides_put_them_in_the_same_place(rng):
    weight = rng.normal(size=(24, 5))
    assert np.array_equal(transpose.forward(halves(weight, 8)), halved_pairs(8).forward(weight))
