"""The page in Chromium, with a server in a process of its own: from an upload to a result, and what goes wrong."""

import pytest

from tests import golden
from tests.app.serving import CLIP, running, start
from tests.chromium import NEEDED, chromium
from tests.guardrails.tiny_guards import MARK, link_networks

pytestmark = [pytest.mark.slow, NEEDED]
pytest.importorskip("gradio", reason='no Gradio here: pip install -e ".[app]"')

LONG = 60_000
"""Milliseconds in which a job of the demo is done on a busy machine."""


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def user(browser):
    """A function that opens a page as one user; at the end all of its requests have gone to the server."""
    contexts, asked, said = [], [], []

    def open_page(address, width=1280, height=900, colours="light", context=None):
        if context is None:
            size = {"width": width, "height": height}
            context = browser.new_context(viewport=size, color_scheme=colours)
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LONG)
        page.on("request", lambda wanted: asked.append((address, wanted.url)))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#start")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [url for address, url in asked if not url.startswith((address, "blob:", "data:"))] == []
    assert said == []


def upload(page, *files):
    page.set_input_files("input[type=file] >> nth=0", list(files))


def choose(page, **values):
    """Set fields of the form by their labels."""
    for label, value in values.items():
        page.get_by_label(label.replace("_", " "), exact=False).first.fill(str(value))


def reaches(page, *states):
    page.wait_for_selector(", ".join(f"#status [data-state={state}]" for state in states))


def make_long(page):
    """Upload the clip and choose so many steps that a job takes minutes."""
    upload(page, CLIP)
    page.wait_for_selector("#plan li")
    page.locator("input[type=number]").first.fill("200")
    page.keyboard.press("Tab")


def test_from_an_upload_to_a_result_that_plays(demo_server, user):
    page = user(demo_server.address)
    upload(page, CLIP)
    assert "37 frames in, 74 frames out" in page.locator("#plan li").first.inner_text()
    page.click("#start")
    reaches(page, "running", "done")
    page.wait_for_selector(".previews img")  # pair by pair
    reaches(page, "done")
    assert page.locator(".previews img").count() == 4
    assert all(page.locator(".previews img").evaluate_all("each => each.map(one => one.naturalWidth > 0)"))

    video = page.locator("#result-video")
    video.evaluate("video => video.play()")
    page.wait_for_function("document.getElementById('result-video').currentTime > 0.3")
    frame = page.frame_locator("iframe.comparison")
    divider = frame.locator("#divider")
    before = divider.get_attribute("aria-valuenow")
    divider.press("ArrowLeft")
    assert divider.get_attribute("aria-valuenow") != before

    for text, name in (
        ("Video", "clip-result.mp4"),
        ("Frames as PNG", "clip-frames.zip"),
        ("Run record", "clip-result.json"),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=text).first.click()
        assert download.value.suggested_filename == name

    page.reload()
    reaches(page, "done")
    page.wait_for_selector("#result-video")
    assert page.locator("#jobs li").count() == 1

    other = user(demo_server.address)
    other.wait_for_selector("#jobs .note")
    job = page.locator("#jobs a").first.get_attribute("href")
    other.goto(f"{demo_server.address}/{job}")
    other.wait_for_selector("#status [role=alert]")
    assert "there is no such job" in other.locator("#status").inner_text()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off_and_every_field_has_a_name(demo_server, user, colours):
    page = user(demo_server.address, 390, 844, colours)
    page.get_by_text("More", exact=True).first.click()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    level = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert level < 60 if colours == "dark" else level > 200
    nameless = page.evaluate(
        """[...document.querySelectorAll('input:not([type=file]), textarea, select, button')]
        .filter(one => one.offsetParent)
        .filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim() || one.title))
        .map(one => one.outerHTML)"""
    )
    assert nameless == []


def test_two_tabs_queue_and_cancel(demo_server, user):
    first = user(demo_server.address)
    make_long(first)
    first.click("#start")
    reaches(first, "running")
    second = user(demo_server.address, context=first.context)
    make_long(second)
    second.click("#start")
    reaches(second, "queued")
    assert "1 job(s) come before this one" in second.locator("#status").inner_text()
    second.click("#cancel")
    reaches(second, "cancelled")
    reaches(first, "running")
    first.click("#cancel")
    reaches(first, "cancelled")
    assert first.locator("#status img").count() == 0
    assert second.locator("#jobs li").count() == 2


def test_files_that_cannot_be_taken_say_why(demo_server, user, tmp_path):
    page = user(demo_server.address)
    damaged = tmp_path / "<b>damaged.mp4"
    damaged.write_bytes(CLIP.read_bytes()[:3000])
    upload(page, damaged)
    page.wait_for_selector("#error [role=alert]")
    assert "damaged.mp4" in page.locator("#error").inner_text()
    assert page.locator("#error b").count() == 0
    assert "Traceback" not in page.content()
    page.click("#start")
    page.wait_for_timeout(1000)
    assert page.locator("#jobs li").count() == 0

    large = tmp_path / "large.mp4"
    large.write_bytes(b"0" * 1_200_000)
    page.reload()
    upload(page, large)
    page.get_by_text("maximum allowed size", exact=False).first.wait_for()


def test_a_server_that_was_killed_goes_on_and_the_page_finds_the_job(tmp_path, user):
    first = start(tmp_path / "data", "--demo")
    try:
        page = user(first.address)
        upload(page, CLIP)
        page.wait_for_selector("#plan li")
        page.locator("input[type=number]").first.fill("3")
        page.keyboard.press("Tab")
        page.click("#start")
        page.wait_for_selector(".previews img")
    finally:
        first.kill()
    context = page.context
    page.close()
    with running(tmp_path / "data", "--demo") as second:
        again = user(second.address, context=context)
        reaches(again, "running", "done")
        reaches(again, "done")
        assert again.locator(".previews img").count() == 4
        assert "going on after pair" in (tmp_path / "data.log").read_text()


def test_a_block_says_its_category_and_shows_nothing(tmp_path, user, guarded, converted):
    networks = tmp_path / "networks"
    networks.mkdir()
    link_networks(link_networks(networks, guarded), converted)
    sizes = ("--height", 64, "--width", 96, "--num-steps", 1)
    with running(tmp_path / "data", "--checkpoint-dir", networks, *sizes) as started:
        page = user(started.address)
        upload(page, golden.CLIP)
        page.wait_for_selector("#plan li")
        page.get_by_label("Prompt").first.fill(f"rain {MARK}")
        page.click("#start")
        reaches(page, "blocked")
        assert "Nothing of it is shown: category O1" in page.locator("#status").inner_text()
        assert page.locator("#status img, #result video, #result img").count() == 0
