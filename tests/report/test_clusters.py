"""The clusters of the report: several populations are separated, one is left whole, and the figures say which."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import adjusted_rand_score  # type: ignore[import-untyped] # it has no types

from nd_synapse.report import figures_clusters, figures_pairs, mixtures
from nd_synapse.report.clusters import UNCLUSTERED, cluster
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.figures_channels import CHANNELS
from nd_synapse.report.figures_clusters import CLUSTERS
from nd_synapse.report.plot import show
from nd_synapse.report.table import SynapseTable, standardise
from nd_synapse.report.transform import to_gaussian_scales
from tests.report import examples
from tests.report.examples import ROOT, draw, numbers

FOUR = {"even": (0.25, 0.25, 0.25, 0.25), "lopsided": (0.55, 0.25, 0.15, 0.05)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads wait for each other where cores are shared; clusters are found on one thread anyway."""
    with mixtures.one_thread():
        yield


def test_too_few_synapses_for_a_split_are_one_population_without_scikit_learn():
    program = (
        "import sys; from nd_synapse.report.plot import show;"
        "from tests.report.examples import PLOTS, subject, synapses; of = subject(synapses(90));"
        "assert of.clusters.number == 1;"
        "assert 'Brightness was taken as measured' in show(PLOTS['dendrogram'], of).reason;"
        "assert not [name for name in sys.modules if name.startswith('sklearn')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def subject_of(values, seed=0):
    """Return the subject of an array of shape (rows, channels)."""
    table = {f"mean_C{i}": column for i, column in enumerate(np.asarray(values).T)}
    return examples.subject(table, RunFacts(), seed=seed)


def clusters_of(values, seed=0):
    return subject_of(values, seed).clusters


def planted(rows, channels, shares=FOUR["even"], seed=0):
    """Return log-normal brightness of four populations, each bright in other channels, and the population of each."""
    random = np.random.default_rng(seed)
    who = random.choice(4, rows, p=shares)
    centres = np.zeros((4, channels))
    for i in range(4):
        centres[i, i::4] = 2.5
    shared = 0.2 * random.normal(size=(rows, 1))
    return np.exp(3 + centres[who] + shared + 0.4 * random.normal(size=(rows, channels))), who


UNIMODAL = {
    "log-normal, slight": lambda normal, random: np.exp(3 + 0.3 * normal),
    "log-normal": lambda normal, random: np.exp(3 + 0.6 * normal),
    "log-normal, strong": lambda normal, random: np.exp(3 + normal),
    "log-normal over a background": lambda normal, random: 40 + np.exp(3 + 0.6 * normal),
    "log-normal in whole numbers": lambda normal, random: np.round(np.exp(3 + 0.6 * normal)),
    "gamma": lambda normal, random: random.gamma(3, 10, size=normal.shape),
    "normal": lambda normal, random: 100 + normal,
    "long tails": lambda normal, random: 100 + normal / np.sqrt(random.chisquare(3, size=(len(normal), 1)) / 3),
}


def unimodal(kind, rows, channels):
    """Return one population with correlated channels; most kinds are skewed to the right as brightness is."""
    random = np.random.default_rng(0)
    normal = 0.4 * random.normal(size=(rows, 1)) + 0.9 * random.normal(size=(rows, channels))
    return UNIMODAL[kind](normal, random)


class TestPopulations:
    """One population stays one, and several are separated."""

    @pytest.mark.slow
    @pytest.mark.parametrize("shares", FOUR.values(), ids=FOUR)
    @pytest.mark.parametrize(
        ("rows", "channels", "scale"),
        [(2_000, 4, "as is"), (2_000, 4, "background"), (2_000, 4, "z-scores"), (8_000, 12, "background")],
    )
    def test_four_planted_populations_are_recovered(self, rows, channels, shares, scale):
        values, who = planted(rows, channels, shares)
        values = {
            "as is": values,
            "background": values + 60,
            "z-scores": (values - values.mean(axis=0)) / values.std(axis=0),
        }[scale]
        found = clusters_of(values)
        assert found.number == 4
        assert adjusted_rand_score(who, found.labels) > 0.95

    def test_four_planted_populations_are_recovered_in_all_rows_from_a_sample(self):
        values, who = planted(100_000, 12, FOUR["lopsided"])
        found = clusters_of(values)
        assert found.fitted == 20_000
        assert adjusted_rand_score(who, found.labels) > 0.95

    @pytest.mark.slow
    @pytest.mark.parametrize("channels", [1, 12])
    @pytest.mark.parametrize("kind", UNIMODAL)
    def test_one_population_is_not_split(self, kind, channels):
        assert clusters_of(unimodal(kind, 5_000, channels)).number == 1

    def test_one_log_normal_population_of_a_million_is_not_split(self):
        assert clusters_of(unimodal("log-normal", 1_000_000, 2)).number == 1

    @pytest.mark.slow
    @pytest.mark.parametrize("logarithmic", [False, True], ids=["plain", "logarithmic"])
    @pytest.mark.parametrize("share", [0.5, 0.05])
    @pytest.mark.parametrize("channels", [1, 4])
    def test_a_second_population_is_found_though_it_looks_like_a_tail(self, channels, share, logarithmic):
        """A scale without skewness would hide it: few bright synapses beside many skew a channel."""
        random = np.random.default_rng(0)
        who = random.random(5_000) < share
        values = random.normal(size=(5_000, channels))
        values[who, 0] += 6
        found = clusters_of(np.exp(3 + 0.4 * values) if logarithmic else values)
        assert found.number == 2
        assert adjusted_rand_score(who, found.labels) > 0.95

    def test_two_small_populations_are_found_beside_a_large_one(self):
        random = np.random.default_rng(0)
        values = np.exp(3 + 0.5 * random.normal(size=(6_000, 5)))
        values[:150, 1:3] *= 8
        values[150:900, 0] *= 9
        found = clusters_of(values)
        assert found.number == 3
        assert adjusted_rand_score(np.repeat([0, 1, 2], [150, 750, 5_100]), found.labels) > 0.9

    def test_ten_rows_of_twelve_channels_are_not_split(self):
        """Covariances of so few rows are degenerate, and the criterion falls without end."""
        tree = clusters_of(np.random.default_rng(0).lognormal(size=(10, 12))).tree
        assert (tree.rows, tree.gain, tree.parts) == (10, None, ())

    def test_no_part_is_smaller_than_its_covariance_needs(self):
        """Thirty rows far away are outliers, and no population."""
        values, _ = planted(600, 4)
        values[:30] *= 1000
        found = clusters_of(values)
        assert found.sizes.min() >= mixtures.smallest_part(4) == 50
        assert mixtures.smallest_part(30) == 150

    def test_a_lopsided_tree_separates_four(self):
        """If one is split from three first, two levels of splits would find three of the four."""
        values, _ = planted(6_000, 8, (0.4, 0.3, 0.2, 0.1))
        tree = clusters_of(values).tree

        def depth(node):
            return 1 + max((depth(part) for part in node.parts), default=-1)

        assert len(mixtures.leaves(tree)) == 4
        assert depth(tree) >= 2

    @pytest.mark.parametrize("values", [[0, 1], [0, 0, 0, 1], [0, 1, 2]])
    def test_channels_of_few_values_are_no_trouble(self, values):
        random = np.random.default_rng(0)
        found = clusters_of(random.choice(values, size=(600, 2)))
        assert np.isfinite(found.values).all()
        assert found.sizes.sum() == 600

    def test_channels_that_repeat_each_other_are_no_trouble(self):
        values, who = planted(3_000, 4)
        found = clusters_of(np.concatenate([values, values], axis=1))
        assert adjusted_rand_score(who, found.labels) > 0.95


class TestLabels:
    """Every row of the table has its cluster."""

    def test_rows_without_a_value_are_in_no_cluster_and_the_others_in_theirs(self):
        values, who = planted(3_000, 4)
        values[::7, 2] = np.nan
        values = np.concatenate([values, np.full((3_000, 1), np.nan)], axis=1)
        found = clusters_of(values)
        labels = found.of_all_rows()
        assert (np.flatnonzero(labels == UNCLUSTERED) == np.arange(0, 3_000, 7)).all()
        assert adjusted_rand_score(who[labels >= 0], labels[labels >= 0]) > 0.95
        assert found.sizes.tolist() == [int((labels == i).sum()) for i in range(4)]

    def test_a_sample_or_a_part_of_the_rows_gets_the_same_labels(self):
        found = clusters_of(planted(30_000, 6)[0])
        some = np.arange(0, 30_000, 17)
        np.testing.assert_array_equal(mixtures.label(found.tree, found.values[some]), found.labels[some])

    def test_typical_rows_are_those_nearest_to_the_mean_of_their_cluster(self):
        values, _ = planted(2_000, 4)
        values[5] = np.nan
        found = clusters_of(values)
        labels = found.of_all_rows()
        place = np.cumsum(np.isin(np.arange(2_000), found.rows)) - 1
        for i, rows in enumerate(found.typical(9)):
            assert (labels[rows] == i).all()
            far = np.linalg.norm(found.values - found.means()[i], axis=1)
            np.testing.assert_allclose(far[place[rows]], np.sort(far[found.labels == i])[:9])

    def test_the_means_are_those_of_the_rows(self):
        found = clusters_of(planted(2_000, 4)[0])
        for i, mean in enumerate(found.means()):
            np.testing.assert_allclose(mean, found.values[found.labels == i].mean(axis=0), atol=1e-12)

    @pytest.mark.slow
    def test_another_seed_finds_the_same_populations(self):
        values, _ = planted(30_000, 6)
        one, other = clusters_of(values, seed=0), clusters_of(values, seed=1)
        assert adjusted_rand_score(one.labels, other.labels) > 0.99

    def test_the_table_is_not_written_to(self):
        values = planted(500, 3)[0]
        table = SynapseTable.of({f"mean_{i}": column.copy() for i, column in enumerate(values.T)})
        for column in table.columns.values():
            column.setflags(write=False)
        standardised = standardise(list(table.channels), table.brightness())
        standardised.values.setflags(write=False)
        cluster(table, standardised, 0)


class TestTransform:
    """The logarithm is taken from a zero of its own."""

    @settings(max_examples=20, deadline=None)
    @given(
        hnp.arrays(
            np.float64,
            st.tuples(st.integers(0, 30), st.integers(0, 3)),
            elements=st.floats(-1e6, 1e6).map(lambda value: round(value, 3)),
        )
    )
    def test_for_any_values_columns_keep_their_order_and_have_mean_0_and_sd_1(self, values):
        standardised = standardise([str(i) for i in range(values.shape[1])], values).values
        standardised.setflags(write=False)
        found, logarithmic = to_gaussian_scales(standardised, np.arange(len(standardised)), 0)
        assert found.shape == standardised.shape
        assert len(logarithmic) == standardised.shape[1]
        for before, after in zip(standardised.T, found.T, strict=True):
            assert (np.diff(after[np.argsort(before, kind="stable")]) >= -1e-9).all()
            np.testing.assert_allclose((after.mean(), after.std()), (0, 1), atol=1e-6)

    @settings(max_examples=6, deadline=None)
    @given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
    def test_for_any_unit_and_background_the_result_is_the_same(self, unit, background):
        values = np.random.default_rng(0).lognormal(3, 0.6, size=(500, 2))
        rows = np.arange(500)

        def transformed(brightness):
            return to_gaussian_scales(standardise(["A", "B"], brightness).values, rows, 0)[0]

        np.testing.assert_allclose(transformed(unit * values + background), transformed(values), atol=1e-4)

    def test_a_log_normal_channel_becomes_its_logarithm_and_loses_its_skewness(self):
        values = np.random.default_rng(0).lognormal(3, 0.6, size=(5_000, 1))
        found, logarithmic = to_gaussian_scales(standardise(["A"], values).values, np.arange(5_000), 0)
        assert logarithmic == (True,)
        assert abs((found**3).mean()) < 0.02
        assert np.corrcoef(found[:, 0], np.log(values[:, 0]))[0, 1] > 0.999

    def test_a_channel_that_leans_to_the_left_keeps_its_shape(self):
        values = -np.random.default_rng(0).lognormal(3, 0.6, size=(500, 1))
        standardised = standardise(["A"], values).values
        found, logarithmic = to_gaussian_scales(standardised, np.arange(500), 0)
        assert logarithmic == (False,)
        np.testing.assert_allclose(found, standardised, atol=1e-12)


class TestFigures:
    """Each is drawn, or says why not in its place."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("rows", "channels"),
        [(100, 0), (400, 1), (1_001, 12)],
    )
    def test_every_size_gives_every_figure_or_a_reason(self, rows, channels):
        subject = subject_of(planted(rows, channels)[0])
        for plot in (*CHANNELS, *CLUSTERS):
            shown = show(plot, subject)
            assert not shown.failed, (plot.slug, shown.reason)
            assert shown.image or shown.reason.endswith(".")
            assert not shown.image or (len(shown.alt) > 15 and len(shown.caption) > 50)

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        hnp.arrays(
            np.float64,
            st.tuples(st.integers(0, 240), st.integers(1, 2)),
            elements=st.one_of(st.sampled_from([0.0, 1.0, 5.0, np.nan, np.inf, 3e38, 1e-300]), st.floats(-1e9, 1e9)),
        )
    )
    def test_for_any_brightness_no_figure_of_the_clusters_fails(self, values):
        subject = subject_of(values)
        shown = [show(plot, subject) for plot in CLUSTERS]
        assert not [(plot.slug, plot.reason) for plot in shown if plot.failed]

    @pytest.mark.slow
    def test_one_population_is_called_so_and_the_pair_plot_is_drawn_all_the_same(self):
        subject = subject_of(unimodal("log-normal", 3_000, 3))
        reasons = {plot.slug: show(plot, subject).reason for plot in CLUSTERS}
        assert reasons.pop("pair-plot") == ""
        assert reasons.pop("dendrogram").startswith("One population: two Gaussians describe it no better than one")
        assert set(reasons.values()) == {"One population was found; there are no clusters to compare."}

    def test_for_too_few_synapses_the_reason_says_how_many_are_needed(self):
        assert (
            "a split needs 100 fitted synapses, there are 40" in show(CLUSTERS[0], subject_of(planted(40, 4)[0])).reason
        )

    @pytest.mark.slow
    def test_the_tree_in_numbers_adds_up_and_names_its_outcomes(self):
        subject = subject_of(planted(4_000, 8, FOUR["lopsided"])[0])
        rows = numbers("dendrogram", subject).rows
        sizes = {row[0]: int(row[1].replace(",", "")) for row in rows}
        assert [sizes[f"cluster {i + 1}"] for i in range(4)] == subject.clusters.sizes.tolist()
        assert sizes["clusters 1\N{EN DASH}4"] == 4_000
        for row in rows:
            name, outcome = row[0], row[-1]
            if outcome.startswith("split into "):
                parts = outcome.removeprefix("split into ").split(" and ")
                assert sizes[name] == sum(sizes[part] for part in parts)
                assert sizes[parts[0]] > 0
            else:
                assert outcome.startswith("whole: ")

    @pytest.mark.slow
    def test_a_caption_says_which_rows_were_fitted_and_which_were_left_out(self):
        values, _ = planted(21_000, 4)
        values[:1_500, 0] = np.nan
        few = draw("dendrogram", subject_of(values)).caption
        assert "Fitted to all 19,500 synapses" in few
        assert "Left out: 1,500 synapses with a missing value" in few
        values, _ = planted(21_000, 4)
        many = draw("dendrogram", subject_of(values, seed=5)).caption
        assert "Fitted to a random sample of 20,000 of the 21,000 synapses (seed 5)" in many

    def test_the_numbers_behind_the_means_are_the_means(self):
        subject = subject_of(planted(2_000, 4)[0])
        for slug in ("cluster-mean-heatmap", "cluster-mean-lines"):
            rows = numbers(slug, subject).rows
            shown = [[float(cell.split(" ±")[0].replace("\N{MINUS SIGN}", "-")) for cell in row[1:]] for row in rows]
            np.testing.assert_allclose(shown, subject.clusters.means().T, atol=0.006)

    def test_stacked_means_are_as_wide_as_their_share_and_merge_to_the_mean_of_all(self):
        clusters = clusters_of(planted(4_000, 8, FOUR["lopsided"])[0])
        branches = list(figures_clusters._root(clusters).all())
        for level in range(max(branch.level for branch in branches) + 1):
            means, sizes = figures_clusters._merged(clusters, figures_clusters._at_level(branches, level))
            assert sizes.sum() == 4_000
            np.testing.assert_allclose(sizes @ means / 4_000, 0, atol=1e-9)

    @settings(max_examples=50, deadline=None)
    @given(hnp.arrays(np.int64, st.tuples(st.integers(0, 60), st.just(2)), elements=st.integers(-8, 40)))
    def test_for_any_values_the_fast_histogram_is_the_plain_one(self, values):
        """In quarters and with edges in whole numbers, where neither rounds."""
        limits, bins = (0.0, 8.0), 8
        rows, columns = (values / 4).T
        places = figures_pairs._bins(rows, limits, bins), figures_pairs._bins(columns, limits, bins)
        found = figures_pairs._counts(*places, bins)
        plain, _, _ = np.histogram2d(rows, columns, bins=bins, range=[limits, limits])
        np.testing.assert_array_equal(found, plain)

    @pytest.mark.slow
    def test_the_pair_plot_of_many_channels_takes_different_ones_by_name(self):
        """Of groups of channels that go together, the largest loadings would all be of one group."""
        random = np.random.default_rng(0)
        groups = random.normal(size=(500, 6))
        values = np.repeat(groups, 5, axis=1) + 0.2 * random.normal(size=(500, 30))
        subject = subject_of(values)
        assert {i // 5 for i in figures_pairs._paired(subject.clusters.values).tolist()} == set(range(6))
        assert draw("pair-plot", subject).caption.startswith("The 6 of 30 channels that together show most")


@pytest.mark.slow
def test_scikit_learn_is_not_loaded_before_there_are_clusters_to_find():
    program = "import sys, pymeda_driver; sys.exit(any(name.startswith('sklearn') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)
