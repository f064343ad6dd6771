"""Headless Chromium, Debian's package, spoken to through a pair of pipes in its DevTools protocol."""

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
from pathlib import Path
from typing import Any

__all__ = ["ARTEFACTS", "CHROMIUM", "DESKTOP", "PHONE", "Browser"]

ARTEFACTS = Path(__file__).parents[1] / "artefacts" / "report"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
# Chromium reads from descriptor 3 and writes to 4.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
DESKTOP, PHONE = (1280, 900), (390, 844)
LIMIT_S = 60
PIECE_PX = 6000


class Browser:
    """A headless Chromium and its one page, spoken to in the DevTools protocol: JSON, each message ended by a zero."""

    def __init__(self, folder: Path, *flags: str) -> None:
        to_it, self.outgoing = os.pipe()
        self.incoming, from_it = os.pipe()
        # high numbers first, so that neither is overwritten by the other
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (to_it, from_it)]
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage"]
        command += flags or ("--disable-gpu",)
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
        end = time.monotonic() + LIMIT_S
        while not self.evaluate("!document.getElementById('live-data') || !!document.documentElement.dataset.live"):
            assert time.monotonic() < end, "the script of the page does not end"
            time.sleep(0.05)

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
