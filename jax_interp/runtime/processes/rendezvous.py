"""Where several processes find one another, before JAX starts: JAX's own waiting ends in an abort that names nobody."""

import json
import socket
import time
from contextlib import ExitStack, suppress
from typing import Any

from jax_interp.errors import ProcessFailure, UsageError
from jax_interp.files.json_file import parse_json
from jax_interp.runtime.member import Member

GRACE = 5.0
"""Seconds by which the others wait longer than process 0, whose message names who is missing."""
_RETRY = 0.2
_LONGEST_LINE = 2**20


def meet(member: Member, timeout: float) -> list[str]:
    """Wait until all processes are there; returns their machines' names, in order.

    Raises:
        ProcessFailure: within `timeout` seconds process 0 was not reached, or others did not come to it; every process
            that did come raises the same.
        UsageError: process 0 cannot listen at the address.
    """
    deadline = time.monotonic() + timeout
    answer = _gather(member, deadline, timeout) if member.index == 0 else _announce(member, deadline, timeout)
    if answer["error"]:
        raise ProcessFailure(answer["error"])
    return answer["hosts"]


def _gather(member: Member, deadline: float, timeout: float) -> dict[str, Any]:
    """As process 0: hear from all others, then answer all of them the same."""
    hosts = {0: member.host}
    calls: dict[int, socket.socket] = {}
    problem = None
    with ExitStack() as stack:
        door = stack.enter_context(_listen(member))
        while problem is None and len(hosts) < member.count:
            door.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                call = stack.enter_context(door.accept()[0])
            except TimeoutError:
                problem = _not_all(member, hosts, timeout)
                break
            hello = _read(call, {"index", "count", "host"}, time.monotonic() + GRACE)
            if hello is None or not 0 <= hello["index"] < hello["count"]:
                continue  # someone who tries ports
            for index in [index for index, earlier in calls.items() if _hung_up(earlier)]:
                del hosts[index], calls[index]  # it may be started anew and come again
            problem = _contradiction(member, hosts, hello)
            hosts[hello["index"]] = hello["host"]
            calls[-1 if problem else hello["index"]] = call
        answer = {"hosts": [hosts.get(index) for index in range(member.count)], "error": problem}
        for call in calls.values():
            _write(call, answer)
    return answer


def _not_all(member: Member, hosts: dict[int, str], timeout: float) -> str:
    missing = name_all([index for index in range(member.count) if index not in hosts])
    return (
        f"{missing} of {member.count} did not come to {member.coordinator} within {timeout:g} s."
        " Look at what they say, and start all processes at about the same time"
    )


def _contradiction(member: Member, hosts: dict[int, str], hello: dict[str, Any]) -> str | None:
    """Why the one who says `hello` cannot be one of us, if so."""
    index, count, host = hello["index"], hello["count"], hello["host"]
    if count != member.count:
        return (
            f"process {index} on {host} has --num-processes {count}, process 0 on {member.host} has {member.count}:"
            " give all the same"
        )
    if index in hosts:
        return f"--process-id {index} was given twice, on {hosts[index]} and on {host}: give each process its own"
    return None


def _listen(member: Member) -> socket.socket:
    port = member.address[1]
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise UsageError(
            f"--coordinator {member.coordinator}: cannot listen there ({error}); take a free port"
        ) from None


def _announce(member: Member, deadline: float, timeout: float) -> dict[str, Any]:
    """As another process: tell process 0 who is here, as soon as it listens, and wait for its answer."""
    reason = "nothing listens there"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(member.address, timeout=left) as call:
                _write(call, {"index": member.index, "count": member.count, "host": member.host})
                answer = _read(call, {"hosts", "error"}, deadline + GRACE)
                if answer is not None:
                    return answer
                reason = "what listens there gave no answer"
        except OSError as error:
            reason = str(error)
        time.sleep(_RETRY)
    return {
        "error": f"process {member.index} found no process 0 at {member.coordinator} within {timeout:g} s ({reason})."
        " Check that process 0 runs, and that other machines may connect to this port"
    }


def _write(call: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):  # who is gone is noticed by who waits for it
        call.sendall(json.dumps(message).encode() + b"\n")


def _read(call: socket.socket, keys: set[str], deadline: float) -> dict[str, Any] | None:
    """A line of JSON with `keys`; None if none comes by `deadline`."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
            call.settimeout(max(deadline - time.monotonic(), 0.001))
            if not (part := call.recv(4096)):
                return None
            line += part
        message = parse_json(line)
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) and message.keys() == keys else None


def _hung_up(call: socket.socket) -> bool:
    call.setblocking(False)
    try:
        return not call.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        call.settimeout(GRACE)


def name_all(indices: list[int]) -> str:
    """`process 1`, or `processes 1, 3`."""
    return ("process " if len(indices) == 1 else "processes ") + ", ".join(map(str, indices))
