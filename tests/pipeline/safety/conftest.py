"""Guardrails with tiny networks that were converted."""

import pytest

from jax_interp.pipeline.safety.guardrails import Guardrails


@pytest.fixture(scope="module")
def guardrails(guarded):
    """Shared, because every one compiles anew: tests that change it put it right again."""
    return Guardrails.open(guarded)
