"""A server whose worker copies the input in place of generating: for tests of the queue and of the door."""

import hashlib
import io
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from jax_interp.app import machine
from jax_interp.app import worker as worker_module
from jax_interp.app.settings import AppSettings
from jax_interp.app.web import server as server_module
from jax_interp.cli.main import main as jax_interp_main
from tests.app.serving import TLS, Caller, Running, running

SECONDS_A_STEP = 0.01
MADE = "made.txt"
"""The file in the server's folder to which a line is added for every job that is finished."""
ROUTES = "routes.json"
"""The file in the server's folder that names all addresses of Gradio and of the results, with their methods."""
SIZES = ("--height", 64, "--width", 96, "--num-steps", 1, "--disable-guardrail")


def digest(content: bytes) -> bytes:
    """Return what a job of several steps makes of its first input."""
    return hashlib.sha256(content).hexdigest().encode()


def copy_input(kept, request, reporter):
    """Do as `generate_keeping`: take a hundredth of a second for each step, and make the input the result.

    With more than one step its digest is the result, of which no comparison is made, which takes most of the time.
    """
    [job] = request.jobs
    steps = job.settings.sampling.num_steps
    with reporter.making(job) as advance:
        for step in range(steps):
            advance(0, 1, step, steps)
            time.sleep(SECONDS_A_STEP)
    content = job.inputs[0].read_bytes()
    job.video.write_bytes(content if steps == 1 else digest(content))
    settings = {"prompt": job.settings.prompt, "seed": job.settings.sampling.seed}
    record = {"frames": 2, "pairs": 1, "settings": settings, "output": {"fps": 1, "width": 96, "height": 64}}
    job.video.with_suffix(".json").write_text(json.dumps(record))
    with (job.video.parents[2] / MADE).open("a") as made:
        made.write(f"{job.video.parent.name}\n")


def picture(number: int, width: int = 96, height: int = 64) -> bytes:
    """Return a PNG of one colour, another one for every number below 65536."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height), (number % 256, number // 256, 3)).save(file, "PNG")
    return file.getvalue()


def pair(number: int) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """Return two pictures to upload, which no other number has."""
    return (f"{number}-first.png", picture(2 * number)), (f"{number}-second.png", picture(2 * number + 1))


class Hostile(Caller):
    """A program that also sends what no well-behaved client would."""

    def send(self, name: str, values: object) -> httpx.Response:
        """Send `values` as the body of a call, as they are."""
        body = values if isinstance(values, bytes) else json.dumps(values).encode()
        headers = self.headers | {"content-type": "application/json"}
        return httpx.post(f"{self.address}/gradio_api/{name}", content=body, headers=headers, timeout=60, verify=TLS)

    def call(self, name: str, *values: Any) -> Any:
        return self._answer(name, self.send(f"call/{name}", {"data": list(values)}))

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        """Ask for `path` as it stands, which no library puts right; return the status and what comes back."""
        address = urlsplit(self.address)
        with closing(HTTPConnection(str(address.hostname), address.port, timeout=30)) as connection:
            connection.putrequest(method, path, skip_host=True)
            for name, value in ({"host": address.netloc} | self.headers | headers).items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read()

    def use_page(self, function: int, *values: Any) -> str:
        """Call a function of the page, by its number, as the page does; return all that the server says to it."""
        session = secrets.token_hex(8)
        joined = self.send("queue/join", {"data": list(values), "fn_index": function, "session_hash": session})
        if joined.status_code != 200:
            return joined.text
        address = f"{self.address}/gradio_api/queue/data?session_hash={session}"
        with httpx.stream("GET", address, headers=self.headers, timeout=60, verify=TLS) as answer:
            lines = []
            for line in answer.iter_lines():
                lines.append(line)
                if '"process_completed"' in line or '"unexpected_error"' in line:
                    break
        return "\n".join(lines)


@contextmanager
def copying_server(folder: Path, *arguments: object) -> Iterator[Running]:
    """Yield a server that copies, started by the command line with `arguments`; it ends with the block."""
    with running(folder, *SIZES, *arguments, module="tests.app.copying") as server:
        yield server


def main() -> None:
    """Run the command line with a worker that copies, and write down the addresses that Gradio has."""
    worker_module.generate_keeping = copy_input
    machine.has_transformer = lambda app, kind: True
    machine.MemoryPlans.of_job = lambda self, asked, job: "It takes no memory."
    build = server_module.application

    def build_and_list(app: AppSettings, desk: Any) -> Any:
        built = build(app, desk)
        (app.folder / ROUTES).write_text(json.dumps(list(_routes(built._inner.routes))))
        return built

    server_module.application = build_and_list
    jax_interp_main()


def _routes(routes: list[Any], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the addresses and the methods of an application, those of applications within it included."""
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        path = prefix + getattr(route, "path", "")
        if inner:
            yield from _routes(inner, path)
        elif path:
            yield path, sorted(getattr(route, "methods", None) or ["GET"])


if __name__ == "__main__":
    main()
