"""The command line, killed just before the n-th change that it makes to the files below a folder.

Reads requests from standard input, a JSON object a line, and answers each with one:

    {"arguments": ["generate", ...], "stop": 17, "torn": false}
    {"code": -9, "changes": ["os.mkdir out", "open out/.film.mp4.lock", ...]}

Every request is a process of its own, forked from this one when the libraries are there but JAX has not started: what
takes longest is done once. `stop` counts from 0; null lets the command run to its end. With `torn` a file that the
change would make is there, empty, when the process dies. What FFmpeg writes is not counted, nor is what lies elsewhere.
"""

import importlib
import json
import os
import signal
import sys
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


def watch(root: Path, report: Callable[[str], None], stop: int | None, torn: bool) -> None:
    """Report every change below `root` before it is made, and die at number `stop`."""
    count, busy = 0, False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, busy
        if busy:
            return
        path = changed_path(event, arguments)
        if path is None or not path.startswith(f"{root}/"):
            return
        report(f"{event} {path.removeprefix(f'{root}/')}\n")
        if count == stop:
            if torn and event == "open":
                busy = True
                Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    sys.addaudithook(hook)


def run(request: dict[str, Any], root: Path) -> dict[str, Any]:
    """One request, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(root.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        watch(root, lambda line: os.write(writer, line.encode()), request["stop"], request["torn"])
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
    for module in ("av", "imageio.v3", "orbax.checkpoint", "tensorstore", "transformers", "jax_interp.cli.run_jobs"):
        importlib.import_module(module)

    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), Path(sys.argv[1]))), flush=True)
