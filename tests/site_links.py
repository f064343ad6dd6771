"""``python -m tests.site_links FOLDER`` exits with 1 if a page of a site leads to a file or place that is not there."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the names of its places."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links |= {value for name in ("href", "src") if (value := given.get(name))}
        self.places |= {value for name in ("id", "name") if (value := given.get(name))}


def broken(site: Path) -> list[str]:
    """Return the links within a site that lead nowhere, each with its page."""
    pages = {file: Page(file) for file in site.resolve().rglob("*.html")}
    found = []
    for file, page in sorted(pages.items()):
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            there = target.is_file() and (
                target not in pages or not parts.fragment or unquote(parts.fragment) in pages[target].places
            )
            if not there:
                found.append(f"{file.relative_to(site.resolve())}: {link}")
    return found


if __name__ == "__main__":
    if wrong := broken(Path(sys.argv[1])):
        sys.exit("\n".join(wrong))
