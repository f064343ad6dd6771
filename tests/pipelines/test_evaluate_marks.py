"""Marks of a person on a random sample: the precision of all rows, its interval, and the strictness to use."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nd_synapse.cli.evaluate import main
from nd_synapse.errors import DataError
from nd_synapse.evaluate.marks import Marks, as_text, judge, read_marks, rows_of
from nd_synapse.evaluate.metrics import exact_proportion
from nd_synapse.report.interactive import marked_rows
from tests.small_run import RUN

N, MARKED = 3000, 120


def planted(seed=0, n=N):
    """Return scores of n rows and which are right; the more, the higher the score."""
    random = np.random.default_rng([seed, n])
    score = 4 + random.exponential(3, n)
    return score, random.random(n) < 1 / (1 + np.exp(4.5 - score))


def marks_of(right, rows, unsure=()):
    decided = ~np.isin(np.arange(len(rows)), unsure)
    return Marks(rows + 1, {}, right[rows] & decided, decided, "puncta")


def offered(seed, n=N):
    """Return the rows that a page offers for marking."""
    return marked_rows([np.zeros(n)] * 3, seed)[:MARKED]


def test_the_precision_of_all_rows_is_in_its_interval_in_at_least_95_of_100_trials():
    held = []
    for seed in range(100):
        score, right = planted(seed)
        found = judge(marks_of(right, offered(seed)), offered(seed), N, score, 0.9).precision
        held.append(found.low <= right.mean() <= found.high)
    assert sum(held) >= 95


def test_the_sample_is_without_bias_over_draws():
    _, right = planted()
    shares = [right[offered(seed)].mean() for seed in range(400)]
    assert np.mean(shares) == pytest.approx(right.mean(), abs=0.006)


def test_the_advised_strictness_has_about_the_wanted_precision():
    true = []
    for seed in range(100):
        score, right = planted(seed)
        judged = judge(marks_of(right, offered(seed)), offered(seed), N, score, 0.9)
        assert judged.advised is not None
        strictness = judged.strictness[judged.advised]
        true.append(right[score >= strictness].mean())
        assert judged.left[judged.advised] == (score >= strictness).sum()
    assert np.mean(true) == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"), [(0, 10, 0, 0.3085), (10, 10, 0.6915, 1), (9, 12, 0.4281, 0.9451)]
)
def test_the_interval_is_that_of_clopper_and_pearson(hits, of, low, high):
    """Their tables."""
    found = exact_proportion(hits, of)
    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)


def test_unsure_rows_count_neither_way_and_are_named():
    score, right = planted()
    judged = judge(marks_of(right, offered(0), unsure=range(20)), offered(0), N, score, 0.9)
    assert (judged.unsure, judged.true + judged.false) == (20, MARKED - 20)
    assert judged.precision.value == right[offered(0)][20:].mean()


def test_without_scores_there_is_a_precision_and_no_strictness():
    _, right = planted()
    judged = judge(marks_of(right, offered(0)), offered(0), N, None, 0.9)
    assert judged.advised is None
    assert not len(judged.strictness)


def test_a_run_with_the_wanted_precision_is_left_as_it_is():
    _, score = planted()
    judged = judge(marks_of(np.ones(N, np.bool_), offered(0)), offered(0), N, score, 0.9)
    assert "Strictness: leave it" in as_text(judged, "marks")
    assert "use --param" not in as_text(judged, "marks")


def test_marks_that_are_all_unsure_are_refused():
    _, right = planted()
    with pytest.raises(DataError, match="none of them is true or false"):
        judge(marks_of(right, offered(0), unsure=range(MARKED)), offered(0), N, None, 0.9)


@pytest.fixture
def run(tmp_path):
    """The folder of a run, and the labels of 60 of its rows."""
    score, right = planted(n=300)
    run = {**RUN, "asked": {**RUN["asked"], "pipeline": "puncta", "parameters": {}}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    lines = [f"{i + 1},{i},{i},{i},{score[i]:.6g}" for i in range(300)]
    header = "id,centroid_z_voxel,centroid_y_voxel,centroid_x_voxel,score"
    (tmp_path / "synapses.csv").write_text("\n".join([header, *lines]))
    rows = offered(0, 300)[:60]
    words = ["unsure" if i < 3 else str(right[row]).lower() for i, row in enumerate(rows)]
    labels = [f'{row + 1},{row},{row},{row},{word},"puncta",4' for row, word in zip(rows, words, strict=True)]
    (tmp_path / "labels.csv").write_text("\r\n".join(["id,z,y,x,label,pipeline,strictness", *labels, ""]))
    return tmp_path


def test_labels_of_a_page_give_precision_and_strictness(run, capsys):
    assert main(["--labels", str(run / "labels.csv"), str(run), "--precision", "0.85"]) == 0
    text = capsys.readouterr().out
    assert "of 57 are true; 3 unsure are left out" in text
    assert "random sample of 300 rows" in text
    assert "use --param strictness=" in text
    assert main(["--labels", str(run / "labels.csv"), str(run), "--precision", "0.85", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["advice"]["precision"]["value"] >= 0.85
    assert figures["by_strictness"][0]["rows"] > figures["by_strictness"][-1]["rows"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("unsure", "perhaps", "has the label 'perhaps'"),
        ('"puncta"', '"other"', "they are of other, and the run is of puncta"),
        ("id,z,", "id,depth,", ""),
        ("label,", "marks,", "column 'label'"),
    ],
)
def test_labels_of_another_run_and_unknown_words_are_refused(run, capsys, old, new, message):
    file = run / "labels.csv"
    file.write_text(file.read_text().replace(old, new))
    assert (main(["--labels", str(file), str(run)]) == 0) == (not message)
    assert message in capsys.readouterr().err


def test_labels_of_rows_that_lie_elsewhere_are_refused(run):
    marks = read_marks(run / "labels.csv")
    table = {"id": np.arange(1, 301), "centroid_z_voxel": np.arange(300.0)}
    assert (table["id"][rows_of(marks, table, "it")] == marks.ids).all()
    moved = {**table, "centroid_z_voxel": np.arange(300.0) + 1}
    with pytest.raises(DataError, match="was marked at centroid_z_voxel"):
        rows_of(marks, moved, "it")
    with pytest.raises(DataError, match="no row of id"):
        rows_of(replace(marks, ids=marks.ids + 1000), table, "it")


@pytest.mark.parametrize(
    "words", [["--labels", "labels.csv"], ["folder"], ["--labels", "labels.csv", "folder", "--truth", "truth.csv"]]
)
def test_options_that_do_not_go_together_are_refused(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err
