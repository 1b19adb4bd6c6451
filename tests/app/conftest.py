"""A server's settings, store and desk on the golden networks; nothing is generated unless a test has a worker do it."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jax_interp.app.asked import Asked
from jax_interp.app.desk import Desk
from jax_interp.app.settings import AppSettings
from jax_interp.app.store import JobStore
from jax_interp.files.private_folder import prepare_private_folder
from jax_interp.pipeline.requests.settings import NetworkSettings
from tests import golden
from tests.app.serving import running

OWNER, OTHER = "a" * 64, "b" * 64


@dataclass
class Office:
    """What a server consists of, without the server."""

    app: AppSettings
    store: JobStore
    desk: Desk
    woken: list[int]

    def upload(self, source: Path = golden.CLIP, name: str | None = None) -> list[str]:
        """Return the paths of an upload, as Gradio hands them in."""
        folder = self.app.uploads_folder / f"{len(list(self.app.uploads_folder.iterdir())):064x}"
        folder.mkdir()
        return [str(shutil.copy(source, folder / (name or source.name)))]

    def submit(self, owner: str = OWNER, **settings) -> str:
        return self.desk.submit(owner, {"steps": 1, "frames": False, **settings}, self.upload()).id


@pytest.fixture
def app(tmp_path, converted):
    settings = AppSettings(
        folder=tmp_path / "data",
        networks=NetworkSettings(checkpoint_dir=converted, dtype="float32"),
        guardrails=None,
        height=64,
        width=96,
        num_steps=1,
    )
    for folder in (settings.folder, settings.jobs_folder, settings.uploads_folder):
        prepare_private_folder(folder)
    return settings


@pytest.fixture
def office(app):
    store, woken = JobStore(app.folder / "jobs.sqlite3"), []
    yield Office(app, store, Desk(app, store, lambda: woken.append(1)), woken)
    store.close()


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory):
    """A server with the demo's networks in a process of its own, for tests that generate something."""
    with running(tmp_path_factory.mktemp("server") / "data", "--demo", "--upload-limit", "1MB") as server:
        yield server


def add(store, id="0" * 32, owner=OWNER, work=1.0, asked=None, **noted):
    """Record a job, and what is noted of it."""
    store.add(id, owner, "clip.mp4", asked or Asked(), ["000.mp4"], work, 1000)
    store.note(id, **noted)
    return store.get(id)


def with_limits(app, **limits):
    return replace(app, limits=replace(app.limits, **limits))


@pytest.fixture(scope="session")
def copier(tmp_path_factory):
    """A server that takes uploads of 2 MB, and copies inputs in place of generating."""
    pytest.importorskip("gradio", reason='no Gradio here: pip install -e ".[app]"')
    from tests.app.copying import copying_server

    with copying_server(tmp_path_factory.mktemp("copier") / "data", "--upload-limit", "2MB", "--keep", 1000) as server:
        yield server
