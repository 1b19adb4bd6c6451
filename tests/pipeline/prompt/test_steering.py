"""Which texts a guidance reads, and what is said of those that it does not."""

import pytest

from jax_interp.diffusion.branches import Branch
from jax_interp.pipeline.prompt.steering import texts_of_world, texts_read


@pytest.mark.parametrize("texts", [texts_read, texts_of_world])
def test_a_prompt_that_is_not_read_is_said_to_be(texts, caplog):
    assert texts("rain", "fog", -1.0) == {Branch.UNCONDITIONAL: "fog"}
    assert caplog.text.count("the prompt cannot change the result") == 1
    caplog.clear()
    for prompt, guidance in (("", -1.0), ("rain", 0.0), ("rain", -0.5), ("rain", 7.0)):
        texts(prompt, "fog", guidance)
    assert not caplog.text


def test_without_a_negative_text_video2world_reads_the_prompt_at_any_guidance(caplog):
    assert texts_of_world("rain", "", -1.0) == {Branch.CONDITIONAL: "rain"}
    assert "guidance has no effect" in caplog.text
    assert "cannot change" not in caplog.text
