"""The page of a run in a real browser: headless Chromium from the system's packages."""

import dataclasses
import shutil
import time

import pytest

from experiments import mnist, report
from tests.helpers import flagfile, told

told.need_library()
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
if not BROWSER:
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)


class Opened:
    """A page in a browser, with what it said and asked for."""

    def __init__(self, browser, path, *, stopped=False, **options):
        self.context = browser.new_context(**options)
        self.page, self.said, self.asked = self.context.new_page(), [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        if stopped:  # its clock: nothing happens by itself
            self.page.clock.install()
        self.page.goto(f"file://{path}")

    def value(self, script):
        return self.page.evaluate(script)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as player:
        running = player.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The page of two runs, one of them with alarms and hostile settings."""
    folder = tmp_path_factory.mktemp("browser")
    one = told.image_run(folder / "one", gen_lr=0.1, note=told.EVIL)
    signs = {"guard/alarms": 1.0, "guard/signs": told.EVIL}
    told.append(one, "metrics.jsonl", told.line(420, **signs))
    told.append(one, "metrics.jsonl", {"step": 400, "eval/kl": 0.5, "eval/kl/interval": 0.1})
    other = told.image_run(folder / "other", shade=70)
    return report.run(report.Config(workdir=f"{one},{other}", out=str(folder / "both.html")))


def test_sliders_curves_and_no_request(browser, both):
    opened = Opened(browser, both, viewport={"width": 1280, "height": 900})
    page = opened.page
    first = "document.querySelector('[data-frames] img')"
    before = opened.value(f"{first}.src")
    page.focus("#step")
    page.keyboard.press("ArrowLeft")
    assert opened.value(f"{first}.src") != before
    assert opened.value(f"{first}.alt") == "Samples of one at step 300"
    assert page.inner_text("#step-out") == "step 300"
    page.keyboard.press("End")
    assert opened.value(f"{first}.src") == before
    chart = page.locator(".chart").filter(has_text="losses")
    chart.scroll_into_view_if_needed()
    over = chart.locator(".u-over").bounding_box()
    page.mouse.move(over["x"] + 5, over["y"] + over["height"] / 2)
    legend = chart.locator(".u-legend").inner_text()
    assert "100" in legend and "1.3679" in legend  # gen/loss of step 100: 1 + exp(-1)
    assert opened.value("window.evil") is None
    assert opened.said == [] and [url for url in opened.asked if not url.startswith("data:")] == [
        f"file://{both}"
    ]


def test_curves_answer_to_the_keyboard_and_to_their_scales(browser, both):
    page = Opened(browser, both).page
    chart = page.locator(".chart").filter(has_text="losses")
    chart.focus()
    page.keyboard.press("Home")
    told_text = chart.locator(".told").text_content()
    assert told_text.startswith("step 100: ") and "one gen/loss 1.3679" in told_text
    page.fill("#smooth", "0.9")
    page.check("#log-y")
    page.check("#log-x")
    page.select_option("#axis", "seconds")
    page.keyboard.press("Tab")
    chart.focus()
    page.keyboard.press("Home")
    assert chart.locator(".told").text_content().startswith("hours 0.0027778: ")


def test_a_phone_shows_all_of_it_in_the_dark(browser, both):
    opened = Opened(browser, both, viewport={"width": 400, "height": 800}, color_scheme="dark")
    assert opened.value("document.documentElement.scrollWidth") == 400
    paper = opened.value("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(19, 21, 24)"
    widths = opened.value("[...document.querySelectorAll('.uplot')].map((x) => x.clientWidth)")
    assert widths and max(widths) <= 400


def test_a_watched_page_reads_itself_anew_and_stays_as_it_was(browser, tmp_path, monkeypatch):
    workdir, opened = told.image_run(tmp_path / "run", steps=200), []

    def look(seconds):
        opened.append(Opened(browser, workdir / "report.html", stopped=True))
        opened[0].page.focus("#step")
        opened[0].page.keyboard.press("Home")
        told.append(workdir, "metrics.jsonl", told.line(400))

    with monkeypatch.context() as patched:
        patched.setattr(report.time, "sleep", look)
        report.run(report.Config(workdir=str(workdir), watch=60.0))
    page = opened[0].page
    assert "still" not in page.inner_text("header") and "60 seconds" in page.inner_text("footer")
    page.clock.fast_forward(61_000)
    page.locator("footer").filter(has_not_text="reads itself anew").wait_for()
    assert "finished at step 400" in page.inner_text("header")
    assert page.inner_text("#step-out") == "step 100"
    assert opened[0].said == []


@pytest.mark.slow  # trains the quickstart: minutes
def test_the_page_of_the_quickstart_is_small_and_quick(browser, tmp_path):
    recipe = flagfile.config(mnist.Config, flagfile.FOLDER / "quickstart.flags")
    workdir = tmp_path / "quick"
    mnist.run(dataclasses.replace(recipe, workdir=str(workdir), keep_memory=False))
    path = report.run(report.Config(workdir=str(workdir)))
    assert path.stat().st_size < 3_000_000
    times = []
    for _ in range(3):
        began = time.perf_counter()
        opened = Opened(browser, path, viewport={"width": 1280, "height": 900})
        times.append(time.perf_counter() - began)
        assert opened.value("document.querySelectorAll('.uplot').length") >= 4
        assert opened.said == []
    assert min(times) < 2, times
