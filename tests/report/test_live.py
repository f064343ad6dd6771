"""The interactive part of the page in a browser: sort, filter, brush, slide, click, mark, download; by keys alone."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nd_synapse.cli.evaluate import main as evaluate
from nd_synapse.evaluate.metrics import exact_proportion
from nd_synapse.files.csv_tables import write_csv
from tests.report import examples
from tests.report.browser import DESKTOP, PHONE
from tests.small_run import RUN

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
FACTS = replace(examples.FACTS, pipeline="puncta", parameters={"strictness": "4"})
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "PageDown": 34, "ArrowDown": 40, "ArrowRight": 39, "ArrowUp": 38}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table():
    made = examples.two_populations(1500)
    return {**made, "class": np.where(made["in_Gaba"], "inhibitory", "excitatory")}


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    """The folder of a run with its page and its table."""
    root = tmp_path_factory.mktemp("run")
    examples.drawn(table, facts=FACTS).write(root, FACTS)
    with (root / "synapses.csv").open("wb") as file:
        write_csv(file, table)
    asked = {**RUN["asked"], "pipeline": "puncta", "parameters": {}}
    (root / "run.json").write_text(json.dumps({**RUN, "asked": asked}))
    return root


@pytest.fixture
def open_page(browser, folder):
    """Open the page, as if for the first time."""

    def opened(size=DESKTOP, **media):
        page = next(folder.glob("PyMeda_*.html"))
        browser.open(page, size, **media)
        browser.evaluate("localStorage.clear()")
        browser.open(page, size, **media)
        browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
        return browser

    return opened


def texts(browser, selector):
    return browser.evaluate(f"[...document.querySelectorAll({selector!r})].map(part => part.textContent)")


def text(browser, name):
    return browser.evaluate(f"document.getElementById({name!r}).textContent")


def column(browser, heading):
    """Return the cells of a column of the page of the table that is shown."""
    place = texts(browser, "#live-head th").index(heading) + 1
    return [float(cell) for cell in texts(browser, f"#live-body tr > :nth-child({place})")]


def click(browser, name):
    browser.evaluate(f"document.getElementById({name!r}).click()")


def choose(browser, name, wanted):
    """Choose an option by its text."""
    browser.evaluate(
        f"(() => {{ const box = document.getElementById({name!r});"
        f" box.value = [...box.options].find(option => option.text === {wanted!r}).value;"
        " box.dispatchEvent(new Event('change')); })()"
    )


def mouse(browser, selector, *places):
    """Press at the first place of an element, in shares of its width and height, move over the others, and release."""
    browser.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
    box = browser.evaluate(
        f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height]; })()"
    )
    points = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in places]
    last = len(points) - 1
    for i, (x, y) in enumerate(points):
        kinds = ["mouseMoved"] + ["mousePressed"] * (i == 0) + ["mouseReleased"] * (i == last)
        for kind in kinds:
            held = {"button": "left", "buttons": 1, "clickCount": 1} if kind != "mouseMoved" or i else {}
            browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)


def press(browser, key, times=1):
    """Press a key."""
    code = {" ": "Space"}.get(key, key if len(key) > 1 else f"Key{key.upper()}")
    typed = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
    number = KEYS.get(key, ord(key[0].upper()))
    for _ in range(times):
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        browser.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": typed} if typed else {}))
        browser.call("Input.dispatchKeyEvent", type="keyUp", **common)


def tab_to(browser, name):
    """Go to an element by the tabulator alone."""
    for _ in range(200):
        press(browser, "Tab")
        if browser.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"the tabulator does not reach {name}")


def test_a_heading_sorts_up_and_then_down(open_page, table):
    browser = open_page()
    for way, sign in (("ascending", 1), ("descending", -1)):
        browser.evaluate(
            "[...document.querySelectorAll('#live-head button')].find(b => b.textContent === 'score').click()"
        )
        shown = column(browser, "score")
        assert shown == pytest.approx((sign * np.sort(sign * table["score"]))[:15], rel=1e-3)
        assert texts(browser, f"#live-head [aria-sort={way}]") == ["score"]


def test_brushing_the_plot_filters_the_table_and_a_chip_takes_it_back(open_page, table):
    browser = open_page()
    mouse(browser, "#plot .u-over", (0.2, 0.5), (0.4, 0.5), (0.6, 0.5))
    low, high = (float(browser.evaluate(f"document.getElementById('plot-{end}').value")) for end in ("from", "to"))
    span = np.ptp(table["score"])
    assert (np.array([low, high]) - table["score"].min()) / span == pytest.approx([0.2, 0.6], abs=0.02)
    kept = ((table["score"] > low) & (table["score"] < high)).sum()
    assert int(text(browser, "table-count").split()[0].replace(",", "")) == pytest.approx(kept, abs=4)
    browser.evaluate("document.querySelector('.chip').click()")
    assert text(browser, "table-count") == "1,500 of 1,500 rows"


def test_a_scatter_plot_selects_by_two_columns_and_a_class_by_its_name(open_page, table):
    browser = open_page()
    choose(browser, "plot-y", "PSD95")
    mouse(browser, "#plot .u-over", (0.0, 0.0), (0.2, 0.2), (0.5, 0.5))
    assert len(texts(browser, ".chip")) == 2
    assert min(column(browser, "PSD95")) > np.ptp(table["mean_PSD95"]) * 0.45
    click(browser, "table-clear")
    choose(browser, "table-group", "class: inhibitory")
    assert text(browser, "table-count") == "500 of 1,500 rows"


def test_sections_slide_and_a_click_on_a_synapse_selects_its_row(open_page, table):
    browser = open_page()
    before = browser.evaluate("document.getElementById('viewer-canvas').toDataURL()")
    browser.evaluate(
        "(() => { const slider = document.getElementById('viewer-section'); slider.value = 5;"
        " slider.dispatchEvent(new Event('input')); })()"
    )
    browser.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert browser.evaluate("document.getElementById('viewer-canvas').toDataURL()") != before
    assert text(browser, "viewer-section-name") == "section 105 (6 of 12)"
    box = examples.BOX
    inside = np.flatnonzero(np.floor(table["centroid_z_voxel"] + 0.5) == 105)
    y, x = (np.floor(table[f"centroid_{axis}_voxel"][inside] + 0.5) for axis in "yx")
    # one that has no other near
    alone = int(np.argmax([np.sort(np.hypot(y - a, x - b))[1] for a, b in zip(y, x, strict=True)]))
    place = (x[alone] + 0.5 - box.x[0]) / box.shape[2], (y[alone] + 0.5 - box.y[0]) / box.shape[1]
    mouse(browser, "#viewer-canvas", place)
    wanted = table["id"][inside[alone]]
    assert text(browser, "detail-heading") == f"Synapse {wanted}"
    assert texts(browser, "#live-body tr[aria-current] th") == [str(wanted)]
    assert text(browser, "detail-command").endswith(f"--at {wanted}")
    assert browser.evaluate("!document.getElementById('detail-canvas').hidden")


def test_marks_are_blind_downloaded_and_evaluated_as_the_page_says(open_page, table, folder, tmp_path, capsys):
    browser = open_page()
    click(browser, "mark-start")
    shown = text(browser, "mark-panel")
    assert "score" not in shown
    assert "inhibitory" not in shown
    good = table["score"] > 6
    for i in range(60):
        row = browser.evaluate(f"JSON.parse(document.getElementById('live-data').textContent).marks[{i}]")
        press(browser, "u" if i % 20 == 0 else "t" if good[row] else "f")
    click(browser, "mark-reveal")
    said = text(browser, "mark-precision")
    session, browser.session = browser.session, None
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.session = session
    click(browser, "mark-download")
    file, end = tmp_path / "labels.csv", time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["id", "z", "y", "x", "label", "pipeline", "strictness"]
    assert [row["label"] for row in rows].count("unsure") == 3
    assert evaluate(["--labels", str(file), str(folder), "--precision", "0.9"]) == 0
    printed = capsys.readouterr().out
    assert said.split(":")[0].removeprefix("Precision ") in printed
    advised = text(browser, "mark-advice").split(" is ")[1].split(":")[0]
    assert f"strictness={advised} " in printed
    assert browser.said() == []
    browser.open(next(folder.glob("PyMeda_*.html")), DESKTOP)
    click(browser, "mark-start")
    assert text(browser, "mark-count").startswith("60 of"), "the browser keeps them"


@pytest.mark.parametrize(("hits", "of"), [(0, 9), (9, 9), (47, 60), (1, 120)])
def test_the_page_and_the_command_give_one_interval(open_page, hits, of):
    browser = open_page()
    click(browser, "mark-start")
    for i in range(of):
        press(browser, "t" if i < hits else "f")
    click(browser, "mark-reveal")
    rate = exact_proportion(hits, of)
    assert f"{rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})" in text(browser, "mark-precision")
    assert ("as it is" in text(browser, "mark-advice")) == (hits == of)


def test_all_of_it_works_by_keys_alone(open_page):
    browser = open_page()
    tab_to(browser, "viewer-canvas")
    press(browser, "n")
    first = text(browser, "detail-heading")
    press(browser, "n")
    assert text(browser, "detail-heading") != first
    press(browser, "PageDown")
    assert "(" in text(browser, "viewer-section-name")
    tab_to(browser, "viewer-section")
    before = text(browser, "viewer-section-name")
    press(browser, "ArrowRight")
    assert text(browser, "viewer-section-name") != before
    tab_to(browser, "plot-from")
    press(browser, "8")
    tab_to(browser, "table-group")
    assert text(browser, "table-count") != "1,500 of 1,500 rows"
    assert min(column(browser, "score")) >= 8
    tab_to(browser, "live-rows")
    while not browser.evaluate("document.activeElement.className === 'row'"):
        press(browser, "Tab")
    press(browser, "Enter")
    assert browser.evaluate("document.activeElement.closest('tr').getAttribute('aria-current')") == "true"
    press(browser, "ArrowDown", 20)
    assert text(browser, "table-page").startswith("page 2")
    assert text(browser, "live-status").endswith("is selected.")
    tab_to(browser, "mark-start")
    press(browser, "Enter")
    press(browser, "t")
    press(browser, "f")
    press(browser, "b")
    assert text(browser, "mark-count").startswith("2 of")
    assert text(browser, "mark-heading") == "Candidate 2, marked false"
    tab_to(browser, "mark-download")
    assert browser.said() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(open_page, size, scheme, request):
    browser = open_page(size, **{"prefers-color-scheme": scheme})
    browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    browser.evaluate("document.querySelector('#live-body button').click()")
    for name in ("mark-start", "mark-true", "mark-reveal"):
        click(browser, name)
    browser.screenshots(f"live-{request.node.callspec.id}")
    browser.evaluate(f"{AXE}; 0")
    found = browser.evaluate("axe.run().then(found => found.violations)")
    serious = [
        (one["id"], [node["html"][:120] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert browser.said() == []
    assert {url.partition(":")[0] for url in browser.requests()[1:]} <= {"data"}


def test_paper_has_the_static_page(open_page):
    browser = open_page()
    browser.call("Emulation.setEmulatedMedia", media="print")
    seen = browser.evaluate(
        "[...document.querySelectorAll('.live, #strictness')].map(part => [part.className, part.checkVisibility()])"
    )
    browser.call("Emulation.setEmulatedMedia", media="")
    assert len(seen) > 3
    assert all(shown == (name != "live") for name, shown in seen)


def test_the_viewer_is_there_when_the_page_has_loaded(browser, folder):
    at_load = "addEventListener('load', () => { window.atLoad = !document.getElementById('live-viewer').hidden; });"
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=at_load)
    try:
        browser.open(next(folder.glob("PyMeda_*.html")), DESKTOP)
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
    assert browser.evaluate("window.atLoad")


def test_without_scripts_the_page_is_the_static_one(browser, folder):
    page = next(folder.glob("PyMeda_*.html"))
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=page.as_uri())
        time.sleep(1)
        shown = "[...document.querySelectorAll('.live')].filter(part => part.checkVisibility()).length"
        assert browser.evaluate(shown) == 0
        assert browser.evaluate("document.getElementById('strictness').checkVisibility()")
        assert browser.evaluate("document.querySelector('#table details').checkVisibility()")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
