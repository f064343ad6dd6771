"""The strictness from labels: what is chosen, how sure it is, and what is to be expected there."""

from __future__ import annotations

import numpy as np
import pytest

from nd_synapse.evaluate import Extent, Synapses, evaluate_points
from nd_synapse.evaluate.strictness import LEAST_SYNAPSES, Advice, Marked, advise
from nd_synapse.geometry import Box


def planted(tiles: int, seed: int, spread: float = 0.3) -> Marked:
    """Return tiles of about 20 synapses, which score 4 +- 1, and 40 others, 2 +- 1; some tiles are brighter."""
    rng = np.random.default_rng(seed)
    hits, others = rng.poisson(20, tiles), rng.poisson(40, tiles)
    tile = np.concatenate([np.repeat(np.arange(tiles), hits), np.repeat(np.arange(tiles), others)])
    right = np.arange(len(tile)) < hits.sum()
    score = np.where(right, 4.0, 2.0) + rng.normal(0, spread, tiles)[tile] + rng.normal(0, 1, len(tile))
    return Marked(score, right, tile, hits + rng.poisson(2, tiles))


FRESH = planted(1000, seed=999)


@pytest.fixture(scope="module")
def advices() -> list[Advice]:
    """Return what fifteen labs are advised, each by its own labels."""
    advices = [advise(planted(20, seed), resamples=100) for seed in range(15)]
    return [one for one in advices if one is not None]


def at(marked: Marked, strictness: float) -> tuple[float, float, float]:
    """Return precision, recall and F1."""
    hits, found, synapses = marked.counts(strictness).sum(axis=1)
    return hits / found, hits / synapses, 2 * hits / (found + synapses)


def test_the_strictness_is_the_one_that_is_best_on_fresh_data(advices: list[Advice]) -> None:
    """F1 is flat near its best: the choice may be off, but it costs little."""
    score, f1, _ = FRESH.curve()
    best = score[np.argmax(f1[0])]
    assert sum(one.strictness.low <= best <= one.strictness.high for one in advices) >= 13
    assert min(at(FRESH, one.strictness.value)[2] for one in advices) > f1.max() - 0.03


def test_fresh_data_have_the_expected_precision_and_recall_within_the_interval(
    advices: list[Advice],
) -> None:
    """And on average they are as expected: labels that chose the strictness would flatter."""
    off, within = [], []
    for advice in advices:
        pairs = list(zip((advice.precision, advice.recall, advice.f1), at(FRESH, advice.strictness.value), strict=True))
        off.append([expected.value - real for expected, real in pairs])
        within.append([expected.low <= real <= expected.high for expected, real in pairs])
    assert np.abs(np.mean(off, axis=0)).max() < 0.01
    assert np.mean(within) > 0.8


def test_more_labels_make_the_interval_narrower() -> None:
    few, many = (advise(planted(tiles, seed=1), resamples=100) for tiles in (8, 64))
    assert few is not None
    assert many is not None
    for name in ("strictness", "precision", "recall", "f1"):
        narrow, wide = getattr(many, name), getattr(few, name)
        assert narrow.high - narrow.low < 0.7 * (wide.high - wide.low)


def test_the_same_labels_give_the_same_advice() -> None:
    assert advise(planted(16, 3), 100, seed=5) == advise(planted(16, 3), 100, seed=5)


def test_few_synapses_or_no_hit_give_no_advice() -> None:
    few = planted(16, 0)
    assert advise(Marked(few.score, few.right, few.tile, np.eye(16, dtype=np.int64)[0] * (LEAST_SYNAPSES - 1))) is None
    assert advise(Marked(few.score, np.zeros_like(few.right), few.tile, few.synapses)) is None
    nothing = Marked(np.empty(0), np.empty(0, np.bool_), np.empty(0, np.int64), np.array([20, 20]))
    assert advise(nothing) is None


def test_a_curve_weighs_each_tile() -> None:
    """Tile 0 has two hits of three, tile 1 one of one; weights choose which counts."""
    marked = Marked(
        np.array([3.0, 2.0, 1.0, 2.0]), np.array([True, False, True, True]), np.array([0, 0, 0, 1]), np.array([2, 2])
    )
    score, f1, average = marked.curve(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    assert score.tolist() == [3, 2, 1]
    assert f1[0].tolist() == pytest.approx([2 / 3, 1 / 2, 4 / 5])
    assert f1[1].tolist() == pytest.approx([0, 2 / 3, 2 / 3])
    assert average[:2].tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 2])
    assert f1[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("images", "tiles"), [(1, 16), (4, 16), (5, 20), (16, 16), (20, 20)])
def test_few_images_are_cut_into_tiles(images: int, tiles: int) -> None:
    rng = np.random.default_rng(0)
    extent = Extent(Box.of_shape((1, 100, 100)), (70.0, 100.0, 100.0))
    evaluations = []
    for _ in range(images):
        places = rng.uniform(0, 9.9, (50, 3)) * [0, 1, 1]
        evaluations.append(evaluate_points(Synapses(places), Synapses(places, score=rng.random(50))))
    marked = Marked.of(evaluations, [extent] * images)
    assert len(marked.synapses) == tiles
    assert marked.synapses.sum() == 50 * images
    hits, found, synapses = marked.counts()
    assert np.array_equal(hits, synapses)
    assert np.array_equal(found, synapses)
