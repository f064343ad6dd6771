"""The report in a browser: it opens without an error, asks for nothing, and every link of its contents leads somewhere.

The browser is headless Chromium, Debian's package; it is spoken to through a pair of pipes, in its DevTools protocol.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report.examples import FACTS

ARTEFACTS = Path(__file__).parents[1] / "artefacts" / "report"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
# Chromium reads from descriptor 3 and writes to 4.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
DESKTOP, PHONE = (1280, 900), (390, 844)
LIMIT_S = 60
PIECE_PX = 6000

pytestmark = pytest.mark.slow


class Browser:
    """A headless Chromium and its one page, spoken to in the DevTools protocol: JSON, each message ended by a zero."""

    def __init__(self, folder: Path) -> None:
        to_it, self.outgoing = os.pipe()
        self.incoming, from_it = os.pipe()
        # high numbers first, so that neither is overwritten by the other
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (to_it, from_it)]
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--no-first-run", "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, high), *command, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=high,
        )
        for fd in (to_it, from_it, *high):
            os.close(fd)
        self.buffer, self.events, self.last, self.session = b"", list[dict[str, Any]](), 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Send a command and return its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.outgoing, data) :]
        wanted = self.last
        while True:
            answer = self.read()
            if answer.get("id") == wanted:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def read(self):
        """Return the next message of the browser."""
        end = time.monotonic() + LIMIT_S
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.incoming], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser says nothing"
            part = os.read(self.incoming, 1 << 20)
            assert part, "the browser has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def open(self, page, size, **media):
        """Open a page at a size, and return when it is loaded."""
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in media.items()])
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())
        self.evaluate("Promise.all([...document.images].map(image => image.decode()))")

    def evaluate(self, script):
        """Return what a script gives; it runs beside the page, whose policy forbids scripts of its own."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def said(self):
        """Return what the page wrote to the console, and what the browser held against it."""
        names = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        return [event["params"] for event in self.events if event.get("method") in names]

    def requests(self):
        """Return the addresses that the page asked for."""
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def screenshots(self, name):
        """Keep the whole page as PNG files, cut where the browser's largest picture ends."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        for old in ARTEFACTS.glob(f"{name}-*.png"):
            old.unlink()
        files = []
        for number, top in enumerate(range(0, int(size["height"]), PIECE_PX), start=1):
            height = min(PIECE_PX, size["height"] - top)
            clip = {"x": 0, "y": top, "width": size["width"], "height": height, "scale": 1}
            shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            files.append(ARTEFACTS / f"{name}-{number}.png")
            files[-1].write_bytes(base64.b64decode(shot["data"]))
        return files

    def close(self):
        """End the browser."""
        try:
            self.session = None
            self.call("Browser.close")
            self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.outgoing)
            os.close(self.incoming)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        words = "there is no chromium on the PATH; on Debian: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    started = Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


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
        """[...document.querySelectorAll('a[href^="#"]')].map(link => {
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
    assert len(found) > 25
    for link in found:
        assert link["href"] == f"#{link['id']}", link
        assert link["seen"], link
        if link["href"] != "#verdict":
            assert link["heading"] == link["link"], link
    assert browser.said() == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_but_tables_in_their_own_frame_is_wider_than_the_screen(browser, page, width):
    browser.open(page, (width, 844))
    browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_keyboards_reach_every_link_fold_and_scrolling_table_and_see_where_they_are(browser, page):
    browser.open(page, DESKTOP)
    browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    wanted = browser.evaluate("document.querySelectorAll('a[href], summary, [tabindex=\"0\"]').length")
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
