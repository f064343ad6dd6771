"""The report in a browser: it opens without an error, asks for nothing, and every link leads somewhere."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import pytest

from tests.report.browser import ARTEFACTS, DESKTOP, PHONE
from tests.report.examples import FACTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(whole, tmp_path_factory):
    """The page with long notes and tracebacks."""
    notes = ["Failed block at z 0:2 y 0:5 x 0:5: ValueError: " + "a very long reason " * 9]
    tracebacks = {"z 0:2 y 0:5 x 0:5": f"Traceback:\n  File 'x.py', line 3\nValueError: {'x' * 400}"}
    return whole.report.write(tmp_path_factory.mktemp("report"), replace(FACTS, notes=notes, tracebacks=tracebacks))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_opens_without_an_error_and_without_a_request(browser, page, size, request):
    browser.open(page, size)
    assert browser.said() == []
    assert browser.requests()[0] == page.as_uri()
    assert {url.partition(":")[0] for url in browser.requests()[1:]} <= {"data"}
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert browser.evaluate("document.images.length") >= 20
    files = browser.screenshots(request.node.callspec.id)
    assert all(file.stat().st_size > 10_000 for file in files)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_link_of_the_contents_leads_to_its_section(browser, page, size):
    browser.open(page, size)
    browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    found = browser.evaluate(
        """[...document.querySelectorAll('nav a[href^="#"]')].map(link => {
            window.scrollTo(0, 0);
            link.click();
            const target = document.querySelector(':target');
            const at_end = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 2;
            const top = target ? target.getBoundingClientRect().top : -1;
            const heading = target && target.querySelector('h2, h3');
            return {link: link.textContent, href: link.getAttribute('href'), id: target && target.id,
                    heading: heading && heading.textContent, seen: top > -2 && (top < 80 || at_end)};
        })"""
    )
    assert len(found) == 7
    for link in found:
        assert link["href"] == f"#{link['id']}", link
        assert link["seen"], link
        assert link["heading"].startswith(link["link"]), link
    assert browser.said() == []


@pytest.mark.parametrize("size", [(1440, 900), PHONE], ids=["1440", "390"])
def test_the_verdict_fits_on_one_screen_with_its_six_synaptograms(browser, page, size):
    browser.open(page, size)
    assert browser.evaluate("document.querySelectorAll('#verdict img').length") == 6
    assert browser.evaluate("document.getElementById('verdict').getBoundingClientRect().bottom") <= size[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_do_not_glare_in_the_dark(browser, page, scheme):
    browser.open(page, DESKTOP, **{"prefers-color-scheme": scheme})
    ground = browser.evaluate("getComputedStyle(document.querySelector('.paper')).backgroundColor")
    brightest = max(map(int, re.findall(r"\d+", ground)))
    assert brightest == 255 if scheme == "light" else brightest < 210


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_but_tables_in_their_own_frame_is_wider_than_the_screen(browser, page, width):
    browser.open(page, (width, 844))
    browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_keyboards_reach_every_link_fold_and_scrolling_table_and_see_where_they_are(browser, page):
    browser.open(page, DESKTOP)
    browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    wanted = browser.evaluate(
        "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"], button, input, select')]"
        ".filter(part => part.checkVisibility() && !part.disabled).length"
    )
    found = set()
    for _ in range(wanted + 5):
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        found.add(
            browser.evaluate(
                "(() => { const e = document.activeElement; const all = [...document.querySelectorAll('*')];"
                " return e === document.body ? -1 :"
                " all.indexOf(e) * (getComputedStyle(e).outlineStyle === 'none' ? -100 : 1); })()"
            )
        )
    found.discard(-1)
    assert min(found) >= 0, "what has the focus shows it"
    assert len(found) == wanted


def test_the_dark_page_and_the_printed_one_are_whole(browser, page):
    browser.open(page, DESKTOP, **{"prefers-color-scheme": "dark"})
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    browser.screenshots("dark")
    browser.call("Emulation.setEmulatedMedia", features=[])
    pdf = base64.b64decode(browser.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert pdf.startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="print")
    folded = "[...document.querySelectorAll('article details table')].map(table => table.checkVisibility())"
    shown = browser.evaluate(folded)
    browser.call("Emulation.setEmulatedMedia", media="")
    assert len(shown) > 10
    assert all(shown), "paper cannot be unfolded"
    assert not any(browser.evaluate(folded))
    (ARTEFACTS / "print.pdf").write_bytes(pdf)
    assert browser.said() == []


def test_the_browser_would_tell_of_a_request_and_of_an_error(browser, page, tmp_path):
    """What the other tests do not find must be something that they could find."""
    text = page.read_text(encoding="utf-8")
    assert "</main>" in text
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace("</main>", '<img src="http://127.0.0.1:9/x.png"><script>1</script></main>'))
    browser.call("Page.enable")
    browser.events.clear()
    browser.call("Page.navigate", url=broken.as_uri())
    while not any(event.get("method") == "Page.loadEventFired" for event in browser.events):
        browser.events.append(browser.read())
    said = json.dumps(browser.said())
    assert "Content Security Policy" in said
    assert "127.0.0.1:9" in said


def test_on_a_phone_figures_scroll_and_their_text_stays_readable(browser, page):
    browser.open(page, PHONE)
    widths = browser.evaluate(
        "[...document.querySelectorAll('.paper')].filter(paper => paper.checkVisibility())"
        ".map(paper => [paper.scrollWidth, paper.clientWidth, paper.tabIndex])"
    )
    assert len(widths) > 5
    assert all(wide >= 500 > 390 > narrow and index == 0 for wide, narrow, index in widths)


def test_what_is_not_drawn_is_named_in_an_empty_page(browser, empty):
    browser.open(empty.file, DESKTOP)
    assert browser.evaluate("document.getElementById('viewer').innerText").count("as dense as is usual") == 0
    named = browser.evaluate("[...document.querySelectorAll('.absent dt')].map(part => part.innerText)")
    assert "Not drawn: Count by strictness, Synaptograms: extreme synapses" in named
