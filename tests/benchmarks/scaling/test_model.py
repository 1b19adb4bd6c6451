"""Predictions at the ends of their formulas, where they can be worked out by hand."""

from dataclasses import replace

import pytest

from benchmarks.scaling.model import ASSUMED, break_even, predict
from jax_interp.config import DIT_7B
from jax_interp.runtime.mesh_shape import MeshShape

FREE = replace(ASSUMED, latency=0.0, network_latency=0.0, dispatch=0.0, memory=1e9)


def test_arithmetic_alone_falls_with_gpus():
    endless = replace(FREE, inside=1e12, network=1e12)
    assert predict(DIT_7B, MeshShape(data=8), endless).resident == pytest.approx(FREE.evaluation)
    assert predict(DIT_7B, MeshShape(sequence=8), endless).resident == pytest.approx(FREE.evaluation / 8, rel=0.01)


def test_exchanges_wait_for_the_slower_link():
    within = predict(DIT_7B, MeshShape(sequence=8), FREE).exchanges
    assert within == pytest.approx(28 * 37.84704 / FREE.inside)  # MB over GB/s are ms
    across = predict(DIT_7B, MeshShape(sequence=16), FREE).exchanges
    assert across == pytest.approx(28 * 4 * 5.40672 / 2 / FREE.network)


def test_an_evaluation_is_no_shorter_than_starting_its_programs():
    slow = replace(FREE, dispatch=1e4)
    assert predict(DIT_7B, MeshShape(sequence=64), slow).resident == 56 * 10.0


def test_break_even_lies_where_both_take_as_long():
    speed = break_even(16, FREE)
    one_host = predict(DIT_7B, MeshShape(sequence=8), FREE).resident
    there = predict(DIT_7B, MeshShape(sequence=16), replace(FREE, network=speed)).resident
    assert there == pytest.approx(one_host, rel=0.01)
    assert break_even(16, replace(FREE, dispatch=1e6)) is None


def test_divided_weights_count_where_they_take_longer_than_the_arithmetic():
    found = predict(DIT_7B, MeshShape(sequence=4), replace(FREE, gather=1.0, host=1e6))
    assert found.gathering == pytest.approx(28 * 511.705088 * 3 / 4)
    assert found.sharded == found.streamed == found.gathering + found.exchanges
    assert predict(DIT_7B, MeshShape(sequence=4), FREE).sharded == predict(DIT_7B, MeshShape(sequence=4), FREE).resident
    slow_host = predict(DIT_7B, MeshShape(sequence=4), replace(FREE, host=1.0))
    assert slow_host.streamed == slow_host.copying == pytest.approx(28 * 511.705088 / 4)
