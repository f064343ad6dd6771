"""Reports of tables with too many rows to draw: figures from an even sample, numbers of all rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import Case, measure
from nd_synapse import columns as pieces_of
from nd_synapse.report import table as tables
from nd_synapse.report.depth import layers
from nd_synapse.report.table import SynapseTable
from nd_synapse.report.verdict import verdict
from tests.report.examples import FACTS, PLOTS, drawn, subject, synapses

ROWS = 4001


@pytest.fixture
def short() -> dict[str, np.ndarray]:
    table = synapses(ROWS)
    table["class"] = np.array(["excitatory", "inhibitory"])[(np.arange(ROWS) % 5 == 1).astype(int)]
    table["class"][7] = "odd"  # in no sample of every fourth row
    table["in_Gaba"] = np.arange(ROWS) % 4 == 3
    return table


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a thousand rows too many to draw, and a piece of 300 rows."""
    monkeypatch.setattr(tables, "MOST_DRAWN", 1001)
    monkeypatch.setattr(pieces_of, "MOST_ROWS", 300)


def test_a_sample_is_every_fourth_row_by_id(short: dict[str, np.ndarray], long: None) -> None:
    table = SynapseTable.of(short).drawn()
    assert (table.step, table.n, table.whole.n) == (4, 1001, ROWS)
    assert table.columns["id"].tolist() == list(range(1, ROWS + 1, 4))
    assert sum(piece.n for piece in table.pieces()) == ROWS
    assert max(piece.n for piece in table.pieces()) == 300


def test_numbers_are_of_all_rows(short: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers() -> dict[str, object]:
        report = drawn(short)
        found = verdict(report.synapses, report.standardised, FACTS, report.looked)
        whole = {"cards": found.cards[:3], "classes": found.classes}
        whole["checks"] = [check for check in found.checks if check.name not in ("Channels", "Odd sections")]
        cut = layers(report.synapses, FACTS, 60)
        whole["depth"] = cut.counts_of_all(report.synapses, FACTS).tolist()
        shown = {plot.slug: plot for chapter in report.chapters for plot in chapter.plots}
        groups = shown["groups"].numbers
        assert groups is not None
        whole["groups"] = [row[:4] for row in groups.rows]
        whole["depths"] = shown["depth"].numbers
        whole["against"] = shown["against-random"].numbers
        return whole

    exact = numbers()
    monkeypatch.setattr(tables, "MOST_DRAWN", 1001)
    monkeypatch.setattr(pieces_of, "MOST_ROWS", 300)
    assert numbers() == exact


def test_a_map_of_all_rows_is_no_thinner(short: dict[str, np.ndarray], long: None) -> None:
    drawing = PLOTS["density-map"].draw(subject(short))
    assert f"the {ROWS:,} synapses" in drawing.caption
    assert FACTS.volume_um3 is not None
    assert drawing.numbers is not None
    per_um3 = ROWS / FACTS.volume_um3
    (median,) = (float(row[1]) for row in drawing.numbers.rows if row[0].startswith("50 %"))
    assert 0.5 * per_um3 < median < 2 * per_um3


def test_neighbours_are_those_among_all_rows(short: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    def median() -> float:
        numbers = PLOTS["neighbours"].draw(subject(short)).numbers
        assert numbers is not None
        return next(float(row[1]) for row in numbers.rows if row[0] == "50 %")

    exact = median()
    monkeypatch.setattr(tables, "MOST_DRAWN", 1001)
    monkeypatch.setattr(pieces_of, "MOST_ROWS", 300)
    # a quarter of the rows would be 1.6 times as far from each other
    assert median() == pytest.approx(exact, rel=0.15)


def test_the_page_says_that_it_is_drawn_from_a_sample(short: dict[str, np.ndarray], long: None, tmp_path: Path) -> None:
    page = drawn(short).write(tmp_path, FACTS).read_text()
    words = "The figures are drawn from an even sample, one row in 4 of the table (1,001 of 4,001)"
    first, _, methods = page.partition('id="methods"')
    assert first.count(words) == 1
    assert methods.count(words) == 1


def test_a_page_of_all_rows_says_nothing_of_a_sample(short: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert "even sample" not in drawn(short).write(tmp_path, FACTS).read_text()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    found = measure(Case("", ("long", "3000000"), 0), tmp_path / "report")
    assert found["peak"] < 1e9
