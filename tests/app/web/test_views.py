"""Whatever a user or a file says is text on the page, never markup."""

from dataclasses import replace

import pytest

from jax_interp.app.web import views
from tests.app.conftest import add

HOSTILE = '<img src=x onerror="alert(1)">\'&{{7*7}}${7*7}'


@pytest.fixture
def entry(office):
    return lambda **noted: add(office.store, "1" * 32, name=HOSTILE, **noted)


def shown(entry, **progress):
    facts = {"jobs_ahead": 0, "seconds_left": None, "is_being_cancelled": False, **progress}
    return views.status(entry, facts)


def free_of_markup(text):
    return "<img src=x" not in text and 'onerror="' not in text


@pytest.mark.parametrize("state", ["queued", "running", "done", "failed", "cancelled", "blocked"])
def test_names_and_messages_are_escaped(entry, state):
    made = entry(state=state, message=HOSTILE, pairs=3, facts='{"size": "<b>", "comparison": "<script>"}')
    text = shown(made) + views.result(made, {"video": "/results/1/result.mp4"}) + views.jobs([made], made.id)
    assert free_of_markup(text)
    assert "<b>" not in text
    assert "<script>" not in text
    assert f"data-state='{state}'" in text


def test_alerts_plans_and_tables_are_escaped():
    for text in (
        views.alert(HOSTILE),
        views.plan([HOSTILE]),
        views.paragraphs([HOSTILE]),
        views.table(HOSTILE, (HOSTILE,), [(HOSTILE,)]),
    ):
        assert free_of_markup(text)


def test_a_block_says_the_category_and_shows_no_picture(entry):
    text = shown(entry(state="blocked", message="category O1", previews=3))
    assert "Nothing of it is shown: category O1." in text
    assert "/results/" not in text


def test_a_running_job_shows_its_pairs_and_the_latest_pictures(entry):
    text = shown(entry(state="running", pair=2, pairs=40, previews=30, share=0.5), seconds_left=100)
    assert "2 of 40 pairs, about 2 min left" in text
    assert "value='0.500'" in text
    assert text.count("<img ") == views.SHOWN_PREVIEWS
    assert "/30.webp" in text


def test_a_job_that_is_being_cancelled_says_so(entry):
    assert "being cancelled" in shown(entry(state="running", is_cancelled=1), is_being_cancelled=True)


def test_what_is_being_done_before_the_first_pair_and_after_the_last(entry):
    made = entry(state="running")
    assert "loaded and compiled" in shown(made)
    assert "being packed" in shown(replace(made, message="packing"))


def test_jobs_are_links_and_the_one_that_is_shown_is_marked(entry):
    made = entry(state="done")
    assert f"href='?job={made.id}' aria-current='true'" in views.jobs([made], made.id)
    assert "aria-current" not in views.jobs([made], "")
    assert "no jobs yet" in views.jobs([], "")


def test_what_stands_between_backticks_is_code():
    assert views.paragraphs(["run `a <b>`"]) == "<p>run <code>a &lt;b&gt;</code></p>"


def test_downloads_are_named_after_the_clip_and_jobs_say_what_was_asked(office):
    made = add(office.store, "1" * 32, name="street.mp4", state="done")
    assert "download='street-result.mp4'" in views.result(made, {"video": "/results/1/result.mp4"})
    assert f"{made.settings.steps} step(s), seed {made.settings.seed}" in views.jobs([made], made.id)
