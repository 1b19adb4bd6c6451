"""The guardrail of prompts as a stage: the blocklist, then the classifier Llama Guard."""

from functools import cached_property
from typing import ClassVar

from jax_interp.components import TABLE
from jax_interp.config import Precision
from jax_interp.guardrails.text.blocklist import Blocklist
from jax_interp.guardrails.text.llama_guard import ANSWER_TOKENS, LlamaGuard
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.prompt.text_tokenizer import load_tokenizer, tokenizer_path
from jax_interp.pipeline.stages.language_model import LanguageModel
from jax_interp.pipeline.stages.offloading import offloading
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.placement import Placement

LISTS_FOLDER = "blocklist"
"""The subfolder of a converted classifier that has the word lists."""


class TextGuard:
    """The guardrail of prompts. Word lists, tokenizer and weights are read when they are first used.

    Its methods may raise; `pipeline.safety.fail_closed` turns every exception into a verdict that blocks.
    """

    COMPONENT: ClassVar[str] = "text_safety"
    PRECISION: ClassVar[Precision] = TABLE[COMPONENT].precision

    def __init__(self, converted: ConvertedComponent, devices: DeviceMesh | None = None):
        self.converted = converted
        self.language = LanguageModel(converted, self.PRECISION, devices)

    @cached_property
    def blocklist(self) -> Blocklist:
        """The word lists; reading them takes a second."""
        return Blocklist(self.converted.path / LISTS_FOLDER)

    @cached_property
    def classifier(self) -> LlamaGuard:
        """The classifier, which puts a question to the language model and parses its answer."""
        path = tokenizer_path(self.converted)
        tokenizer = load_tokenizer(path, self.converted.config.vocab_size, self.converted.component)
        return LlamaGuard(path.parent, tokenizer, self.converted.config.context_length)

    def check_words(self, prompt: str) -> Verdict:
        """Return the verdict of the blocklist."""
        return self.blocklist.check(prompt)

    def classify(self, prompt: str) -> Verdict:
        """Return the verdict of Llama Guard; afterwards offload weights that are not resident."""
        with offloading(self):
            return self.classifier.check(prompt, self._answer)

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next check on."""
        self.language.place(placement)

    def offload(self) -> None:
        """End the stage: parameters that are not resident leave the device."""
        self.language.offload()

    def unload(self) -> None:
        """Free the parameters' memory."""
        self.language.unload()

    def _answer(self, ids: list[int]) -> list[int]:
        return self.language.answer(self.language.embed(ids), max_new_tokens=ANSWER_TOKENS, stop=self.classifier.stop)
