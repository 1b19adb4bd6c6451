"""Methods of a pipeline that threads may call at once, and that run one after the other."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Shared(Protocol):
    """An object that threads share."""

    in_use: threading.RLock
    """Held by the thread whose call runs."""


SelfT = TypeVar("SelfT", bound=Shared)
ResultT = TypeVar("ResultT")
P = ParamSpec("P")


def one_at_a_time(method: Callable[Concatenate[SelfT, P], ResultT]) -> Callable[Concatenate[SelfT, P], ResultT]:
    """Make other threads wait until the call of `method`, or of another such method of the object, has returned.

    Networks load when first used, leave the device at the end of a stage, and pass through it block by block: two calls
    at once would take each other's parameters away. A plan of memory also holds for one call.
    """

    @wraps(method)
    def alone(self: SelfT, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        with self.in_use:
            return method(self, *args, **kwargs)

    return alone
