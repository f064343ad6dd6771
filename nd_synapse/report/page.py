"""The page: plots and facts become one HTML file that loads nothing."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nd_synapse.detection.density import Count, Density
from nd_synapse.errors import StorageError
from nd_synapse.files.atomic import replacing
from nd_synapse.report.captions import TIMES
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.interactive import Interactive
from nd_synapse.report.plot import Numbers, Shown
from nd_synapse.report.table import SynapseTable

__all__ = ["Chapter", "file_name", "html", "write"]

_HERE = Path(__file__).parent
_FIRST_ROWS = 50
_FIRST_COLUMNS = 200
_LONGEST_SLUG = 80
_ZYX = f"(z {TIMES} y {TIMES} x)"


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
    alerts: Sequence[str],
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
    environment.filters["data_uri"] = _data_uri
    style = (_HERE / "style.css").read_text(encoding="utf-8") + interactive.style
    return environment.get_template("template.html").render(
        title=" ".join(title.split()) or "PyMeda report",
        style=Markup(style),  # noqa: S704 - our own file; a stylesheet is not text of the page
        chapters={chapter.slug: chapter for chapter in chapters},
        interactive=interactive,
        cards=_cards(table, facts),
        alerts=alerts,
        facts=facts,
        run=_run(facts),
        links=[(label, url, url.startswith(("http://", "https://"))) for label, url in facts.links.items()],
        rows=_first_rows(table),
        n=table.n,
        seed=seed,
    )


def _data_uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


def _cards(table: SynapseTable, facts: RunFacts) -> list[tuple[str, str, str]]:
    """Return the summary as label, value, and the line below it."""
    box, volume, size = facts.box, facts.volume_um3, facts.voxel_size_nm
    cards = [("Synapses", f"{table.n:,}", "detected objects")]
    if facts.density is not None:
        cards.append(_density_card(facts.density))
    elif volume is not None:
        cards.append(("Density", f"{Count(table.n, volume)} per µm³", f"in {_plain(volume)} µm³ of tissue"))
    if not facts.chance.reason:
        low, share, high = (f"{n:,}" for n in facts.chance.expected(table.n))
        cards.append(("Expected by chance", share, f"of these; {low} to {high} by other assumptions"))
    if box is not None:
        where = ", ".join(f"{axis} {a:,}\N{EN DASH}{b:,}" for axis, (a, b) in zip("zyx", box.ranges, strict=True))
        cards.append(("Box searched", _times(f"{n:,}" for n in box.shape), f"voxels {_ZYX}; {where}"))
    if facts.tissue is not None and size is not None:
        share = f"{100 * facts.tissue.fraction:.3g} % of the box; padding and blocks that failed are not"
        cards.append(("Tissue searched", f"{_plain(facts.tissue.um3(size))} µm³", share))
    if size is not None:
        extent = "" if box is None else _times(_plain(n * nm / 1000) for n, nm in zip(box.shape, size, strict=True))
        whole = f"; the box is {extent} µm" if extent else ""
        cards.append(("Voxel size", _times(f"{nm:g}" for nm in size), f"nm {_ZYX}{whole}"))
    if table.channels:
        names = ", ".join(table.channels)
        cards.append(("Channels", str(len(table.channels)), names if len(names) <= 90 else names[:89] + "…"))
    if facts.pipeline:
        cards.append(("Pipeline", facts.pipeline, "how the synapses were detected"))
    return cards


def _density_card(density: Density) -> tuple[str, str, str]:
    """Return the density with its interval, and what other rules of counting give."""
    volume = f"in {_plain(density.every.um3)} µm³ of tissue"
    cut = f"with the {density.cut:,} cut at a border as whole ones {density.every}"
    if density.brick.per_um3 is None:
        return ("Density", "unknown", f"{density.no_interval}; {cut}; {volume}")
    between = f"no interval: {density.no_interval}"
    if density.interval is not None:
        low, high = density.interval
        digits = density.brick.digits
        between = f"95 % interval {low:.{digits}g} to {high:.{digits}g}, from {density.tiles} tiles"
    choices = f"excluding at first faces {density.without_low}, at last ones {density.without_high}"
    return ("Density", f"{density.brick} per µm³", f"{between}; {choices}; {cut}; {volume}")


def _times(extents: Iterable[str]) -> str:
    return f" {TIMES} ".join(extents)


def _plain(value: float) -> str:
    """Return a number with three digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _run(facts: RunFacts) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the tables of the run as id, heading, rows; empty ones are left out."""
    pipeline = [("pipeline", facts.pipeline)] if facts.pipeline else []
    times = [(step, f"{seconds:,.2f} s") for step, seconds in facts.times_s.items()]
    if len(times) > 1:
        times.append(("all steps", f"{sum(facts.times_s.values()):,.2f} s"))
    tables = [
        ("requested", "Request", list(facts.requested.items())),
        ("parameters", "Pipeline and parameters", pipeline + list(facts.parameters.items())),
        ("counts", "Counts", [(label, f"{number:,}") for label, number in facts.counts.items()]),
        ("times", "Time by step", times),
        ("versions", "Versions", list(facts.versions.items())),
    ]
    return [entry for entry in tables if entry[2]]


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
            image = figures / f"{plot.slug}.png"
            if plot.image is None:
                image.unlink(missing_ok=True)
            else:
                _put(image, plot.image)
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
