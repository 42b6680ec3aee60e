"""The page in a real browser: it renders, sorts, searches, and fits a phone."""

import os
import shutil
from itertools import groupby

import pandas as pd
import pytest

from pyro_metacadi import TaskDataset
from pyro_metacadi.report import Table, write_report
from tests.helpers import evidence_estimator, tiny_world

NAMES = ["<script>alert(1)</script>", 'a long name with "quotes" & more/', "$x$", "中文"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
RIGHT = "e => e.getBoundingClientRect().right"
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1200, "height": 900}


def browser_path():
    named = os.environ.get("METACADI_BROWSER")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if (path := browser_path()) is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with sync_api.sync_playwright() as running:
        arguments = ["--no-sandbox", "--disable-gpu"]
        started = running.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with awkward names, and a further table with blanks and numbers as text."""
    tasks = TaskDataset.from_arrays(
        tiny_world().tasks.arrays, variables=NAMES, tasks=[f"run {n} <b>" for n in range(1, 7)]
    )
    model = evidence_estimator(num_draws=20).fit(tasks, progress=False)
    frame = pd.DataFrame({"sample": ["s10", "s9", "s1"], "value": [2.0, float("nan"), 10.0]})
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(model, path, title="Six <runs>", further=[Table.of(frame, caption="Extra")])
    return path


@pytest.fixture
def opened(browser, report):
    """Opens the report at a size; whatever the console says, or is asked of a network, fails."""
    contexts, said = [], []

    def open_at(size, **options):
        context = browser.new_context(viewport=size, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: said.append(request.url) if remote(request) else None)
        page.goto(report.as_uri())
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert said == []


def remote(request):
    return not request.url.startswith(("file:", "data:"))


def block(page, caption):
    return page.locator(".searchable", has=page.get_by_role("table", name=caption))


def column(table, number):
    cells = table.locator(f"tbody tr:not([hidden]) td:nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_it_renders_with_every_figure_and_name(opened):
    page = opened(DESKTOP)
    assert page.title() == "Six <runs>"
    page.locator("summary").click()
    images = page.locator("img")
    assert images.count() == 4
    for at in range(4):
        assert images.nth(at).evaluate("i => i.decode().then(() => i.naturalWidth)") > 100
    targets = block(page, "Targets")
    assert set(column(targets, 3)) == set(NAMES)
    assert targets.get_by_role("status").inner_text() == "24 rows"


def test_a_click_sorts_and_another_turns_it_around(opened):
    table = block(opened(DESKTOP), "Targets")
    header = table.get_by_role("columnheader", name="probability")
    assert header.get_attribute("aria-sort") == "none"
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    falling = [float(text) for text in column(table, 4)]
    assert falling == sorted(falling, reverse=True)
    header.get_by_role("button").press("Enter")  # the keyboard does it as well
    assert header.get_attribute("aria-sort") == "ascending"
    rising = [float(text) for text in column(table, 4)]
    assert rising == sorted(falling)
    other = table.get_by_role("columnheader", name="variable")
    other.get_by_role("button").click()
    assert other.get_attribute("aria-sort") == "ascending"
    assert header.get_attribute("aria-sort") == "none"
    together = [name for name, _ in groupby(column(table, 3))]
    assert sorted(together) == sorted(NAMES)


def test_numbers_in_names_sort_as_numbers_and_blanks_come_last(opened):
    table = block(opened(DESKTOP), "Extra")
    table.get_by_role("button", name="sample").click()
    assert column(table, 1) == ["s1", "s9", "s10"]
    value = table.get_by_role("button", name="value")
    value.click()
    assert column(table, 1) == ["s1", "s10", "s9"]
    value.click()
    assert column(table, 1) == ["s10", "s1", "s9"]


def test_a_search_leaves_the_rows_with_all_its_words(opened):
    table = block(opened(DESKTOP), "Targets")
    search, status = table.get_by_role("searchbox"), table.get_by_role("status")
    search.fill('RUN 3 "QUOTES"')
    assert column(table, 1) == ["run 3 <b>"]
    assert column(table, 3) == [NAMES[1]]
    assert status.inner_text() == "1 of 24 rows"
    search.fill("nowhere")
    assert (column(table, 1), status.inner_text()) == ([], "0 of 24 rows")
    search.fill("")
    assert (len(column(table, 1)), status.inner_text()) == (24, "24 rows")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_of_the_page(opened, scheme):
    page = opened(PHONE, is_mobile=True, has_touch=True, color_scheme=scheme)
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    beyond = "e => { const r = e.getBoundingClientRect(); return r.left < 0 || r.right > 390.5; }"
    for part in page.locator("h1, h2, h3, p, .scroll, figcaption, input, nav a").all():
        assert not part.evaluate(beyond)
    sizes = page.locator("p, td").evaluate_all("all => all.map(e => getComputedStyle(e).fontSize)")
    assert min(float(size.removesuffix("px")) for size in sizes) >= 14
    ink, paper = page.evaluate(
        "['color', 'backgroundColor'].map(k => getComputedStyle(document.body)[k])"
    )
    assert contrast(ink, paper) > 7


def test_on_a_phone_probabilities_of_genes_are_in_sight(browser, tmp_path):
    genes = ["CDKN1A", "STAT3", "NFKB1", "IL6"]
    tasks = TaskDataset.from_arrays(
        tiny_world().tasks.arrays, variables=genes, tasks=[f"guide{n}" for n in range(6)]
    )
    model = evidence_estimator(num_draws=20).fit(tasks, progress=False)
    write_report(model, tmp_path / "short.html")
    page = browser.new_page(viewport=PHONE)
    page.goto((tmp_path / "short.html").as_uri())
    for caption in ("Edges", "Targets"):
        table = block(page, caption)
        heading = table.get_by_role("columnheader", name="probability")
        ends = [e.evaluate(RIGHT) for e in (heading, table.locator(".scroll"))]
        assert ends[0] <= ends[1]
    page.close()


def contrast(first, second):
    """WCAG's ratio of the luminances of two colours, written as rgb(r, g, b)."""

    def luminance(colour):
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_without_scripts_all_rows_are_there(opened):
    page = opened(DESKTOP, java_script_enabled=False)
    assert page.locator("#targets tbody tr").count() == 24
    assert not page.locator(".tools").first.is_visible()


def test_the_file_stands_alone(report):
    assert [path.name for path in report.parent.iterdir()] == ["report.html"]
