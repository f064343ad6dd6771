"""The parts of our Markdown files that tests compare with the code; not a parser of Markdown in general."""

from __future__ import annotations

import re
from pathlib import Path

FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(file: Path, heading: str) -> str:
    """Return the text below a heading, as far as the next of its level or above."""
    text = file.read_text(encoding="utf-8")
    start = re.search(rf"^(#+) {re.escape(heading)}\n", text, re.MULTILINE)
    assert start, f"{file.name} has no heading {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def tables(text: str) -> list[list[list[str]]]:
    """Return the bodies of the tables in a text: tables, rows, cells."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in b.splitlines()[2:]] for b in blocks]


def code(text: str) -> list[str]:
    """Return what stands in backticks, outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", text))


def fenced(text: str) -> list[str]:
    """Return the fenced blocks."""
    return FENCED.findall(text)


def anchors(file: Path) -> set[str]:
    """Return the names under which the headings of a file can be linked to."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
