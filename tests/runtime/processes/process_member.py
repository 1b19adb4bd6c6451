"""One of the processes that `test_processes` starts: `process_member.py SCENARIO COORDINATOR INDEX COUNT`."""

import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp.errors import MediaError
from jax_interp.runtime import processes
from jax_interp.runtime.member import Member

STALE = 4.0
TIMEOUT = 30.0


def say(text):
    print(text, flush=True)


def all_sum(steps):
    """Sums over all devices, as long as every process takes part."""
    mesh = jax.make_mesh((jax.device_count(),), ("all",))
    split = jax.sharding.NamedSharding(mesh, jax.P("all"))
    ones = jax.make_array_from_process_local_data(split, np.ones(jax.local_device_count(), np.float32))
    total = jax.jit(jnp.sum, out_shardings=jax.sharding.NamedSharding(mesh, jax.P()))
    for step in range(steps):
        found = float(total(ones))
        if step == 0:
            say(f"sum {found:g} of {jax.device_count()}")


def agree():
    processes.agree("versions", {"software": processes.software(), "seed": 1})
    chosen = processes.decide("what is finished", [0, 2] if processes.is_first() else None)
    processes.barrier("the loading")
    all_sum(1)
    say(f"agreed, {chosen}, {processes.index()} of {processes.count()}")


def disagree():
    processes.agree("start", {"software": {"jaxlib": f"0.11.{processes.index()}", "flax": "1"}, "seed": 1})


def wrong_order():
    processes.barrier("reading" if processes.is_first() else "writing")


def late():
    if processes.index() == 1:
        time.sleep(20)
    processes.barrier("the loading", timeout=2)


def barrier():
    say("ready")
    if processes.index() in (0, 1):
        processes.barrier("the loading", timeout=None)
    time.sleep(1000)


def sleep():
    say("ready")
    time.sleep(1000)


def collective():
    all_sum(1)
    say("ready")
    if processes.index() == processes.count() - 1:
        time.sleep(1000)
    all_sum(10**9)


def failure():
    if processes.index() == 1:
        raise MediaError("clip.mp4: not a video")
    all_sum(10**9)


def first_fails():
    if processes.is_first():
        raise RuntimeError("a mistake in the program")
    processes.barrier("the loading", timeout=None)


def early_end():
    if processes.index() == 0:
        time.sleep(STALE + 2)
    say("done")


def main():
    # A shell that starts the tests in the background lets them, and so this, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    scenario, coordinator, index, count = sys.argv[1:]
    processes.start(Member(coordinator, int(index), int(count)), timeout=TIMEOUT, stale=STALE)
    with processes.shared_fate():
        globals()[scenario]()


if __name__ == "__main__":
    main()
