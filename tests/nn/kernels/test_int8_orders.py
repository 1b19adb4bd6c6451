"""The order of tiles is measured once for a shape, and remembered on disk."""

import json

import jax
import pytest

from jax_interp.nn.kernels import int8_orders
from jax_interp.nn.kernels.int8_hopper import ORDERS
from jax_interp.nn.kernels.int8_orders import FILE, fastest_order

SHAPE = (10560, 4096, 4096)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(int8_orders, "_file", lambda: tmp_path / FILE)
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """The shapes that were measured; the second order always is the fastest."""
    seen = []

    def measure(*shape):
        seen.append(shape)
        return [3.0, 1.0, 2.0]

    monkeypatch.setattr(int8_orders, "_measure", measure)
    return seen


@pytest.fixture(autouse=True)
def a_new_process():
    fastest_order.cache_clear()
    yield
    fastest_order.cache_clear()


def test_a_shape_is_measured_once(folder, measured):
    assert [fastest_order(*SHAPE), fastest_order(*SHAPE)] == [ORDERS[1], ORDERS[1]]
    assert measured == [SHAPE]


def test_the_next_process_remembers(folder, measured):
    fastest_order(*SHAPE)
    fastest_order.cache_clear()
    assert fastest_order(*SHAPE) == ORDERS[1]
    assert measured == [SHAPE]
    assert list(json.loads((folder / FILE).read_text()).values()) == [1]


@pytest.mark.parametrize("damaged", ["", "[]", "{", '{"a": "b"}', '{"a": -1}', '{"a": 1e9}', "\udcff"])
def test_a_damaged_file_costs_a_measurement(folder, measured, damaged):
    (folder / FILE).write_bytes(damaged.encode(errors="surrogateescape"))
    assert fastest_order(*SHAPE) == ORDERS[1]
    assert measured == [SHAPE]
    assert len(json.loads((folder / FILE).read_text())) == 1


def test_an_order_that_this_version_lacks_is_measured_again(folder, measured):
    fastest_order(*SHAPE)
    remembered = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(dict.fromkeys(remembered, 63)))
    fastest_order.cache_clear()
    assert fastest_order(*SHAPE) == ORDERS[1]
    assert len(measured) == 2


def test_a_folder_that_is_not_there_is_no_fault(tmp_path, monkeypatch, measured):
    monkeypatch.setattr(int8_orders, "_file", lambda: tmp_path / "gone" / FILE)
    assert fastest_order(*SHAPE) == ORDERS[1]


def test_small_products_are_not_measured(folder, measured):
    assert fastest_order(64, 64, 128) == ORDERS[0]
    assert not measured
    assert not (folder / FILE).exists()


def test_the_file_is_beside_the_compiled_programs(tmp_path):
    before = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        assert int8_orders._file() == tmp_path / FILE
        jax.config.update("jax_compilation_cache_dir", "gs://bucket/folder")
        assert int8_orders._file() is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
