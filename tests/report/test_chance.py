"""What is expected by chance, on the page."""

from dataclasses import replace

import pytest

from nd_synapse.detection.confidence import Chance
from nd_synapse.report.checks import BAD, GOOD, LOOK, checks
from nd_synapse.report.figures_detections import _by_chance
from nd_synapse.report.figures_gallery import Samples
from nd_synapse.report.interactive import Interactive
from nd_synapse.report.page import Chapter, html
from nd_synapse.report.report import CHAPTERS
from nd_synapse.report.verdict import Looked, verdict
from tests.report.examples import FACTS, subject, synapses

CHANCE = Chance(
    reason="", fields=2, shifts=8, voxels=10, detections=5, share=0.25, share_at_least=0.1, share_at_most=0.4
)
TABLE = synapses(200)
LOOKED = Looked(colours={}, samples=Samples(), at_top=None, areas={})


@pytest.mark.parametrize(("chance", "is_known"), [(CHANCE, True), (Chance(reason="no partner"), False)])
def test_the_page_has_the_figure_where_it_is_known(chance: Chance, is_known: bool) -> None:
    drawn = subject(TABLE, replace(FACTS, chance=chance))
    sections = [Chapter(slug, title, lead, []) for slug, title, lead, _ in CHAPTERS]
    found = verdict(drawn.table, drawn.standardised, drawn.facts, LOOKED)
    page = html("title", sections, drawn.table, drawn.facts, found, Interactive(), 0)
    assert ("25 % by chance" in page) == is_known
    assert ("50 expected; 20 to 80 by other assumptions" in page) == is_known


@pytest.mark.parametrize(
    ("share", "words"), [(2.6e-5, "below 0.1 %"), (0.0011, "0.11 %"), (0.126, "13 %"), (0.9999, "100 %")]
)
def test_a_share_is_not_said_more_exactly_than_it_is_known(share: float, words: str) -> None:
    drawn = subject(TABLE, replace(FACTS, chance=replace(CHANCE, share=share)))
    found = verdict(drawn.table, drawn.standardised, drawn.facts, LOOKED)
    assert f"{words} by chance" in [card.value for card in found.cards]


def test_the_caption_has_the_figure_and_its_limits() -> None:
    caption = _by_chance(subject(TABLE, replace(FACTS, chance=CHANCE)))
    assert "Of 200 detections about 50 (20 to 80) are expected by chance" in caption
    assert "one stain bleeds into the other channel" in caption


@pytest.mark.parametrize(("share", "light"), [(0.1, GOOD), (0.25, LOOK), (0.5, BAD), (0.6, BAD)])
def test_many_by_chance_are_to_be_looked_at_and_a_half_is_bad(share: float, light: str) -> None:
    drawn = subject(TABLE, replace(FACTS, chance=replace(CHANCE, share=share)))
    (found,) = (check for check in checks(drawn.table, drawn.standardised, drawn.facts) if check.name == "Chance")
    assert found.light == light


@pytest.mark.parametrize("curve", [(), ((1.0, 0.5),)], ids=["without", "with"])
def test_the_check_names_the_confidence_only_where_there_is_one(curve: tuple[tuple[float, float], ...]) -> None:
    drawn = subject(TABLE, replace(FACTS, chance=replace(CHANCE, curve=curve)))
    (found,) = (check for check in checks(drawn.table, drawn.standardised, drawn.facts) if check.name == "Chance")
    assert ("column confidence" in " ".join(found.more)) == bool(curve)
