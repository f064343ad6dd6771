"""The viewer in a browser: layers load without an error, and a pixel in the middle of a synapse has its label."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from nd_synapse.job.verify import Request
from nd_synapse.view.run import open_run
from nd_synapse.view.shared import shared_link
from tests.report.browser import CHROMIUM, Browser
from tests.test_view import CHANNELS, ran, row, served, viewed
from tests.volumes_on_disk import write

ARTEFACTS = Path(__file__).parent / "artefacts" / "view"
SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
LIMIT_S = 60
VALUE_AT = """
(() => {
  const layer = viewer.layerManager.managedLayers.find(each => each.name === %r).layer;
  const nothing = {pickedRenderLayer: null, pickedValue: 0n, pickedOffset: 0};
  return String(layer.getValueAt(viewer.navigationState.position.value, nothing));
})()
"""
ERRORS = """
viewer.layerManager.managedLayers.flatMap(each => each.layer.dataSources.map(source => source.loadState?.error))
  .filter(Boolean).map(String)
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="there is no chromium")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"), *SOFTWARE_GL)
    yield found
    found.process.terminate()
    found.process.wait(20)


def shown(browser: Browser, url: str, name: str) -> None:
    """Open the viewer, wait until all that is visible is drawn, and keep a picture of it."""
    browser.call("Emulation.setDeviceMetricsOverride", width=1400, height=900, deviceScaleFactor=1, mobile=False)
    browser.call("Page.navigate", url="about:blank")
    browser.events.clear()
    browser.call("Page.navigate", url=url)
    end = time.monotonic() + LIMIT_S
    while not browser.evaluate(
        "Boolean(window.viewer && viewer.layerManager.managedLayers.length && viewer.isReady())"
    ):
        assert time.monotonic() < end, browser.said()
        time.sleep(0.2)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    picture = browser.call("Page.captureScreenshot", format="png")["data"]
    (ARTEFACTS / f"{name}.png").write_bytes(base64.b64decode(picture))


def faults(browser: Browser) -> list[Any]:
    """Return what the page wrote to the console as an error or warning, and the layers that did not load."""
    levels = {"error", "warning", "assert"}
    said = [event for event in browser.said() if event.get("type", event.get("entry", {}).get("level")) in levels]
    return [*said, *browser.evaluate(ERRORS)]


def test_the_viewer_shows_a_synapse_with_its_label_and_no_error(browser: Browser, tmp_path: Path) -> None:
    write("stacks", tmp_path / "images", CHANNELS)
    folder = ran(tmp_path, source=tmp_path / "images")
    number = max(range(1, 20), key=lambda n: int(row(folder, n)["voxels"]))
    with viewed(folder) as viewer:
        shown(browser, viewer.url, "first")
        assert faults(browser) == []
        shown(browser, f"{viewer.url}?at={number}", "at")
        assert faults(browser) == []
        assert browser.evaluate(VALUE_AT % "synapses") == str(number)


@pytest.mark.parametrize("form", ["", "precomputed://"])
def test_the_link_for_others_shows_the_same_voxels_and_labels(browser: Browser, tmp_path: Path, form: str) -> None:
    write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
    folder = ran(tmp_path, source=tmp_path / "a.zarr", out=f"{form}{tmp_path / 'out'}")
    number = max(range(1, 20), key=lambda n: int(row(folder, n)["voxels"]))
    with served(tmp_path) as web, viewed(folder) as viewer:
        opened = open_run(Request(folder=folder, source=f"{web}/a.zarr"))
        opened = replace(opened, run=replace(opened.run, out=f"{form}s3://bucket/out"))
        state = unquote(shared_link(opened, number)).partition("#!")[2].replace("s3://bucket", web)
        shown(browser, f"{viewer.url}v/view/#!{quote(state)}", "link")
        # which metadata a Zarr has is found by trying
        assert [fault for fault in faults(browser) if fault.get("entry", {}).get("source") != "network"] == []
        x, y, z = (round(n) for n in browser.evaluate("Array.from(viewer.navigationState.position.value)"))
        name = next(iter(opened.scene.roles.values()))
        assert browser.evaluate(VALUE_AT % name) == str(CHANNELS[name][z, y, x])
        assert browser.evaluate(VALUE_AT % "synapses") == str(number)
