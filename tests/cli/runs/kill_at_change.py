"""The command line, and what it would leave below a folder if it were killed before any of its changes there.

Reads requests from standard input, a JSON object a line, and answers each with one:

    {"arguments": ["generate", ...], "stop": 17}
    {"code": -9, "changes": ["os.mkdir out", "open out/.film.mp4.lock", ...]}

    {"arguments": ["generate", ...], "states": "/somewhere/states"}
    {"code": 0, "changes": [...]}

Every request is a process of its own, forked from this one when the libraries are there but JAX has not started: what
takes longest is done once. With `stop`, which counts from 0, the process is killed just before that change. With
`states` it runs to its end and copies the folder before each change, to `states`/000017: killed there, it would have
left just that, for a process that dies changes no file and lets its locks go. What FFmpeg writes is not counted, nor is
what lies elsewhere.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax_interp.cli.main import main

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FOLDER_AT = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.rename": 2, "os.link": 2, "os.symlink": 2}
"""Which argument of an audit event is the open folder that a relative path starts from."""


def changed_path(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What an audit event is about to change, absolute; None if it changes nothing."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & WRITES:
            return None
        start = -1
    elif event in FOLDER_AT:
        path, start = arguments[0], arguments[FOLDER_AT[event]]
    elif event == "os.truncate":
        path, start = arguments[0], -1
    else:
        return None
    if isinstance(path, int):
        return None
    folder = Path.cwd() if start == -1 else Path(f"/proc/self/fd/{start}").readlink()
    return str(folder / os.fsdecode(path))


def watch(root: Path, before: Callable[[str], None]) -> None:
    """Call `before` with every change below `root` before it is made; meanwhile no other thread makes one."""
    one_at_a_time = threading.Lock()
    within = threading.local()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if getattr(within, "before", False):
            return
        path = changed_path(event, arguments)
        if path is None or not path.startswith(f"{root}/"):
            return
        with one_at_a_time:
            within.before = True
            before(f"{event} {path.removeprefix(f'{root}/')}")
            within.before = False

    sys.addaudithook(hook)


def run(request: dict[str, Any], root: Path) -> dict[str, Any]:
    """One request, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(root.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        count = 0

        def before(change: str) -> None:
            nonlocal count
            os.write(writer, f"{change}\n".encode())
            if count == request.get("stop"):
                os.kill(os.getpid(), signal.SIGKILL)
            if "states" in request:
                shutil.copytree(root, Path(request["states"], f"{count:06d}"), symlinks=True)
            count += 1

        watch(root, before)
        sys.argv = ["jax-interp", *request["arguments"]]
        code = 1
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as lines:
        changes = lines.read().splitlines()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "changes": changes}


if __name__ == "__main__":
    for module in (
        "av",
        "imageio.v3",
        "orbax.checkpoint",
        "tensorstore",
        "transformers",
        "jax_interp.cli.runs.generate",
    ):
        importlib.import_module(module)

    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), Path(sys.argv[1]))), flush=True)
