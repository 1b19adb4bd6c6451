"""The addresses of results: files of a job for its owner, and of its folder nothing else."""

import re
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse

from jax_interp.app.desk import NO_SUCH_JOB, Desk
from jax_interp.app.results import JobFolder
from jax_interp.app.store import JobEntry
from jax_interp.app.web.gate import OWNER_HEADER
from jax_interp.errors import UsageError

_PREVIEW = re.compile(r"([1-9][0-9]{0,6})\.webp")
# The comparison brings its own script and style, and may ask for nothing.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; sandbox allow-scripts"
_PLAIN_POLICY = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".zip": "application/zip",
}


def results_router(desk: Desk) -> APIRouter:
    """Return the routes of what jobs have made."""
    router = APIRouter()

    @router.api_route("/results/{id}/{name}", methods=["GET", "HEAD"])
    def result(request: Request, id: str, name: str) -> Response:
        try:
            entry = desk.find(request.headers.get(OWNER_HEADER, ""), id)
        except UsageError:
            return PlainTextResponse(NO_SUCH_JOB, status_code=404)
        return _file(desk.folder(entry.id), entry, name)

    return router


def _file(folder: JobFolder, entry: JobEntry, name: str) -> Response:
    """Return the file `name` of a job, which is one of those that are listed here."""
    headers = {"cache-control": "private, max-age=3600", "content-security-policy": _PLAIN_POLICY}
    path: Path | None = None
    if preview := _PREVIEW.fullmatch(name):
        path = folder.preview(int(preview[1]))
    elif name.startswith("source."):
        path = folder.input_files(entry)[0]
    elif entry.state == "done" and name == folder.record.name and folder.record.is_file():
        text = folder.public_record()
        headers["content-disposition"] = "attachment"
        return Response(text, media_type="application/json", headers=headers)
    elif entry.state == "done" and name == folder.comparison.name:
        path, headers["content-security-policy"] = folder.comparison, _POLICY
    elif entry.state == "done" and name in (folder.video.name, folder.archive.name):
        path = folder.video if name == folder.video.name else folder.archive
    if path is None or not path.is_file():
        return PlainTextResponse("there is no such file", status_code=404)
    kind = "text/html" if path.suffix == ".html" else _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, headers=headers)
