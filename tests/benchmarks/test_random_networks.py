"""The benchmarks' random networks are converted folders like any other."""

import numpy as np

from benchmarks import random_networks
from convert.networks.components import COMPONENTS
from jax_interp.components import TABLE
from jax_interp.config import DIT_7B
from jax_interp.nn.params import flatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests.models.video_tokenizer_weights import TINY


def test_a_random_network_is_found_and_loaded(tmp_path, monkeypatch):
    monkeypatch.setitem(random_networks.NETWORKS, "tokenizer", ("tokenizer", TINY))
    random_networks.write_network(tmp_path, "tokenizer")
    found = find_component(tmp_path, "tokenizer")
    params = load_params(found, COMPONENTS["tokenizer"].abstract(TINY))
    assert found.config == TINY
    assert all(np.isfinite(np.asarray(leaf, "float32")).all() for _, leaf in flatten(params))


def test_there_is_one_of_every_kind():
    assert {kind for kind, _ in random_networks.NETWORKS.values()} == set(TABLE)
    assert random_networks.NETWORKS["dit-7b"][1] is DIT_7B
