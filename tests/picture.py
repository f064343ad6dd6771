"""``python -m tests.picture`` makes docs/picture.jpg, a run in report and viewer, and the pictures of docs/gallery."""

from __future__ import annotations

import base64
import io
import tempfile
import time
from pathlib import Path

import tifffile
from PIL import Image

import driver
from nd_synapse.local_boss.synthetic import generate
from tests.conftest import REPOSITORY
from tests.gallery import write_reports
from tests.report.browser import Browser
from tests.test_view import viewed
from tests.test_view_browser import SOFTWARE_GL

SIZE = (1180, 800)
"""Width and height of each of the two."""
GALLERY, GALLERY_SIZE = REPOSITORY / "docs" / "gallery", (1100, 760)


def shot(browser: Browser) -> Image.Image:
    """Return what the browser shows."""
    data = browser.call("Page.captureScreenshot", format="png")["data"]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def draw_gallery() -> None:
    """Run every pipeline, and keep the first screen of each report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_reports(folder / "reports")
        browser = Browser(folder / "profile", "--disable-gpu")
        try:
            for page in (folder / "reports").iterdir():
                browser.open(page, GALLERY_SIZE)
                shot(browser).save(GALLERY / f"{page.stem}.jpg", quality=75, optimize=True, progressive=True)
        finally:
            browser.close()


def draw_picture() -> None:
    """Run the job, open report and viewer, and put them side by side."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume = generate((16, 512, 512), seed=1)
        (folder / "sample").mkdir()
        for channel in ("Synapsin", "PSD95", "GluN1", "VGlut1"):
            tifffile.imwrite(folder / "sample" / f"{channel}.tif", volume.channels[channel])
        info, _, _ = driver.driver(
            source=folder / "sample", voxel_size_nm=volume.voxel_size_nm, path=folder / "results"
        )
        results = Path(info["folder"])
        (page,) = results.glob("PyMeda_*.html")
        browser = Browser(folder / "profile", *SOFTWARE_GL)
        try:
            browser.open(page, SIZE)
            report = shot(browser)
            with viewed(results) as viewer:
                browser.call("Page.navigate", url=viewer.url)
                ready = "Boolean(window.viewer && viewer.layerManager.managedLayers.length && viewer.isReady())"
                end = time.monotonic() + 60
                while not browser.evaluate(ready) and time.monotonic() < end:
                    time.sleep(0.2)
                time.sleep(1)
                places = shot(browser)
        finally:
            browser.close()
    both = Image.new("RGB", (2 * SIZE[0] + 20, SIZE[1]), "white")
    both.paste(report, (0, 0))
    both.paste(places, (SIZE[0] + 20, 0))
    both.save(REPOSITORY / "docs" / "picture.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    draw_picture()
    draw_gallery()
