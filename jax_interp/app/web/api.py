"""The API: the page's operations for programs, through Gradio's client or plain HTTP."""

import logging
from typing import Any

import gradio as gr
from gradio.events import api

from jax_interp.app.desk import Desk
from jax_interp.app.web.page import OPENED, owner_in
from jax_interp.errors import JaxInterpError

logger = logging.getLogger("jax_interp")

NO_OWNER = "who asks is not said: send a header X-Owner of 32 or more random letters and digits, the same every time"


def add_api(desk: Desk) -> None:
    """Add the API's functions to the page that is being built."""

    def owner_of(request: gr.Request) -> str:
        if not (owner := owner_in(request)):
            raise gr.Error(NO_OWNER, print_exception=False)
        return owner

    def plan(files: list[gr.FileData], settings: dict[str, Any]) -> dict[str, Any]:
        """Say what a job would take; nothing is started."""
        return _answered(lambda: desk.plan(settings, _paths(files)))

    def submit(files: list[gr.FileData], settings: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Put a job into the queue; its id is under "job"."""
        owner = owner_of(request)
        return _answered(lambda: desk.progress(desk.submit(owner, settings, _paths(files))))

    def progress(job: str, request: gr.Request) -> dict[str, Any]:
        """Say how far a job is, and, if it is done, the addresses of its results."""
        owner = owner_of(request)

        def look() -> dict[str, Any]:
            entry = desk.find(owner, job)
            return desk.progress(entry) | {"results": desk.results(entry)}

        return _answered(look)

    def cancel(job: str, request: gr.Request) -> dict[str, Any]:
        """Cancel a job that waits or runs."""
        owner = owner_of(request)
        return _answered(lambda: desk.progress(desk.cancel(owner, job)))

    def jobs(request: gr.Request) -> list[dict[str, Any]]:
        """Return your latest jobs, the newest first."""
        owner = owner_of(request)
        return _answered(lambda: [desk.progress(entry) for entry in desk.latest(owner)])

    for function in (plan, submit, progress, cancel, jobs):
        api(function, api_name=function.__name__, concurrency_limit=OPENED)


def _paths(files: Any) -> list[Any]:
    """Return the paths of uploaded files as Gradio hands them in; what is none of it is refused by the desk."""
    if not isinstance(files, list):
        return [None]
    return [file.get("path") if isinstance(file, dict) else getattr(file, "path", None) for file in files]


def _answered(do: Any) -> Any:
    """Return what `do` returns; an error becomes its message, without a traceback."""
    try:
        return do()
    except JaxInterpError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception:
        logger.exception("a request failed")
        raise gr.Error("something went wrong on the server; its log says what", print_exception=False) from None
