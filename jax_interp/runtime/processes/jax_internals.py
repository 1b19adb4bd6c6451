"""What is used of JAX beyond its public names; nothing else imports `jax._src`.

`jax.distributed.initialize` and `shutdown` are public and are called as such.
"""

from typing import Any

from jax._src import xla_bridge
from jax._src.clusters import ClusterEnv
from jax._src.distributed import global_state


def is_started() -> bool:
    """Tell whether JAX has chosen its devices already.

    No public name tells without choosing them: `jax.extend.backend.backends()` and `jax.devices()` do, and
    `jax.distributed.is_initialized()` says nothing about it.
    """
    return xla_bridge.backends_are_initialized()


def detect_process(
    coordinator: str | None, count: int | None, index: int | None, timeout: int
) -> tuple[str | None, int | None, int | None, Any]:
    """(coordinator, number of processes, this one's, its local devices): what is None is asked of the cluster.

    `jax.distributed.initialize` asks the same and connects in the same call, where a mistake ends in an abort; here all
    of it is to be known, and checked, before.

    Raises:
        ImportError, LookupError, OSError, RuntimeError, ValueError: the cluster's manager says something that makes no
            sense.
    """
    return ClusterEnv.auto_detect_unset_distributed_params(coordinator, count, index, None, None, timeout)


def coordination_client() -> Any:
    """The client of the coordination service, once `jax.distributed.initialize` has connected.

    The key-value store through which processes tell each other what they found has no public name.
    """
    return global_state.client
