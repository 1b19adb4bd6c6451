"""A server of `jax-interp app` in a process of its own, and programs that ask it for something."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
TLS = httpx.create_ssl_context()
"""Made once: httpx would make it for every request, which takes longer than the request."""
CLIP = ROOT / "jax_interp/demo/clip.mp4"
SMALL = {"rate": "2x", "steps": 1, "frame_stride": 9}
"""Settings of a job of 4 pairs with the demo's clip."""


@dataclass
class Running:
    """A server that answers."""

    process: subprocess.Popen[str]
    address: str
    folder: Path

    def memory(self, kind: str = "VmRSS") -> int:
        """Return the memory in bytes that it holds, or, as "VmHWM", the most that it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(rf"{kind}:\s+([0-9]+) kB", status)[0])

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(30)
        self.close()

    def close(self) -> None:
        """Close what it would have printed to; it has ended."""
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stop(self) -> int:
        """End it as Ctrl-C does; return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def start(folder: Path, *arguments: object, log: Path | None = None, module: str = "jax_interp") -> Running:
    """Start a server whose data are in `folder`, by default with the demo's networks; wait until it answers.

    `module` is the program, which takes the command line's arguments.
    """
    command = [sys.executable, "-m", module, "app", "--port", 0, "--data-dir", folder, *(arguments or ["--demo"])]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    log = log or folder.with_suffix(".log")
    with log.open("a") as errors:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder.parent,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if "http://" not in line:
        process.wait(30)
        raise AssertionError(f"the server did not start: {log.read_text()}")
    return Running(process, line.split()[1], folder)


@contextlib.contextmanager
def running(folder: Path, *arguments: object, module: str = "jax_interp") -> Iterator[Running]:
    """Yield a server as `start` makes it, and end it."""
    server = start(folder, *arguments, module=module)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
        server.close()


@dataclass
class Caller:
    """A program that uses the API by plain HTTP, as one user."""

    address: str
    owner: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Owner": self.owner}

    def upload(self, *files: Path | tuple[str, bytes]) -> list[dict[str, Any]]:
        """Upload files; return what a call takes for them."""
        contents = [(path.name, path.read_bytes()) if isinstance(path, Path) else path for path in files]
        parts = [("files", content) for content in contents]
        answer = httpx.post(
            f"{self.address}/gradio_api/upload", files=parts, headers=self.headers, timeout=60, verify=TLS
        )
        answer.raise_for_status()
        return [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in answer.json()]

    def call(self, name: str, *values: Any) -> Any:
        """Call a function of the API; raise `RuntimeError` with the server's words if it refuses."""
        answer = httpx.post(
            f"{self.address}/gradio_api/call/{name}",
            json={"data": list(values)},
            headers=self.headers,
            timeout=60,
            verify=TLS,
        )
        return self._answer(name, answer)

    def _answer(self, name: str, answer: httpx.Response) -> Any:
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.text}")
        event = answer.json()["event_id"]
        lines = httpx.get(
            f"{self.address}/gradio_api/call/{name}/{event}", headers=self.headers, timeout=120, verify=TLS
        ).text.splitlines()
        kind = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")][-1]
        data = httpx.Response(200, text=[line for line in lines if line.startswith("data: ")][-1][6:]).json()
        if kind != "complete":
            raise RuntimeError(data["error"] if isinstance(data, dict) else str(data))
        return data[0]

    def submit(self, clip: Path = CLIP, **settings: Any) -> str:
        """Ask for a job; return its id."""
        return self.call("submit", self.upload(clip), {**SMALL, **settings})["job"]

    def wait(self, job: str, *states: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until a job is in one of `states`, by default until it is over; return its progress."""
        wanted = states or ("done", "failed", "cancelled", "blocked")
        end = time.monotonic() + seconds
        while (now := self.call("progress", job))["state"] not in wanted:
            assert time.monotonic() < end, f"still {now}"
            time.sleep(0.2)
        return now

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.address}{path}", headers=self.headers, timeout=60, verify=TLS)
