"""Reports that are drawn once and shared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pymeda_driver import Report, RunFacts
from tests.report import examples
from tests.report.browser import ARTEFACTS, CHROMIUM, Browser


class Page(HTMLParser):
    """What a browser would see of a page: elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.script = ""  # the last one
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "script":
            self.script = ""

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.script += data
        else:
            self.text += data

    def all(self, tag: str, attribute: str) -> list[str]:
        return [attributes[attribute] for name, attributes in self.elements if name == tag and attribute in attributes]


@dataclass(frozen=True)
class Written:
    """A report and its files."""

    report: Report
    file: Path
    text: str
    page: Page

    @classmethod
    def of(cls, report: Report, folder: Path, facts: RunFacts = examples.FACTS) -> Written:
        file = report.write(folder, facts)
        text = file.read_text(encoding="utf-8")
        return cls(report, file, text, Page(text))

    @property
    def figures(self) -> dict[str, Path]:
        return {path.stem: path for path in (self.file.parent / "figures").iterdir()}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A report with every figure."""
    return Written.of(examples.whole(), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The report of a run that found nothing."""
    return Written.of(examples.drawn(examples.synapses(0)), tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="session")
def many_channels(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The report of 17 channels with long names, more than any figure shows in full."""
    table = {**examples.synapses(300, examples.MANY), "in_Gaba": np.arange(300) < 99}
    return Written.of(examples.drawn(table, examples.MANY), tmp_path_factory.mktemp("many"))


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
