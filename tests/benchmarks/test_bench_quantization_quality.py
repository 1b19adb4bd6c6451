"""Errors that can be worked out by hand."""

import numpy as np
import pytest

from benchmarks.bench_quantization_quality import NOISE_LEVELS, Results, block_table, errors, psnr, ratios


def filled(*values):
    """Results whose arrays hold one value each: before the first block, after it, and everything else."""
    before, after, rest = (np.full(4, value, np.float32) for value in values)
    frames = np.full((1, 2, 2, 3), values[2], np.uint8)
    return Results([before, after], [before, after], [rest] * len(NOISE_LEVELS), np.full((1, 3, 2), values[2]), frames)


def test_errors_are_relative_to_float32():
    found = errors(filled(10.0, 15.0, 110), filled(10.0, 14.0, 100))
    assert found["block_errors"] == pytest.approx([1 / 4])  # of what the block adds
    assert found["stream_errors"] == pytest.approx([0, 1 / 14])
    assert found["evaluation_errors"] == {str(level): pytest.approx(0.1) for level in NOISE_LEVELS}
    assert found["latents_error"] == pytest.approx(0.1)
    assert found["frames_psnr"] == pytest.approx(20 * np.log10(255 / 10))


def test_equal_frames_have_no_ratio():
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    assert psnr(frames, frames) is None
    assert psnr(None, frames) is None


def test_ratios_to_bfloat16_are_the_largest_ones():
    halves = {"block_errors": [0.01, 0.02], "evaluation_errors": {"0.25": 0.1, "1.0": 0.1}}
    ours = {"block_errors": [0.03, 0.02], "evaluation_errors": {"0.25": 0.1, "1.0": 0.2}}
    assert ratios(ours, halves) == {"block": pytest.approx(3), "evaluation": pytest.approx(2)}
    lines = block_table({"bfloat16": halves, "int8": ours}).splitlines()
    assert [line.split() for line in lines] == [
        ["block", "bfloat16", "int8"],
        ["0", "1.00", "%", "3.00", "%"],
        ["1", "2.00", "%", "2.00", "%"],
    ]
