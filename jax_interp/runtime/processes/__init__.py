"""Several processes that work as one, on JAX's distributed runtime: they start, agree, wait and end together.

In a single process, for which nobody calls `start`, everything here does nothing. What all processes call (`agree`,
`decide`, `barrier`, `finish`) they call in the same order, each from one thread.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from threading import Timer
from typing import Any, NoReturn

import jax

from jax_interp import terminal
from jax_interp.errors import INTERRUPTED, Ended, JaxInterpError, ProcessFailure, UsageError, explain
from jax_interp.runtime.member import Member
from jax_interp.runtime.processes.consensus import Consensus
from jax_interp.runtime.processes.jax_internals import coordination_client, detect_process, is_started
from jax_interp.runtime.processes.proxy import Proxy
from jax_interp.runtime.processes.rendezvous import meet, name_all
from jax_interp.runtime.processes.watch import Watch

TIMEOUT = 300.0
"""Seconds that the other processes have to join, or to make the same call."""
STALE = 60.0
"""Seconds without a sign of life after which a process counts as dead."""
REPORT_TIMEOUT = 15.0
"""Seconds that a process that failed has to report that to the others."""
_NOT_BY_PROXY = "no_grpc_proxy"


@dataclass(frozen=True)
class _Team:
    member: Member
    watch: Watch
    proxy: Proxy | None
    consensus: Consensus


_team: _Team | None = None


def index() -> int:
    """Return this process's number, from 0."""
    return _team.member.index if _team else 0


def count() -> int:
    """Return how many processes work together."""
    return _team.member.count if _team else 1


def is_first() -> bool:
    """Tell whether this is process 0, which writes."""
    return index() == 0


def start(member: Member | None = None, *, timeout: float = TIMEOUT, stale: float = STALE) -> None:
    """Join the other processes. Call this before JAX touches a device.

    Without `member`, Slurm, Open MPI or Kubernetes say who this process is. A single process joins nobody.

    Raises:
        UsageError: nobody says who this process is, or JAX runs already.
        ProcessFailure: not all processes came within `timeout` seconds, or they contradict each other.
    """
    global _team
    if is_started():
        raise UsageError("processes must join before JAX is used: call processes.start() first")
    member = _complete(member, timeout)
    if member.count == 1:
        return
    watch = Watch(member, meet(member, timeout), stale)
    proxy = Proxy(member.address, timeout, watch.lose_coordinator) if member.index else None
    address = proxy.address if proxy else f"127.0.0.1:{member.address[1]}"
    with _limit(timeout, watch.end, f"JAX did not connect to {member.coordinator} within {timeout:g} s"):
        _initialize(member, address, timeout, stale)
    client = coordination_client()
    watch.begin(client)
    _team = _Team(member, watch, proxy, Consensus(member, client, watch.name))


def _complete(member: Member | None, timeout: float) -> Member:
    """Return `member` with what the cluster's manager adds: everything, or which devices are this process's."""
    known = (
        (member.coordinator, member.count, member.index)
        if member
        else (os.environ.get("JAX_COORDINATOR_ADDRESS"), None, None)
    )
    try:
        address, number, own, devices = detect_process(*known, int(timeout))
    except (ImportError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{_WHO_AM_I} ({type(error).__name__}: {error})") from error
    if address is None or number is None or own is None:
        raise UsageError(_WHO_AM_I)
    devices = None if devices is None or "JAX_LOCAL_DEVICE_IDS" in os.environ else tuple(devices)
    return replace(member, local_devices=devices) if member else Member(address, own, number, devices)


_WHO_AM_I = (
    "cannot tell which process this is: neither Slurm, Open MPI nor Kubernetes says so. Give --coordinator HOST:PORT,"
    " --process-id and --num-processes"
)


@contextmanager
def _limit(seconds: float, end: Callable[..., object], *arguments: Any) -> Iterator[None]:
    """Call `end` if the block takes longer than `seconds`."""
    timer = Timer(seconds, end, arguments)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _initialize(member: Member, address: str, timeout: float, stale: float) -> None:
    # JAX's preemption service would swallow SIGTERM, by which cluster managers end a process.
    jax.config.update("jax_enable_preemption_service", False)
    # gRPC would ask a proxy even for this machine, of which JAX warns.
    direct = os.environ.get(_NOT_BY_PROXY) or os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    os.environ[_NOT_BY_PROXY] = ",".join(filter(None, [direct, "127.0.0.1"]))
    jax.config.update("jax_check_proxy_envs", False)
    jax.distributed.initialize(
        address,
        member.count,
        member.index,
        member.local_devices,
        cluster_detection_method="deactivate",
        # JAX answers what it notices with an abort, so the watch must notice first.
        initialization_timeout=int(timeout + 60),
        heartbeat_timeout_seconds=int(max(300, 10 * stale)),
        shutdown_timeout_seconds=60,
    )


def software() -> dict[str, str]:
    """Return the versions that have to be the same in all processes."""
    return {name: _version(name) for name in ("jax-interp", "jax", "jaxlib", "flax")}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def agree(name: str, facts: dict[str, Any], timeout: float | None = TIMEOUT) -> None:
    """Check that all processes have the same `facts` (values of JSON; dictionaries may nest).

    Raises:
        ProcessFailure: in every process the same; names each fact that differs, its values and whose they are. Also
            raised as by `barrier`.
    """
    stated = [_flat(theirs) for theirs in everyone(name, facts, timeout)]
    problems = []
    for fact in sorted(set().union(*stated)):
        whose: dict[str, list[int]] = {}
        for process, theirs in enumerate(stated):
            whose.setdefault(json.dumps(theirs.get(fact), sort_keys=True), []).append(process)
        if len(whose) > 1:
            problems.append(f"{fact} is " + ", ".join(f"{value} in {name_all(who)}" for value, who in whose.items()))
    if problems:
        raise ProcessFailure(f"the processes differ: {'; '.join(problems)}. Start all with the same")


def everyone(name: str, value: Any, timeout: float | None = TIMEOUT) -> list[Any]:
    """Return the `value` (of JSON) of each process, by its number, to every process; raise as `barrier` does."""
    return [value] if _team is None else _team.consensus.hear(name, value, timeout)


def decide(name: str, value: Any, timeout: float | None = TIMEOUT) -> Any:
    """Return process 0's `value` (of JSON) to every process; raise as `barrier` does."""
    return everyone(name, value if is_first() else None, timeout)[0]


def barrier(name: str, timeout: float | None = TIMEOUT) -> None:
    """Wait for all processes to come here.

    Raises:
        ProcessFailure: in every process; names those that did not come within `timeout` seconds. None waits for as long
            as all are alive.
    """
    everyone(name, None, timeout)


def finish() -> None:
    """Say that this process is done, wait until all are, and part from the others; called again, does nothing."""
    global _team
    if _team is None:
        return
    _team.consensus.hear("the end", None, None)
    _team.watch.stop()
    if _team.proxy:
        _team.proxy.expect_end()
    jax.distributed.shutdown()
    _team = None


@contextmanager
def shared_fate() -> Iterator[None]:
    """Let an exception in the block end every process; each prints one message, and none waits for the others forever.

    The process in which it was raised ends with its exit code, after its message, the others with ProcessFailure's.
    Without an exception, `finish` is called at the end, and so it is before one that all processes raise: one of them
    may still have something to write, or to remove.
    """
    try:
        yield
    except BaseException as error:
        if _team is None or _exit_code(error) == 0 or getattr(error, "in_all_processes", False):
            finish()
            raise
        _fail(_team, error)
    finish()


def _fail(team: _Team, error: BaseException) -> NoReturn:
    """Tell the others what failed, and end this process with `os._exit`: `sys.exit` would wait for the others."""
    foreseen = hasattr(error, "exit_code") or not isinstance(error, Exception) or isinstance(error, OSError)
    if not foreseen:
        with suppress(jax.errors.JaxRuntimeError):
            team.watch.await_life()  # what fails here may be how another's death shows
    code, own = _exit_code(error), team.member.index
    said = "interrupted" if code == INTERRUPTED else str(error) or type(error).__name__
    team.watch.keep_silent()
    with _limit(REPORT_TIMEOUT, os._exit, code):
        if not foreseen or isinstance(error, JaxInterpError | OSError | KeyboardInterrupt | Ended):
            terminal.show_failure(error)
        team.watch.publish(said if isinstance(error, ProcessFailure) else f"{team.watch.name(own)} failed: {said}", own)
        team.watch.leave(own)
        terminal.flush()
        os._exit(code)


def _exit_code(error: BaseException) -> int:
    """Return the exit code with which the command line would end."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    return getattr(error, "exit_code", explain(error)[1])


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, with keys such as `outer.inner`."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
