"""Values of the wrong type, without end, or full of markup: a message, or text that stays text."""

import dataclasses
import json
from urllib.parse import quote

import pytest

from jax_interp.app.asked import Asked
from jax_interp.errors import UsageError
from tests.app.copying import Hostile, pair

HOSTILE = {
    "null": None,
    "no number": float("nan"),
    "without end": float("inf"),
    "huge": 10**30,
    "endless": 10**4000,
    "below zero": -1,
    "fraction": 0.5,
    "list": [1],
    "object": {"a": {"b": []}},
    "text": "\x1b[31m<b>[red]",
    "path": "../../../etc/passwd",
    "shell": "$(id); rm -rf /",
    "half": "\ud800",
}
MARKUP = "</p><script>alert(1)</script><img src=x onerror=a> [bold red]x[/] {{7*7}} ${7*7} %s \x1b]0;t\x07 \u202e&lt;"


NUMBERS = ["huge", "endless", "below zero"]
TAKEN = {
    "prompt": ["text", "path", "shell"],
    "guidance": ["below zero", "fraction"],
    "frame_stride": ["huge", "endless"],
    "seed": NUMBERS,
    "length": NUMBERS,
    "given_frames": NUMBERS,
}
"""What a setting takes: any text is a prompt, and whole numbers are judged with the input and the sampler."""


def refusal(name, value):
    """Return in which words a value is refused, empty if it is taken."""
    try:
        assert getattr(Asked.parse({name: value}), name) == value
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Asked)])
def test_no_setting_takes_what_it_cannot_use(name):
    words = {label: refusal(name, value) for label, value in HOSTILE.items()}
    assert [label for label, said in words.items() if not said] == TAKEN.get(name, [])
    assert all(name in said and "\x1b" not in said for said in words.values() if said)


@pytest.fixture(scope="module")
def user(copier):
    return Hostile(copier.address)


@pytest.fixture(scope="module")
def files(user):
    return user.upload(*pair(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "settings: expected an object, not NoneType"),
        ([], "settings: expected an object, not list"),
        ("{}", "settings: expected an object, not str"),
        ({"steps": None}, "steps is null, expected a whole number"),
        ({"steps": 10**4000}, "steps is 10"),
        ({"steps": True}, "steps is true"),
        ({"guidance": float("nan")}, "guidance is nan, expected a number"),
        ({"guidance": 10**400}, "guidance is a number of more than 40 digits"),
        ({"seed": 10**4000}, "expected a whole number from 0 to 4294967295"),
        ({"frame_stride": 10**4000}, "the input has 2 frames"),
        ({"length": 10**9, "pipeline": "continue", "prompt": "x"}, "20000 are made at most"),
        ({"given_frames": 2, "pipeline": "continue", "prompt": "x"}, "expected 1 or 9"),
        ({"aspect": "99984x99984"}, "the networks take 2,088,960 pixels at most"),
        ({"aspect": "16000x16000", "pipeline": "continue", "prompt": "x"}, "pixels at most"),
        ({"rate": "1e999999999"}, "rate is '1e999999999'"),
        ({"slow_motion": "1000", "rate": "1000"}, "20000 are made at most"),
        ({"prompt": "x" * 4001}, "prompt has 4001 characters"),
        ({"prompt": "\ud800"}, "is not valid UTF-8"),
        ({"<script>alert(1)</script>": 1}, "is unknown; there are pipeline"),
        ({"__class__": 1, "folder": "/etc"}, "__class__, folder is unknown"),
    ],
)
def test_what_cannot_work_is_refused_in_words(user, files, settings, message):
    with pytest.raises(RuntimeError) as refused:
        user.call("submit", files, settings)
    assert message in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert "something went wrong" not in str(refused.value)
    assert user.call("jobs") == []


@pytest.mark.parametrize(
    "files",
    [None, 7, "x", {}, [None], [[]], [7], ["x"], [{}], [{"a": 1}], [[{"b": {}}]]],
    ids=json.dumps,
)
def test_files_that_are_none(user, files):
    for name in ("plan", "submit"):
        with pytest.raises(RuntimeError, match=r"files: expected a list of uploaded files"):
            user.call(name, files, {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"{}",
        b"null",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"data": {}}',
        b'{"data": "x"}',
        b'{"data": [9' + b"9" * 5000,
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_bodies_that_are_no_calls(user, body):
    for name in ("call/plan", "queue/join", "cancel", "reset"):
        answer = user.send(name, body)
        assert answer.status_code in (400, 422)
        assert "Traceback" not in answer.text
        assert "jax_interp/" not in answer.text


def test_a_call_has_as_many_values_as_its_function(user, files):
    for values in ((), (files,), (files, {}, {})):
        with pytest.raises(RuntimeError, match="400: plan takes 2 value"):
            user.call("plan", *values)
    assert user.call("plan", files, {})["given_frames"] == 2


def test_markup_stays_text(user, copier):
    (first, content), second = pair(3)
    files = user.upload((f"[red]{MARKUP}{first}", content), second)
    job = user.call("submit", files, {"prompt": MARKUP})["job"]
    assert user.wait(job)["state"] == "done"
    assert user.get(f"/results/{job}/result.json").json()["settings"]["prompt"] == MARKUP
    clip = user.upload((f"[red]{MARKUP}.mp4", b"no clip"))
    with pytest.raises(RuntimeError, match="cannot be read as a video") as refused:
        user.call("submit", clip, {})
    assert "\x1b" not in str(refused.value)
    functions = user.get("/config").json()["dependencies"]
    load = next(number for number, function in enumerate(functions) if function["targets"][0][1] == "load")
    for said in (
        user.use_page(load),
        user.get(f"/results/{job}/compare.html").text,
        user.get(f"/?job={quote(MARKUP)}").text,
    ):
        assert "<script>alert(1)" not in said
        assert "<img src=x" not in said
    log = copier.folder.with_suffix(".log").read_text()
    assert "\x1b" not in log
    assert "alert(1)" not in log
