"""What the report says of the registration of sections and channels."""

from __future__ import annotations

from dataclasses import replace

from nd_synapse.detection.registration import UNSURE, WITHIN, Pair, Registration
from nd_synapse.report.checks import BAD, GOOD, LOOK, UNKNOWN, Check
from nd_synapse.report.plot import show
from tests.report.examples import FACTS, PLOTS, REGISTERED, checked, numbers, subject, synapses


def registered(registration: Registration | None) -> Check:
    return checked(subject(synapses(9)), replace(FACTS, registration=registration))["Registration"]


def test_shifts_beyond_the_width_of_a_punctum_are_bad_and_named_the_largest_first() -> None:
    found = registered(REGISTERED)
    assert (found.light, found.reason) == (BAD, "shifts beyond 300 nm")
    (sentence,) = found.more
    assert sentence.startswith("PSD95 is displaced between neighbouring sections by more than the width of a punctum")
    assert (
        "in 2 of 2 pairs: 100 to 101 by 2,360 nm, up to 3,581 nm (y +14, x -19.5 pixels), 101 to 102 by 400 nm"
        in sentence
    )
    assert "align the sections" in sentence


def test_what_is_within_is_good_and_what_was_not_measured_is_not_known() -> None:
    within = tuple(pair for pair in REGISTERED.pairs if not pair.is_neighbours)
    assert within[0].outcome == WITHIN
    found = registered(replace(REGISTERED, pairs=within))
    assert (found.light, found.reason, found.more) == (GOOD, "1 of 2 pairs within 300 nm, 1 cannot be told", ())
    assert registered(None).light == registered(replace(REGISTERED, pairs=())).light == UNKNOWN


def test_channels_of_which_most_sections_cannot_be_told_are_to_be_looked_at() -> None:
    neighbours = [Pair(("PSD95", "PSD95"), (z, z + 1), UNSURE, fields=9) for z in range(3)]
    across = [Pair(("SYNAPSIN", "PSD95"), (z, z), UNSURE, fields=9) for z in range(3)]
    found = registered(replace(REGISTERED, pairs=(*neighbours, *across)))
    assert (found.light, found.reason) == (LOOK, "0 of 6 pairs within 300 nm, 6 cannot be told")
    assert [sentence.partition(":")[0] for sentence in found.more] == [
        "PSD95 has too little in common in 3 of 3 pairs of neighbouring sections. They are sparse, or displaced by "
        "more than was looked for",
        "How PSD95 lies on SYNAPSIN cannot be told in 3 of 3 sections",
    ]


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
