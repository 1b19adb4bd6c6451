"""What ends every process when one of them fails, dies or hangs, whatever the others are waiting for.

Each process raises a counter in the coordination service; process 0 watches all counters, the others whether process 0
answers. All count rounds and not seconds, so that one that was asleep itself blames nobody.
"""

import json
import time
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any

import jax

from jax_interp import terminal
from jax_interp.errors import ProcessFailure
from jax_interp.runtime.member import Member

RESUME = "The same command, started again, goes on where it stopped"
_ROOM = "jax_interp/watch"
_BEATS, _FAILURE, _LEFT = f"{_ROOM}/beat/", f"{_ROOM}/failure/", f"{_ROOM}/left/"
_LINGER = 5.0
"""Seconds that process 0, with whom the service goes, stays for the others to read why."""


class Watch:
    """Watches the other processes from threads of its own, from `begin` to `stop`.

    `stale` is for how many seconds a process may give no sign of life.
    """

    def __init__(self, member: Member, hosts: list[str], stale: float) -> None:
        self._member, self._hosts, self._stale = member, hosts, stale
        self._interval = min(1.0, stale / 10)
        self._rounds = 0
        self._silent: dict[int, tuple[int | None, int]] = {}
        self._over = Event()
        self._ending = Lock()
        self._client: Any = None
        self._thread = Thread(target=self._beat, name="watch", daemon=True)

    def begin(self, client: Any) -> None:
        """Start watching through JAX's `client`."""
        self._client = client
        self._thread.start()
        if self._member.index != 0:
            Thread(target=self._listen, name="listen", daemon=True).start()

    def stop(self) -> None:
        """The others may go from now on."""
        self._over.set()
        self._thread.join(timeout=self._stale)

    def name(self, index: int) -> str:
        return f"process {index} ({self._hosts[index]})"

    def publish(self, message: str, index: int) -> None:
        """Tell all others that process `index` is why they end; whoever is first is believed."""
        with suppress(jax.errors.JaxRuntimeError):  # there is one already, or nobody to tell
            self._client.key_value_set(f"{_FAILURE}first", json.dumps({"process": index, "message": message}))

    def leave(self, missing: int) -> None:
        """Let this process go, all but process `missing` knowing why; process 0 goes last."""
        with suppress(jax.errors.JaxRuntimeError):
            if self._member.index != 0:
                self._client.key_value_set(f"{_LEFT}{self._member.index}", "1", allow_overwrite=True)
                return
            expected = set(range(1, self._member.count)) - {missing}
            deadline = time.monotonic() + _LINGER
            while expected - self._numbers(_LEFT).keys() and time.monotonic() < deadline:
                time.sleep(self._interval / 2)

    def keep_silent(self) -> None:
        """Leave the last word to the caller; if the watch has begun to say it, the caller waits for the end."""
        self._ending.acquire()  # never released: there is one message

    def end(self, message: str) -> None:
        """Print `message` and end this process at once, whatever its other threads wait for."""
        self.keep_silent()
        terminal.end_now(message, ProcessFailure.exit_code)

    def lose_coordinator(self, how: str = "is gone") -> None:
        """End, because process 0 is not there any more."""
        self.end(f"{self.name(0)} {how}. {RESUME}")

    def await_life(self) -> None:
        """Return when all others have shown that they live; where one does not, the watch ends this process."""
        first = self._beats()
        while any(self._beats().get(index, 0) < beat + 2 for index, beat in first.items()):
            time.sleep(self._interval)

    def _beats(self) -> dict[int, int]:
        """The other processes' counters."""
        beats = self._numbers(_BEATS)
        return {index: beats.get(index, 0) for index in range(self._member.count) if index != self._member.index}

    def _numbers(self, folder: str) -> dict[int, int]:
        """The numbers stored in `folder` under the processes' own."""
        return {int(key.rpartition("/")[2]): int(value) for key, value in self._client.key_value_dir_get(folder)}

    def _beat(self) -> None:
        while not self._over.wait(self._interval):
            try:
                self._round()
            except jax.errors.JaxRuntimeError as error:
                if not self._over.is_set():
                    self.lose_coordinator(f"does not answer ({str(error).splitlines()[0]})")
            self._rounds += 1

    def _round(self) -> None:
        self._client.key_value_set(f"{_BEATS}{self._member.index}", str(self._rounds + 1), allow_overwrite=True)
        if failure := self._client.key_value_dir_get(_FAILURE):
            found = json.loads(failure[0][1])
            self.leave(found["process"])
            self.end(found["message"])
        if self._member.index == 0:
            self._judge(self._beats())

    def _judge(self, beats: dict[int, int]) -> None:
        for index, beat in beats.items():
            last, rounds = self._silent.get(index, (None, 0))
            self._silent[index] = (beat, rounds + 1 if beat == last else 0)
            if self._silent[index][1] * self._interval >= self._stale:
                self.publish(
                    f"{self.name(index)} died or hangs: no sign of life for {self._stale:g} s. {RESUME}", index
                )

    def _listen(self) -> None:
        """Notice that the calls to process 0 do not come back."""
        rounds, ticks = self._rounds, 0
        while not self._over.wait(self._interval):
            ticks = ticks + 1 if rounds == self._rounds else 0
            rounds = self._rounds
            if ticks * self._interval >= self._stale:
                self.lose_coordinator(f"died or hangs: no answer for {self._stale:g} s")
