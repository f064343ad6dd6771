"""The page: plots and facts become one HTML file that loads nothing."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nd_synapse.errors import StorageError
from nd_synapse.files.atomic import replacing
from nd_synapse.report import methods
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.interactive import Interactive
from nd_synapse.report.look import short
from nd_synapse.report.plot import Numbers, Shown
from nd_synapse.report.table import SynapseTable
from nd_synapse.report.verdict import Verdict

__all__ = ["Chapter", "file_name", "html", "write"]

_HERE = Path(__file__).parent
_FIRST_ROWS = 50
_FIRST_COLUMNS = 200
_LONGEST_SLUG = 80


@dataclass(frozen=True, slots=True)
class Chapter:
    """Plots that belong together: id on the page, heading, what they answer in a sentence, and the plots."""

    slug: str
    title: str
    lead: str
    plots: Sequence[Shown]

    @property
    def drawn(self) -> list[Shown]:
        """The plots with an image, and those that should have one and failed."""
        return [plot for plot in self.plots if plot.failed or plot.image is not None]

    @property
    def absent(self) -> dict[str, list[Shown]]:
        """The other plots by the reason why there is no image."""
        found: dict[str, list[Shown]] = {}
        for plot in self.plots:
            if not plot.failed and plot.image is None:
                found.setdefault(plot.reason, []).append(plot)
        return found


def file_name(title: str) -> str:
    """Return ``PyMeda_<slug>.html``: ASCII letters, digits and hyphens of a title, without a leading "PyMeda"."""
    ascii_only = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = [word for word in re.split(r"[^a-z0-9]+", ascii_only) if word]
    slug = "-".join(words[1:] if words[:1] == ["pymeda"] else words)
    return f"PyMeda_{slug[:_LONGEST_SLUG].strip('-') or 'report'}.html"


def html(
    title: str,
    chapters: Sequence[Chapter],
    table: SynapseTable,
    facts: RunFacts,
    verdict: Verdict,
    interactive: Interactive,
    seed: int,
) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri, "short": partial(short, most=14)}
    style = (_HERE / "style.css").read_text(encoding="utf-8") + interactive.style
    return environment.get_template("template.html").render(
        title=" ".join(title.split()) or "PyMeda report",
        style=Markup(style),  # noqa: S704 - our own file; a stylesheet is not text of the page
        chapters={chapter.slug: chapter for chapter in chapters},
        interactive=interactive,
        verdict=verdict,
        facts=facts,
        paragraph=methods.paragraph(table, facts),
        run=methods.run_tables(facts),
        snippets=methods.snippets(facts),
        links=[(label, url, url.startswith(("http://", "https://"))) for label, url in facts.links.items()],
        rows=_first_rows(table.whole),
        n=table.whole.n,
        sampling=table.sampling,
        seed=seed,
    )


def _data_uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


def _first_rows(table: SynapseTable) -> Numbers:
    shown = dict(islice(table.columns.items(), _FIRST_COLUMNS))
    columns = [[_cell(value) for value in values[:_FIRST_ROWS]] for values in shown.values()]
    return Numbers(list(shown), list(zip(*columns, strict=True)))


def _cell(value: Any) -> str:
    """Return a cell of the table as text: numbers that are not whole with six digits."""
    if value.dtype.kind == "b":
        return "yes" if value else "no"
    if value.dtype.kind in "iuU":
        return str(value)
    return "" if value != value else f"{value:.6g}"


def write(path: Path, name: str, text: str, plots: Sequence[Shown]) -> Path:
    """Write the page and its figures, each file whole or not at all."""
    figures, page = path / "figures", path / name
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for plot in plots:
            for suffix, content in (("png", plot.image), ("svg", plot.svg)):
                image = figures / f"{plot.slug}.{suffix}"
                if content is None:
                    image.unlink(missing_ok=True)
                else:
                    _put(image, content)
        # a title from the command line may hold bytes that are no text
        _put(page, text.encode(errors="replace"))
    except OSError as error:
        where = f"the report {page}, at {error.filename or path}"
        what = error.strerror or type(error).__name__
        remedy = "Free space, remove what is in the way, or choose a folder that you may write"
        raise StorageError(where, what, remedy) from error
    return page


def _put(file: Path, content: bytes) -> None:
    """Write a file atomically, unless it holds `content` already."""
    # a run writes its report twice, with the same figures
    if file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content:
        return
    with replacing(file) as out:
        out.write(content)
