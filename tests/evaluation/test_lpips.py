"""LPIPS through a stand-in for its package: how it is called, and what is said where it cannot be."""

import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jax_interp.evaluation.lpips import find_lpips


class Network:
    def __init__(self, net, verbose):
        assert (net, verbose) == ("alex", False)
        self.grad = True

    def eval(self):
        return self

    def requires_grad_(self, wanted):
        self.grad = wanted

    def __call__(self, a, b):
        assert not self.grad
        return np.asarray(np.abs(a - b).mean())  # float() takes it, as it takes a tensor of one value


def test_frames_are_compared_one_by_one(monkeypatch):
    package = SimpleNamespace(LPIPS=Network, im2tensor=lambda image: np.asarray(image) / 127.5 - 1)
    monkeypatch.setitem(sys.modules, "lpips", package)
    distance = find_lpips()
    assert distance is not None
    made = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (0, 255)])
    assert distance(made, np.zeros_like(made)) == pytest.approx(1)


def test_without_the_package_it_is_left_out_and_said(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with caplog.at_level(logging.INFO, "jax_interp"):
        assert find_lpips() is None
    assert "LPIPS is left out: it needs `pip install lpips`" in caplog.text


def test_where_its_weights_cannot_be_fetched_too(monkeypatch, caplog):
    def fail(**options):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=fail))
    with caplog.at_level(logging.INFO, "jax_interp"):
        assert find_lpips() is None
    assert "it cannot be loaded (no route to host)" in caplog.text
