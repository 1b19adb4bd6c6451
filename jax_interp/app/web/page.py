"""The page: a form for each pipeline, the job that was started, the user's jobs, and what is said of the machine."""

import logging
import secrets
import shutil
from importlib import resources
from typing import Any

import gradio as gr

from jax_interp.app import machine
from jax_interp.app.desk import Desk, plan_in_words
from jax_interp.app.store import JobEntry
from jax_interp.app.web import views
from jax_interp.app.web.form import Form, continuation_form, interpolation_form, pace_of, values_of
from jax_interp.app.web.gate import OWNER_HEADER
from jax_interp.errors import JaxInterpError

logger = logging.getLogger("jax_interp")

OPENED = 4
"""The uploads that are opened and planned at the same time, which takes processor time from the worker."""
TICK = 1.0
"""Seconds between two looks at a job that is not over."""
NO_OWNER = (
    "this browser keeps no cookie, by which the server knows whose job is whose; allow it, and load the page again"
)


def owner_in(request: gr.Request) -> str:
    """Return the token of who asks, as the gate has found it; raises `UsageError` through `Desk` if there is none."""
    return request.headers.get(OWNER_HEADER, "")


def build_page(desk: Desk) -> gr.Blocks:
    """Return the page; nothing in it needs a state on the server but the jobs."""
    with gr.Blocks(title="jax-interp", analytics_enabled=False) as page:
        gr.HTML(views.heading(desk.app.example is not None))
        with gr.Tabs():
            with gr.Tab("Interpolate"):
                forms = [interpolation_form(desk.app)]
            with gr.Tab("Video2World"):
                if machine.has_transformer(desk.app, "Video2World"):
                    forms.append(continuation_form(desk.app))
                else:
                    gr.HTML(views.paragraphs([_NO_WORLD]))
            with gr.Tab("This machine") as tab:
                about = gr.HTML()
        shown = _Shown(
            job=gr.Textbox(visible=False),
            seen=gr.Textbox(visible=False),
            status=gr.HTML(elem_id="status"),
            cancel=gr.Button("Cancel", visible=False, elem_id="cancel", variant="stop"),
            result=gr.HTML(elem_id="result"),
            jobs=gr.HTML(elem_id="jobs"),
            timer=gr.Timer(TICK, active=False),
        )
        for form in forms:
            _wire_form(desk, form, shown)
        _wire_job(desk, page, shown)
        tab.select(lambda: _about_machine(desk), outputs=about, api_visibility="private", concurrency_limit=1)
        forms[0].files.upload(pace_of, forms[0].files, forms[0].fields[0], api_visibility="private")
        if forms[0].example is not None:
            forms[0].example.click(lambda: _example(desk), outputs=forms[0].files, api_visibility="private")
    return page


_NO_WORLD = (
    "The networks of Video2World are not in the folder that the server was started with. `jax-interp download"
    " --model-types Video2World` fetches them, and `jax-interp convert` converts them; then start the server again,"
    " with `--checkpoint-dir` and the folder of what was converted. The demo has none."
)


class _Shown:
    """The parts of the page that show a job."""

    def __init__(self, **parts: Any):
        self.job, self.seen, self.timer = parts["job"], parts["seen"], parts["timer"]
        self.cancel = parts["cancel"]
        self.all = [parts[name] for name in ("job", "seen", "status", "cancel", "result", "jobs", "timer")]


def _wire_form(desk: Desk, form: Form, shown: _Shown) -> None:
    """Show the plan whenever a field changes, and start a job when the button is pressed."""

    def foresee(files: Any, *fields: Any) -> tuple[str, str]:
        if not files:
            return "", ""
        try:
            return views.plan(plan_in_words(desk.plan(values_of(form.pipeline, fields), _paths(files)))), ""
        except Exception as error:
            return "", views.alert(_message(error))

    def start(request: gr.Request, files: Any, *fields: Any) -> list[Any]:
        owner = owner_in(request)
        try:
            if not owner:
                return [views.alert(NO_OWNER), *[gr.skip()] * len(shown.all)]
            entry = desk.submit(owner, values_of(form.pipeline, fields), _paths(files))
        except Exception as error:
            return [views.alert(_message(error)), *[gr.skip()] * len(shown.all)]
        return ["", *_show(desk, owner, entry, seen="")]

    gr.on(
        [form.files.change, *(field.change for field in form.fields)],
        foresee,
        [form.files, *form.fields],
        [form.plan, form.error],
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=OPENED,
    )
    form.start.click(
        start,
        [form.files, *form.fields],
        [form.error, *shown.all],
        api_visibility="private",
        show_progress="minimal",
        concurrency_limit=OPENED,
    )


def _wire_job(desk: Desk, page: gr.Blocks, shown: _Shown) -> None:
    """Show the job that the address names, else the latest one, and how it goes on; cancel it when asked to."""

    def load(request: gr.Request) -> list[Any]:
        owner = owner_in(request)
        entries = desk.latest(owner) if owner else []
        wanted = request.query_params.get("job", "")
        entry = next((entry for entry in entries if entry.id == wanted), None)
        if entry is None and wanted and owner:
            try:
                entry = desk.find(owner, wanted)
            except JaxInterpError as error:
                return [wanted, "", views.alert(_message(error)), gr.skip(), "", views.jobs(entries, ""), gr.skip()]
        entry = entry or (entries[0] if entries else None)
        if entry is None:
            return ["", "", "", gr.skip(), "", views.jobs([], ""), gr.skip()]
        return _show(desk, owner, entry, seen="")

    def look(request: gr.Request, job: str, seen: str) -> list[Any]:
        owner = owner_in(request)
        try:
            return _show(desk, owner, desk.find(owner, job), seen)
        except JaxInterpError as error:
            gone = [gr.Button(visible=False), "", gr.skip(), gr.Timer(active=False)]
            return [job, "", views.alert(_message(error)), *gone]

    def cancel_shown(request: gr.Request, job: str) -> list[Any]:
        owner = owner_in(request)
        try:
            return _show(desk, owner, desk.cancel(owner, job), seen="")
        except JaxInterpError as error:
            return [gr.skip(), gr.skip(), views.alert(_message(error)), *[gr.skip()] * 4]

    page.load(load, outputs=shown.all, api_visibility="private", show_progress="hidden")
    shown.timer.tick(look, [shown.job, shown.seen], shown.all, api_visibility="private", show_progress="hidden")
    shown.cancel.click(cancel_shown, shown.job, shown.all, api_visibility="private", show_progress="hidden")


def _show(desk: Desk, owner: str, entry: JobEntry, seen: str) -> list[Any]:
    """Return what the parts of `_Shown` show of a job; nothing if it is as it was `seen`."""
    progress = desk.progress(entry)
    now = f"{entry.id} {entry.state} {entry.share:.3f} {entry.previews} {entry.is_cancelled} {progress['jobs_ahead']}"
    now += f" {entry.message}"
    if now == seen:
        return [gr.skip()] * 7
    return [
        entry.id,
        now,
        views.status(entry, progress),
        gr.Button(visible=entry.is_open and not entry.is_cancelled),
        views.result(entry, desk.results(entry)),
        views.jobs(desk.latest(owner), entry.id),
        gr.Timer(active=entry.is_open),
    ]


def _about_machine(desk: Desk) -> str:
    rows = [tuple(row) for row in machine.checks()]
    found = views.table("What this machine can do", ("", "status", "found", "what to do"), rows)
    return found + "<h2 class='below'>Memory</h2>" + views.paragraphs(desk.memory.in_words())


def _example(desk: Desk) -> list[str]:
    """Return a copy of the demo's clip, which is treated as an upload."""
    assert desk.app.example is not None
    folder = desk.app.uploads_folder / secrets.token_hex(16)
    folder.mkdir()
    return [str(shutil.copy(desk.app.example, folder))]


def _paths(files: Any) -> list[Any]:
    return [str(file) for file in files] if isinstance(files, list) else [files] if files else []


def _message(error: Exception) -> str:
    """Return what a user is told of an error; of those that are not expected only that there was one."""
    if isinstance(error, JaxInterpError):
        return str(error)
    logger.exception("a request failed")
    return "something went wrong on the server; its log says what"


def style() -> str:
    """Return the style of what is ours on the page."""
    return resources.files("jax_interp.app.web").joinpath("page.css").read_text("utf-8")
