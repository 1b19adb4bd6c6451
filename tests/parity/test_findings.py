"""Findings: what holds, how it is said, and what becomes of it in the report."""

import json

import numpy as np
import pytest

from jax_interp.parity.findings import (
    BlockError,
    Difference,
    GoldenFinding,
    NetworkFinding,
    OutputError,
    ParityReport,
    WeightsFinding,
    relative_error,
)
from jax_interp.parity.tolerances import BF16_RATIO, PEER_BLOCK_F32, PEER_F32


def network(**changes):
    common = {
        "network": "text_encoder",
        "folder": "google-t5/t5-11b",
        "peer": "transformers T5",
        "weights": WeightsFinding(3),
    }
    return NetworkFinding(**(common | changes))


def test_errors_by_hand():
    assert relative_error([3.0, 4.0], [3.0, 4.0]) == 0
    assert relative_error([3.0, 9.0], [3.0, 4.0]) == pytest.approx(1)
    assert relative_error([0.0], [0.0]) == 0
    assert relative_error([1.0], [0.0]) == np.inf
    assert relative_error([np.nan], [1.0]) == np.inf
    assert relative_error([np.inf, 1.0], [np.inf, 1.0]) == np.inf
    assert relative_error([1.0, 2.0], [1.0]) == np.inf


def test_the_output_of_the_largest_ratio_counts():
    finding = OutputError.bfloat16([(0.2, 0.1), (0.3, 0.3)])
    assert finding.ratio == pytest.approx(2)
    assert not finding.held
    assert OutputError.bfloat16([(0.1, 0.1)]).held
    assert OutputError.bfloat16([(0.0, 0.0)]).ratio == 0
    assert OutputError.bfloat16([(0.1, 0.0)]).ratio == np.inf


@pytest.mark.parametrize(
    ("pair", "remark"),
    [
        ((0.1, np.inf), "not finite: PyTorch's own, as with a NaN or another shape"),
        ((0.1, np.nan), "not finite: PyTorch's own, as with a NaN or another shape"),
        ((np.inf, 0.1), "not finite: our error, as with a NaN or another shape"),
        ((np.inf, np.inf), "not finite: our error and PyTorch's own, as with a NaN or another shape"),
    ],
)
def test_an_error_that_is_not_finite_never_holds_and_is_said(pair, remark):
    for pairs in ([pair, (0.1, 0.1)], [(0.1, 0.1), pair]):
        finding = OutputError.bfloat16(pairs)
        assert finding.ratio == np.inf
        assert not finding.held
        [fault] = network(bfloat16=finding).faults()
        assert fault == f"text_encoder, output: bfloat16 ratio inf is above BF16_RATIO, 1.5: {remark}"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"configuration": {"width": (1, 2)}}, "text_encoder, configuration: width is 1, the checkpoint says 2"),
        (
            {"weights": WeightsFinding(3, (Difference("block 2", "mlp/kernel", 1234, 0.5),))},
            "text_encoder, block 2: 1,234 value(s) of mlp/kernel are not the checkpoint's (relative error 5.0e-01)",
        ),
        (
            {
                "weights": WeightsFinding(
                    3, (Difference("mlp", "mlp/bias", 4, np.inf, "is bfloat16, expected float32"),)
                )
            },
            "text_encoder, mlp: mlp/bias is bfloat16, expected float32",
        ),
        (
            {"float32": OutputError.float32(np.inf)},
            "text_encoder, output: float32 error inf is above PEER_F32, 0.0001: not finite: our error, as with a NaN"
            " or another shape",
        ),
        (
            {"blocks": (BlockError("block 0", 1e-3),)},
            "text_encoder, block 0: float32 error 1.0e-03 on the peer's input is above PEER_BLOCK_F32, 2e-05",
        ),
        (
            {"float32": OutputError.float32(1.0)},
            "text_encoder, output: float32 error 1 is above PEER_F32, 0.0001",
        ),
        (
            {"bfloat16": OutputError.bfloat16([(2.0, 1.0)])},
            "text_encoder, output: bfloat16 ratio 2 is above BF16_RATIO, 1.5",
        ),
    ],
)
def test_each_fault_names_network_and_block(changes, fault):
    found = network(**changes)
    assert not found.held
    assert list(found.faults()) == [fault]


def test_another_folder_is_part_of_the_title():
    assert network().title == "text_encoder"
    assert network(folder="t5-small").title == "text_encoder (t5-small)"


def test_at_the_tolerance_it_holds():
    found = network(
        blocks=(BlockError("block 0", PEER_BLOCK_F32),),
        float32=OutputError.float32(PEER_F32),
        bfloat16=OutputError.bfloat16([(BF16_RATIO, 1.0)]),
    )
    assert found.held
    assert not list(found.faults())


def test_recordings_count_at_least_or_at_most():
    share = GoldenFinding("L6", "frames", "float32", 0.5, "share within 1", 0.999, "FRAMES_WITHIN_ONE", at_least=True)
    assert not share.held
    assert share.fault() == "L6, frames: float32 share within 1 0.5 is below FRAMES_WITHIN_ONE, 0.999"
    error = GoldenFinding("L1", "output", "float32", 0.5, "relative error", 1.0, "NETWORK_F32")
    assert error.held
    report = ParityReport((), {}, (share, error))
    assert not report.held
    assert report.faults() == [share.fault()]


def test_the_report_is_json_whatever_was_found():
    report = ParityReport(
        (network(weights=WeightsFinding(3, (Difference("a", "a/kernel", 2, np.inf),)), configuration={"x": (1, 2)}),),
        {"face_blur": "neither folder has one"},
        versions={"jax": "1"},
    )
    values = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert values["held"] is False
    [found] = values["networks"]
    difference = {"block": "a", "array": "a/kernel", "values": 2, "error": "inf", "misfit": None}
    assert found["weights"]["differences"] == [difference]
    assert found["configuration"] == {"x": {"converted": 1, "checkpoint": 2}}
    assert found["float32"] is None
    assert len(values["faults"]) == 2
