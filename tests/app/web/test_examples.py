"""The programs of docs/app.md run as they stand there, but for the server's address."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

pytest.importorskip("gradio", reason='no Gradio here: pip install -e ".[app]"')

from tests.app.serving import CLIP

PAGE = Path(__file__).parents[3] / "docs/app.md"
ADDRESS = "http://127.0.0.1:7860"
pytestmark = pytest.mark.slow


def program(language, server):
    """The only program of the page in a language, for `server`."""
    [code] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert ADDRESS in code
    return code.replace(ADDRESS, server.address)


def run(folder, *command):
    """Run a program beside the clip that it asks for; return what it printed."""
    shutil.copy(CLIP, folder / "clip.mp4")
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with av.open(str(folder / "result.mp4")) as result:
        assert sum(1 for _ in result.decode(video=0)) == 74
    return done.stdout


def test_the_python_program(demo_server, tmp_path):
    printed = run(tmp_path, sys.executable, "-c", program("python", demo_server))
    assert "'pairs': 4" in printed
    assert "done" in printed.splitlines()[-1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_curl_program(demo_server, tmp_path):
    assert '"state": "done"' in run(tmp_path, "bash", "-euo", "pipefail", "-c", program("bash", demo_server))
