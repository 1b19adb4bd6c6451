"""The page in Chromium: what it shows, steps, drags and plays; without it only the file's text is tested."""

import json
import re
from fractions import Fraction

import numpy as np
import pytest

from jax_interp.evaluation.compare.page import NamedClip, PageSettings, write_page
from jax_interp.media.source import FrameSource
from tests.chromium import NEEDED, chromium

HEIGHT, WIDTH, FRAMES = 64, 96, 12
HOSTILE = '<img src=x onerror="document.title=1">'

pytestmark = [pytest.mark.slow, NEEDED]


def level(clip, frame):
    """The gray level of a frame, which tells what is shown."""
    return 20 + 15 * frame + 4 * clip


def clip(number, name):
    frames = [np.full((HEIGHT, WIDTH, 3), level(number, frame), np.uint8) for frame in range(FRAMES)]
    source = FrameSource(
        num_frames=FRAMES, height=HEIGHT, width=WIDTH, fps=Fraction(24), description={}, read=lambda: iter(frames)
    )
    return NamedClip(name, source)


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["wide", "narrow"])
def shown(browser, request, tmp_path):
    """The opened page, and all that it complained of or asked for."""
    path = tmp_path / "page.html"
    write_page(path, HOSTILE, [clip(0, HOSTILE), clip(1, "b.mp4"), clip(2, "c.mp4")], PageSettings(quality=100))
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=2)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda wanted: asked.append(wanted.url))
    page.goto(path.as_uri())
    at(page, 0)
    yield page
    # Chromium's hint that a canvas is read back is about this test.
    assert [text for text in said if not text.startswith("Canvas2D")] == []
    assert asked == [path.as_uri()]
    assert page.title() == HOSTILE
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut off or scrolled sideways"
    page.close()


def at(page, moment):
    page.wait_for_selector(f"body[data-moment='{moment}']", timeout=20_000)


def grey(page, share):
    """The level of what the canvas shows at a share of its width."""
    x = round(share * (WIDTH - 1))
    return page.evaluate(f"document.getElementById('picture').getContext('2d').getImageData({x}, 5, 1, 1).data[0]")


def shows(page, levels):
    """Wait until the canvas shows `levels`, by the share of its width; pictures are decoded beside the program."""
    found = {}
    for _ in range(100):
        found = {share: grey(page, share) for share in levels}
        if found == levels:
            break
        page.wait_for_timeout(50)
    assert found == levels


def drag(page, element, start, end, vertical=0.5):
    page.locator(element).scroll_into_view_if_needed()
    box = page.locator(element).bounding_box()
    y = box["y"] + vertical * box["height"]
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=5)
    page.mouse.up()


def test_it_steps_by_one_frame_and_both_sides_are_of_one_moment(shown):
    shows(shown, {0.1: level(0, 0), 0.9: level(1, 0)})
    for moment in (1, 2, 3):
        shown.keyboard.press("ArrowRight")
        at(shown, moment)
        shows(shown, {0.1: level(0, moment), 0.9: level(1, moment)})
    shown.click("#back")
    at(shown, 2)
    shown.keyboard.press("End")
    at(shown, FRAMES - 1)
    shown.keyboard.press("ArrowRight")
    assert shown.evaluate("document.body.dataset.moment") == str(FRAMES - 1)
    shows(shown, {0.9: level(1, FRAMES - 1)})
    shown.keyboard.press("Home")
    at(shown, 0)
    assert "left frame 0, right 0" in shown.locator("#where").inner_text()


def test_the_divider_is_dragged_and_moved_by_keys(shown):
    shows(shown, {0.4: level(0, 0)})
    drag(shown, "#picture", 0.5, 0.25)
    assert shown.get_attribute("#divider", "aria-valuenow") == "25"
    shows(shown, {0.2: level(0, 0), 0.4: level(1, 0)})
    drag(shown, "#picture", 0.25, 0.75, vertical=0.8)
    shows(shown, {0.6: level(0, 0), 0.8: level(1, 0)})
    shown.focus("#divider")
    shown.keyboard.press("ArrowLeft")
    assert shown.get_attribute("#divider", "aria-valuenow") == "73"
    assert shown.evaluate("document.body.dataset.moment") == "0", "the focused divider takes the key"


def test_other_clips_one_alone_and_the_difference(shown):
    shown.select_option("#left", "2")
    shows(shown, {0.1: level(2, 0), 0.9: level(1, 0)})
    shown.locator("#left").blur()
    shown.keyboard.press("1")
    shown.wait_for_selector("#divider", state="hidden")
    shows(shown, {0.1: level(0, 0), 0.9: level(0, 0)})
    shown.keyboard.press("1")
    shown.keyboard.press("d")
    shown.wait_for_selector("#difference:checked")
    shows(shown, {0.5: 4 * (level(2, 0) - level(1, 0))})


def test_it_plays_in_step_and_stops(shown):
    shown.keyboard.press("Space")
    shown.wait_for_selector("body[data-moment]:not([data-moment='0']):not([data-moment='1'])")
    assert shown.get_attribute("body", "data-playing") == "true"
    shown.keyboard.press("Space")
    shown.wait_for_selector("body[data-playing='false']")
    moment = int(shown.evaluate("document.body.dataset.moment"))
    shown.wait_for_timeout(200)
    shows(shown, {0.1: level(0, moment), 0.9: level(1, moment)})
    assert shown.evaluate("document.body.dataset.moment") == str(moment)


def test_the_plot_is_drawn_and_leads_to_a_frame(shown):
    inked = "(() => { const c = document.getElementById('plot'); const d = c.getContext('2d')"
    inked += ".getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4)"
    inked += " n += d[i] > 0; return n; })()"
    assert shown.evaluate(inked) > 500
    drag(shown, "#plot", 0.3, 0.99)
    at(shown, FRAMES - 1)
    legend = shown.locator("#legend").inner_text()
    assert "b.mp4 and c.mp4" in legend
    assert HOSTILE in legend


def test_the_policy_stops_what_is_put_into_the_page(browser, tmp_path):
    """The negative control: a script that somebody adds to the file does not run."""
    path = tmp_path / "page.html"
    write_page(path, "a", [clip(0, "a"), clip(1, "b")], PageSettings())
    path.write_text(path.read_text().replace("<main>", "<main><script>document.title = 'run'</script>"))
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    at(page, 0)
    assert page.title() == "a"
    assert re.search("Content Security Policy", json.dumps(said))
    page.close()
