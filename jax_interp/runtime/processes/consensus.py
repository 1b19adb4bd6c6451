"""What every process says, heard by every process: through JAX's coordination service, by way of process 0."""

import json
import time
from collections.abc import Callable
from typing import Any

import jax

from jax_interp.errors import ProcessFailure
from jax_interp.runtime.member import Member
from jax_interp.runtime.processes.rendezvous import GRACE

_ROOM = "jax_interp/consensus"
_CHUNK = 2000
"""Milliseconds of one wait for the service, in which Ctrl-C is not heard."""


class Consensus:
    """Hears the processes in turn; `name` is how messages call one."""

    def __init__(self, member: Member, client: Any, name: Callable[[int], str]) -> None:
        self._member, self._client, self._name = member, client, name
        self._turn = 0

    def hear(self, topic: str, value: Any, timeout: float | None) -> list[Any]:
        """Everyone's `value`, in the processes' order.

        Raises:
            ProcessFailure: in every process; one came to another topic, or not within `timeout` seconds (None: wait).
        """
        turn, self._turn = self._turn, self._turn + 1
        place = f"{_ROOM}/{turn}"
        deadline = None if timeout is None else time.monotonic() + timeout
        self._client.key_value_set(f"{place}/{self._member.index}", json.dumps([topic, value]))
        if self._member.index == 0:
            answer = self._collect(place, topic, timeout, deadline)
            self._client.key_value_set(f"{place}/all", json.dumps(answer))
            if turn:  # who came here has read the answer before
                self._client.key_value_delete(f"{_ROOM}/{turn - 1}")
        else:
            found = self._wait(f"{place}/all", None if deadline is None else deadline + GRACE)
            if found is None:
                raise ProcessFailure(f"{self._name(0)} did not come within {timeout:g} s to: {topic}")
            answer = json.loads(found)
        if answer["error"]:
            raise ProcessFailure(answer["error"])
        return answer["values"]

    def _collect(self, place: str, topic: str, timeout: float | None, deadline: float | None) -> dict[str, Any]:
        """As process 0: what was said, or why this came to nothing."""
        found = [self._wait(f"{place}/{process}", deadline) for process in range(self._member.count)]
        said = [json.loads(text) for text in found if text is not None]
        error = None
        if len(said) < len(found):
            missing = ", ".join(self._name(process) for process, text in enumerate(found) if text is None)
            error = f"{missing} did not come within {timeout:g} s to: {topic}"
        elif others := [process for process, (theirs, _) in enumerate(said) if theirs != topic]:
            error = f"{self._name(others[0])} came to: {said[others[0]][0]}, while process 0 came to: {topic}"
        return {"values": [value for _, value in said], "error": error}

    def _wait(self, key: str, deadline: float | None) -> str | None:
        """What is stored under `key`, as soon as it is; None if it is not by `deadline`."""
        while True:
            left = _CHUNK if deadline is None else max(1, min(_CHUNK, int(1000 * (deadline - time.monotonic()))))
            try:
                return self._client.blocking_key_value_get(key, left)
            except jax.errors.JaxRuntimeError as error:
                if not str(error).startswith("DEADLINE_EXCEEDED"):
                    raise
            if left == 1:
                return None
