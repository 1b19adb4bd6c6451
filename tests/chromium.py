"""A real Chromium, which tests of pages drive by Playwright; where either is absent their modules are skipped."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDED = pytest.mark.skipif(PATH is None, reason="no Chromium here: apt-get install chromium")


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason='no Playwright here: pip install -e ".[browser]"')
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=PATH, args=sandbox)
        yield started
        started.close()
