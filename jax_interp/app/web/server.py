"""The server: page, API and results behind the gate, on one port, with the worker beside them."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jax_interp.app.desk import Desk
from jax_interp.app.results import remove_strays
from jax_interp.app.settings import Access, AppSettings
from jax_interp.app.store import JobStore
from jax_interp.app.uploads import remove_abandoned
from jax_interp.app.worker import Worker
from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.files.lock import lock_file
from jax_interp.files.private_folder import prepare_private_folder

logger = logging.getLogger("jax_interp")

HANDLERS = 40
"""The requests that are answered at the same time; the others wait."""
SESSIONS = 256
"""The sessions of which Gradio keeps the state of the page's parts, 70 kB each. Nothing of ours is in it, and every
call of the API counts as one; by default Gradio keeps 10,000."""


@contextmanager
def opened(app: AppSettings) -> Iterator[tuple[Any, Worker]]:
    """Yield the ASGI application and its worker, which has begun; both end with the block.

    Raises:
        JaxInterpError: another server uses the folder, or it is not what it should be.
        OSError: others can write to the folder.
    """
    for folder in (app.folder, app.jobs_folder, app.uploads_folder):
        prepare_private_folder(folder)
    with lock_file(app.folder / "server.lock", _refuse):
        store = JobStore(app.folder / "jobs.sqlite3")
        worker = Worker(store, app)
        try:
            remove_strays(store, app.jobs_folder)
            remove_abandoned(app.uploads_folder)
            worker.start()
            yield application(app, Desk(app, store, worker.wake, worker.budget)), worker
        finally:
            if worker.stop():
                store.close()


def _refuse(holder: str) -> JaxInterpError:
    return JaxInterpError(f"another server uses this folder ({holder}); give another one with --data-dir")


def application(app: AppSettings, desk: Desk) -> Any:
    """Return the ASGI application: the gate, and behind it Gradio's page and the results."""
    _stay_on_this_machine(app)
    return asyncio.run(_built(app, desk))


async def _built(app: AppSettings, desk: Desk) -> Any:
    """Do the work of `application` within an event loop, of which Gradio would otherwise leave several open."""
    import gradio as gr
    from fastapi import FastAPI
    from gradio.themes import Default

    from jax_interp.app.web.api import add_api
    from jax_interp.app.web.files import results_router
    from jax_interp.app.web.gate import Gate
    from jax_interp.app.web.page import build_page, style

    page = build_page(desk)
    with page:
        add_api(desk)
    page.queue(default_concurrency_limit=HANDLERS, api_open=False)
    page.state_session_capacity = SESSIONS
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.include_router(results_router(desk))
    # Fonts of the reader's own system, because a theme's would come from elsewhere.
    theme = Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    theme.set(**_READABLE)
    gr.mount_gradio_app(
        server,
        page,
        path="/",
        server_name=app.access.host,
        server_port=app.access.port,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=app.limits.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=style(),
    )
    return Gate(server, app.access, app.limits, app.uploads_folder)


_READABLE = {
    f"{name}{mode}": colour
    for name in ("block_info_text_color", "body_text_color_subdued", "block_label_text_color", "block_title_text_color")
    for mode, colour in (("", "*neutral_700"), ("_dark", "*neutral_200"))
}
"""Colours of small text that have the contrast which WCAG asks for; the theme's are too pale."""


def _stay_on_this_machine(app: AppSettings) -> None:
    """Switch off what Gradio would tell its makers, and have it keep uploads in our folder; before it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Its monitoring, which is not served here, would otherwise make a table of the last 10,000 calls after each call.
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"], os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1", str(2**62)
    os.environ["GRADIO_TEMP_DIR"] = str(app.uploads_folder.resolve())


def serve(app: AppSettings, ready: Callable[[str], None]) -> None:
    """Serve until a signal ends the process; `ready` is called with the address as soon as it answers.

    Raises:
        UsageError: nothing can listen at the address and port.
    """
    import uvicorn

    with listening_at(app.access) as listening, opened(app) as (application, _):
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            application,
            log_level="warning",
            timeout_graceful_shutdown=3,
            proxy_headers=False,
            server_header=False,
        )

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if self.started:
                    ready(f"http://{_shown_host(app.access.host)}:{port}")

        Server(config).run([listening])


def listening_at(access: Access) -> socket.socket:
    """Return the socket of the server, before anything is loaded for it.

    Raises:
        UsageError: the port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
    try:
        return socket.create_server((access.host, access.port), family=family, backlog=2048)
    except OSError as error:
        raise UsageError(
            f"--port {access.port}: nothing can listen at {access.host}: {error.strerror}; give another, or 0 for any"
        ) from error


def _shown_host(host: str) -> str:
    """Return what to type in a browser for a server that listens at `host`."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
