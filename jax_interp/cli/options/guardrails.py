"""The options for the guardrails of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from jax_interp.cli.options.networks import GUARDRAILS, NetworkFolders
from jax_interp.errors import UsageError
from jax_interp.pipeline.safety.settings import TIMEOUT, GuardrailSettings


@dataclass(frozen=True)
class GuardrailOptions:
    """The options that say whether and how prompts and frames are checked."""

    disable_guardrail: Annotated[
        bool,
        typer.Option(
            "--disable-guardrail",
            help="Check neither prompts nor frames; the model's licence then asks for a guardrail of your own.",
        ),
    ] = False
    guardrail_frame_stride: Annotated[
        int, typer.Option(help="Look at every n-th frame; faces are pixelated on all.")
    ] = 1
    guardrail_timeout: Annotated[
        float,
        typer.Option(
            help="Seconds that a check may take, loading and compiling included; one that takes longer blocks."
        ),
    ] = TIMEOUT

    def settings(self) -> GuardrailSettings:
        """Return the settings of the guardrails."""
        return GuardrailSettings(frame_stride=self.guardrail_frame_stride, timeout=self.guardrail_timeout)

    def wanted(self, folders: NetworkFolders) -> GuardrailSettings | None:
        """Return the settings of the guardrails, None if they are disabled; `folders` has those of their networks.

        Raises:
            UsageError: the guardrails are disabled, but options of theirs are given.
        """
        unusual = {
            "guardrail_frame_stride": self.guardrail_frame_stride != 1,
            "guardrail_timeout": self.guardrail_timeout != TIMEOUT,
        }
        refuse_unused(self.disable_guardrail, folders, unusual)
        return None if self.disable_guardrail else self.settings()


def refuse_unused(disabled: bool, folders: NetworkFolders, given: Mapping[str, bool] | None = None) -> None:
    """Raise `UsageError` if the guardrails are disabled and one of their options is given.

    `folders` are the given folders of networks; `given` tells whether each other option was given, by its parameter.
    """
    all_given = {f"{name}_dir": folders[name] is not None for name in GUARDRAILS} | dict(given or {})
    flags = [f"--{name.replace('_', '-')}" for name, there in all_given.items() if there]
    if disabled and flags:
        raise UsageError(f"--disable-guardrail contradicts {', '.join(flags)}: leave out one or the other")
