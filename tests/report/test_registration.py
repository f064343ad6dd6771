"""What the report says of the registration of sections and channels."""

from __future__ import annotations

from dataclasses import replace

from nd_synapse.detection.registration import UNSURE, WITHIN, Pair
from nd_synapse.report.figures_registration import registration_alerts
from nd_synapse.report.plot import show
from tests.report.examples import FACTS, PLOTS, REGISTERED, numbers, subject, synapses


def test_an_alert_names_sections_shift_and_what_to_do() -> None:
    (alert,) = registration_alerts(REGISTERED)
    assert alert.startswith("Not registered: PSD95 is displaced between neighbouring sections")
    assert "more than the width of a punctum (300 nm) in 2 of 2 pairs" in alert
    assert "100 to 101 by 2,360 nm, up to 3,581 nm (y +14, x -19.5 pixels)" in alert
    assert "101 to 102 by 400 nm (y +4, x +0 pixels)." in alert
    assert "align the sections" in alert


def test_what_is_within_or_unsure_or_was_not_measured_is_no_alert() -> None:
    within = tuple(pair for pair in REGISTERED.pairs if not pair.is_neighbours)
    assert within[0].outcome == WITHIN
    assert registration_alerts(replace(REGISTERED, pairs=within)) == []
    assert registration_alerts(None) == []


def test_a_channel_of_which_most_sections_cannot_be_told_is_an_alert_and_two_channels_are_none() -> None:
    neighbours = [Pair(("PSD95", "PSD95"), (z, z + 1), UNSURE, fields=9) for z in range(3)]
    across = [Pair(("SYNAPSIN", "PSD95"), (z, z), UNSURE, fields=9) for z in range(3)]
    (alert,) = registration_alerts(replace(REGISTERED, pairs=(*neighbours, *across)))
    assert alert.startswith("Registration unknown: PSD95 has too little in common in 3 of 3 pairs")


def test_the_figure_counts_what_is_within_beyond_and_unsure() -> None:
    found = numbers("registration", subject(synapses(9)))
    assert found.header == ("Images", "Within", "Beyond", "Cannot tell", "Largest (nm)")
    assert found.rows == [
        ["PSD95 on SYNAPSIN", "1", "0", "1", "100"],
        ["PSD95, neighbours", "0", "2", "0", "2,360"],
    ]


def test_without_pairs_the_figure_is_replaced_by_the_reason() -> None:
    for registration, reason in ((None, "not measured"), (replace(REGISTERED, pairs=()), "nothing can be compared")):
        shown = show(PLOTS["registration"], subject(synapses(9), replace(FACTS, registration=registration)))
        assert reason in shown.reason
        assert not shown.failed
