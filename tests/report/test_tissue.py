"""The figures of synapses in their tissue, against plain computations and planted truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from nd_synapse.detection.density import Counts, density
from nd_synapse.detection.tissue import Tissue
from nd_synapse.errors import UnavailableError
from nd_synapse.geometry import Box, nearest_voxel
from nd_synapse.report import figures_gallery as gallery
from nd_synapse.report import outlines
from nd_synapse.report.checks import GOOD, LOOK, UNKNOWN
from nd_synapse.report.depth import layers, sections
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.fields import SIZE, Field, Fields, chosen
from nd_synapse.report.figures_detections import size_edges
from nd_synapse.report.figures_gallery import GALLERY
from nd_synapse.report.figures_tissue import nearest, shared_tops
from nd_synapse.report.figures_voxels import VOXELS, brighter_share, shifted_correlation
from nd_synapse.report.plot import show
from nd_synapse.report.populations import uneven
from nd_synapse.report.table import SynapseTable
from pymeda_driver import draw_report
from tests.report.examples import (
    BOX,
    FACTS,
    PLOTS,
    VOXEL_NM,
    checked,
    draw,
    numbers,
    subject,
    synapses,
    two_populations,
    volumes,
)


def with_images(table):
    images, masks = volumes(table)
    return subject(table, images=images, masks=masks)


def density_of(n, bright=None, end=None):
    """Return the density of synapses of one voxel at random places, every `end`-th of them in the last section."""
    random, none = np.random.default_rng(0), np.zeros(n, np.int64)
    parts = {"voxels": none + 1, "rim_low": none, "rim_high": none}
    for axis, (start, stop) in zip("zyx", BOX.ranges, strict=True):
        place = random.integers(start, stop, n)
        if end and axis == "z":
            place[::end] = stop - 1
        parts |= {f"sum_{axis}": place, f"start_{axis}": place, f"stop_{axis}": place + 1}
    tissue = Tissue.of_blocks(BOX, [BOX])
    return density(Counts.of(parts, tissue, BOX, bright), tissue, BOX, VOXEL_NM)


volumes_of_numbers = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))


class TestSynaptograms:
    """A synaptogram shows the voxels of its place, and nothing else."""

    @settings(max_examples=60, deadline=None)
    @given(volumes_of_numbers, st.tuples(*[st.integers(-12, 20)] * 3), st.tuples(*[st.integers(0, 4)] * 3))
    def test_for_any_place_a_window_holds_the_voxels_there_and_nothing_outside(self, volume, centre, reach):
        volume.setflags(write=False)
        found = gallery.cut_out(volume, centre, gallery.Window(*reach))
        assert found.shape == tuple(2 * r + 1 for r in reach)
        for place, value in np.ndenumerate(found):
            at = tuple(p + c - r for p, c, r in zip(place, centre, reach, strict=True))
            inside = all(0 <= a < n for a, n in zip(at, volume.shape, strict=True))
            assert value == volume[at] if inside else np.isnan(value)

    @settings(max_examples=60, deadline=None)
    @given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)))
    def test_for_any_mask_the_outline_is_the_pixels_beside_it_and_covers_none_of_it(self, mask):
        mask.setflags(write=False)
        expected = ndimage.binary_dilation(mask) & ~mask
        assert np.array_equal(outlines.ring(mask), expected)
        shown = np.zeros((*mask.shape, 3), np.uint8)
        outlines.paint_outlines(shown, [mask], ["#ff0000"])
        assert np.array_equal(shown[..., 0], 255 * expected)
        assert not shown[..., 1:].any()

    def test_the_tiles_of_a_drawn_synaptogram_are_the_voxels_at_one_contrast_a_channel(self):
        table = synapses(400)
        of = with_images(table)
        drawing = draw("synaptograms-extreme", of)
        assert drawing.numbers is not None
        shown = np.asarray(drawing.figure.images[0].get_array())[..., 0]
        row = int(drawing.numbers.rows[0][0].removeprefix("synapse ")) - 1
        centre = [
            round(table[f"centroid_{axis}_voxel"][row]) - start for axis, start in zip("zyx", BOX.start, strict=True)
        ]
        side = 17
        by = shown.shape[1] // (5 * side)
        step = (shown.shape[1] - 5 * side * by) // 4 + side * by
        for channel, name in enumerate(of.images):
            low, high = of.fields.contrast[name]
            for section in range(5):
                tile = shown[channel * step :, section * step :][by // 2 :: by, by // 2 :: by][:side, :side]
                z = centre[0] + section - 2
                if not 0 <= z < BOX.shape[0]:
                    assert (tile == outlines.OUTSIDE).all()
                    continue
                for dy, dx in ((0, 0), (-3, 2), (8, 8)):
                    y, x = centre[1] + dy, centre[2] + dx
                    if 0 <= y < BOX.shape[1] and 0 <= x < BOX.shape[2]:
                        expected = np.clip((float(of.images[name][z, y, x]) - low) / (high - low), 0, 1)
                        assert tile[8 + dy, 8 + dx] == pytest.approx(255 * expected, abs=0.51)
        assert f"black {of.fields.contrast['SYNAPSIN'][0]:,.4g}" in str(drawing.numbers.rows)

    def test_extremes_are_the_brightest_dimmest_and_largest_and_none_comes_twice(self):
        table = synapses(200)
        for name in ("mean_SYNAPSIN", "mean_PSD95", "mean_GABA"):
            table[name][[3, 4]] = 1e4, 9e3
            table[name][[5, 6]] = 1e-3, 2e-3
        table["voxels"][[3, 7, 8]] = 9_999, 9_998, 9_997
        rows = numbers("synaptograms-extreme", with_images(table)).rows
        found = {(row[0], row[1]) for row in rows if row[0].startswith("synapse")}
        wanted = {"brightest": (4, 5), "dimmest": (6, 7), "largest": (8, 9)}
        assert found == {(f"synapse {i}", why) for why, both in wanted.items() for i in both}

    def test_a_missing_value_leaves_the_order_of_the_others_alone(self):
        table = synapses(50)
        table["mean_PSD95"][0] = np.nan
        table["mean_GABA"][10] = table["mean_PSD95"][10] = table["mean_SYNAPSIN"][10] = 1e5
        rows = numbers("synaptograms-extreme", with_images(table)).rows
        assert rows[0][:2] == ["synapse 11", "brightest"]

    def test_each_cluster_shows_those_nearest_to_its_mean(self):
        table = two_populations(900)
        of = with_images(table)
        rows = numbers("synaptograms-clusters", of).rows
        assert of.clusters.number == 2
        shown = [(int(row[0].split()[1]) - 1, row[1]) for row in rows if row[1].startswith("cluster")]
        assert len(shown) == 6
        assert all(of.clusters.of_all_rows()[row] == int(why.split()[1]) - 1 for row, why in shown)

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", [np.uint16, np.float64])
    def test_images_of_any_type_are_shown_and_never_written(self, dtype):
        table = synapses(30)
        images, masks = volumes(table)
        images = {name: image.astype(dtype) for name, image in images.items()}
        for array in (*images.values(), *masks.values()):
            array.setflags(write=False)
        of = subject(table, images=images, masks=masks)
        failed = [shown for plot in (*GALLERY, *VOXELS) if (shown := show(plot, of)).image is None]
        assert not failed

    @pytest.mark.slow
    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 3), (3, 2, 500)])
    def test_images_of_any_shape_are_shown(self, shape):
        table = {f"centroid_{axis}_voxel": np.array([(n - 1) / 2]) for axis, n in zip("zyx", shape, strict=True)}
        image = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        facts = RunFacts(box=Box.of_shape(shape))
        of = subject(table, facts, {"A": image, "B": image[::-1]}, {"m": image > 3})
        assert not [shown.reason for plot in (*GALLERY, *VOXELS) if (shown := show(plot, of)).failed]

    def test_a_volume_that_cannot_be_read_costs_the_figures_that_need_it(self):
        requested = []

        class Broken:
            shape, dtype = BOX.shape, np.dtype(np.uint8)

            def __getitem__(self, index):
                requested.append(index)
                raise UnavailableError("channel A", "BOSS does not answer", "Try again")

        of = subject(synapses(20), images={"A": Broken(), "B": Broken()})
        shown = {slug: show(PLOTS[slug], of) for slug in ("synaptograms-extreme", "cross-correlation", "neighbours")}
        assert "BOSS does not answer" in shown["synaptograms-extreme"].reason
        assert "BOSS does not answer" in shown["cross-correlation"].reason
        assert len(requested) == 1, "a service that does not answer is not asked again by every figure"
        assert shown["neighbours"].image is not None


class TestFields:
    """Fields stand for a volume of any size at a bounded cost."""

    @settings(max_examples=100, deadline=None)
    @given(st.tuples(*[st.integers(1, 100_000)] * 3), st.integers(1, 40), st.integers(0, 9))
    def test_for_any_volume_fields_are_different_boxes_of_it_and_not_too_many(self, shape, channels, seed):
        boxes = chosen(shape, channels, seed)
        assert 1 <= len(boxes) <= 12
        assert len(set(boxes)) == len(boxes)
        assert all(Box.of_shape(shape).contains(box) for box in boxes)
        assert sum(box.voxels for box in boxes) * channels <= max(64_000_000, np.prod(SIZE) * channels)

    def test_constant_and_missing_voxels_have_a_contrast_all_the_same(self):
        images = {"same": np.full((2, 9, 9), 7, np.uint8), "none": np.full((2, 9, 9), np.nan)}
        assert Fields(images, 0).contrast == {"same": (7.0, 8.0), "none": (0.0, 1.0)}


class TestAgainstRandom:
    """Detected places are compared with random ones."""

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.integers(0, 6), min_size=1, max_size=20), st.lists(st.integers(0, 6), min_size=1, max_size=20))
    def test_for_any_values_the_share_counts_pairs_and_ties_by_half(self, values, others):
        pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in values for b in others]
        assert brighter_share(np.array(values, float), np.array(others, float)) == pytest.approx(np.mean(pairs))

    def test_a_channel_that_marks_synapses_differs_from_one_that_does_not(self):
        table = synapses(600)
        images, masks = volumes(table)
        images["NOISE"] = np.random.default_rng(9).integers(0, 255, BOX.shape).astype(np.uint8)
        rows = numbers("against-random", subject(table, images=images, masks=masks)).rows
        shares = {row[0]: float(row[3].split()[0]) for row in rows}
        assert shares["PSD95"] > 90
        assert abs(shares["NOISE"] - 50) < 5


class TestCorrelation:
    """Co-localisation, in the images and at the synapses."""

    def test_the_curve_begins_at_pearsons_r_and_peaks_where_one_image_lies_on_the_other(self):
        random = np.random.default_rng(0)
        a = random.normal(size=(4, 60, 120)).cumsum(axis=2) % 7
        images = {"A": a, "B": a + random.normal(size=a.shape), "C": np.roll(a, 3, axis=2), "D": np.full(a.shape, 5.0)}
        field = Field(Box.of_shape(a.shape), images)
        r = shifted_correlation([field], list(images), [0, 1, 3])
        part = [image[:, ::4] - image[:, ::4].mean(axis=(1, 2), keepdims=True) for image in images.values()]
        expected = np.corrcoef([values[..., :-3].ravel() for values in part[:3]])
        np.testing.assert_allclose(r[0, :3, :3], expected, atol=1e-3)
        assert r[2, 0, 2] > max(r[0, 0, 2], r[1, 0, 2])
        assert np.isnan(r[:, 3]).all()
        np.testing.assert_allclose(r[:, :3, :3], r[:, :3, :3].transpose(0, 2, 1))

    def test_bright_synapses_shared_by_two_channels_are_counted(self):
        random = np.random.default_rng(0)
        a = random.normal(size=4000)
        shares, tops = shared_tops(np.stack([a, a**3, -a, random.normal(size=4000), np.arange(4000) < 40], axis=1))
        np.testing.assert_allclose(tops[:4], 0.25, atol=1e-3)
        assert tops[4] == pytest.approx(0.01)
        assert shares[0, 1] == 1
        assert shares[0, 2] == 0
        assert shares[0, 3] == pytest.approx(0.25, abs=0.05)

    def test_a_caption_names_channels_with_ties(self):
        table = synapses(300)
        table["mean_GABA"] = (np.arange(300) < 9).astype(float)
        assert "Many synapses are equally bright in GABA" in draw("colocalisation", subject(table)).caption


class TestNeighbours:
    """Distances between synapses, and what chance makes of them."""

    @settings(max_examples=40, deadline=None)
    @given(hnp.arrays(np.float64, st.tuples(st.integers(2, 30), st.just(3)), elements=st.floats(-50, 50, width=32)))
    def test_for_any_positions_the_nearest_distance_is_that_of_all_pairs(self, positions):
        apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        np.testing.assert_allclose(nearest(positions, np.arange(len(positions))), apart.min(axis=1), atol=1e-9)

    @pytest.mark.parametrize(
        ("pairs", "low", "high"), [(False, 0.95, 1.05), (True, 0, 0.3)], ids=["random", "in pairs"]
    )
    def test_random_synapses_are_as_near_as_chance_and_pairs_nearer(self, pairs, low, high):
        table = synapses(1500)
        if pairs:
            for axis in "zyx":
                table[f"centroid_{axis}_um"][750:] = table[f"centroid_{axis}_um"][:750] + 0.01
        caption = draw("neighbours", subject(table)).caption
        ratio = float(caption.partition("The mean distance is ")[2].split()[0])
        assert low < ratio < high

    def test_synapses_at_one_place_are_drawn(self):
        table = {f"centroid_{axis}_um": np.zeros(5) for axis in "zyx"}
        assert show(PLOTS["neighbours"], subject(table, RunFacts())).image is not None


class TestGroups:
    """Masks, classes and clusters beside each other."""

    def test_masks_and_classes_are_groups_and_no_name_comes_twice(self):
        names = np.array(["Gaba", "Glut", "undecided", "Glut"])
        table = {"in_Gaba": np.array([True, False, False, False]), "class": names, "A": np.arange(4.0)}
        groups = SynapseTable.of(table).groups
        assert {name: rows.tolist() for name, rows in groups.items()} == {
            "Gaba": [True, False, False, False],
            "Glut": [False, True, False, True],
            "undecided": [False, False, True, False],
        }
        assert list(SynapseTable.of(table).channels) == ["A"]

    def test_a_column_called_class_with_a_value_a_row_makes_few_groups(self):
        assert len(SynapseTable.of({"class": np.arange(100_000)}).groups) == 8

    def test_numbers_of_groups_are_counted(self):
        table = {**synapses(400), "in_Gaba": np.arange(400) < 100, "in_Glut": np.arange(400) >= 350}
        table["mean_GABA"][:100] += 500
        found = numbers("groups", subject(table))
        assert [row[:3] for row in found.rows] == [
            ["all", "400", "100.0 %"],
            ["Gaba", "100", "25.0 %"],
            ["Glut", "50", "12.5 %"],
        ]
        gaba = list(found.header).index("GABA (sd)")
        assert float(found.rows[1][gaba]) > 1 > 0 > float(found.rows[2][gaba])

    def test_an_empty_group_is_drawn(self):
        table = {**synapses(40), "in_Gaba": np.zeros(40, bool)}
        assert show(PLOTS["groups"], subject(table)).image is not None

    def test_clusters_by_depth_count_every_synapse_once(self):
        table = two_populations(900)
        table["centroid_z_voxel"][-300:] = 100
        rows = numbers("clusters-by-depth", subject(table)).rows
        counts = np.array([[int(n.replace(",", "")) for n in row[2:]] for row in rows])
        assert counts.sum() == 900
        assert counts[0].max() > 290


class TestPopulations:
    """Clusters that follow the sections are no kinds of synapses."""

    @pytest.mark.parametrize("seed", range(5))
    def test_shares_that_chance_alone_moves_survive(self, seed):
        counts = np.random.default_rng(seed).multinomial(300, [0.6, 0.37, 0.03], size=12).T
        assert not uneven(counts).any()

    def test_a_cluster_of_one_section_does_not_survive_and_the_others_do(self):
        counts = np.array([[60, 62, 55, 61], [40, 38, 45, 39], [50, 0, 0, 1]])
        assert uneven(counts).tolist() == [False, False, True]

    def test_a_bright_section_leaves_no_populations_and_says_why(self):
        table = two_populations(900)
        table["centroid_z_voxel"][-300:] = 100
        reason = show(PLOTS["synaptograms-clusters"], with_images(table)).reason
        assert reason.startswith("No two clusters are as frequent in all sections.")
        assert "no kind of synapse" in reason


class TestDensityMap:
    """The map divides by tissue, and leaves out what is padding."""

    def test_padding_is_masked_and_the_rest_is_a_density_of_tissue(self):
        table = synapses(2000)
        left = table["centroid_x_voxel"] < 2150
        table = {name: values[~left] for name, values in table.items()}
        half = Box(BOX.z, BOX.y, (2150, 2300))
        tissue = Tissue.of_blocks(BOX, [half])
        rows = numbers("density-map", subject(table, replace(FACTS, tissue=tissue))).rows
        middle = float(next(row[1] for row in rows if row[0].startswith("50 %")))
        assert middle == pytest.approx(int((~left).sum()) / (half.voxels * 7e-4), rel=0.15)
        assert "Pale: 45 %" in draw("density-map", subject(table, replace(FACTS, tissue=tissue))).caption
        assert "Pale" not in draw("density-map", subject(table)).caption


class TestSizesAndDepth:
    """Bins of sizes and layers of depth."""

    @settings(max_examples=100, deadline=None)
    @given(st.integers(1, 1000), st.integers(0, 100_000), st.integers(6, 40), st.floats(1e-5, 10))
    def test_for_any_sizes_bins_rise_hold_all_of_them_and_none_is_narrower_than_a_voxel(self, low, more, bins, step):
        edges = size_edges(low * step, (low + more) * step, bins, step)
        assert (np.diff(edges) > 0.999 * step).all()
        assert edges[0] < low * step
        assert (low + more) * step < edges[-1]
        assert len(edges) <= bins + 2

    def test_the_requested_smallest_size_is_drawn_and_named(self):
        requested = replace(FACTS, pipeline="p", parameters={"min_volume_um3": "0.01"})
        table = synapses(100)
        below = int((table["volume_um3"] < 0.01).sum())
        caption = draw("sizes", subject(table, requested)).caption
        assert "the parameter min_volume_um3 of p (0.01 µm³;" in caption
        assert f"{below} are smaller" in caption if below else "none is smaller" in caption
        assert "min_" not in draw("sizes", subject(table)).caption

    @pytest.mark.parametrize("sections", [1, 7, 60, 61, 1000])
    def test_layers_are_whole_sections_and_hold_every_synapse(self, sections):
        facts = RunFacts(box=Box((5, 5 + sections), (0, 9), (0, 9)), voxel_size_nm=VOXEL_NM)
        depths = np.random.default_rng(0).uniform(4.5, 4.5 + sections, 500) * 0.07
        cut = layers(SynapseTable.of({"centroid_z_um": depths}), facts, 60)
        assert cut.counts().sum() == 500
        assert len(cut.middles) <= 60
        widths = np.diff(cut.edges) / 0.07
        assert cut.sections is not None
        np.testing.assert_allclose(widths[:-1], cut.sections)
        assert widths[-1] <= cut.sections + 1e-9

    @pytest.mark.parametrize(("column", "beyond"), [("centroid_z_um", 0.49 / 20), ("centroid_z_voxel", 0.5)])
    def test_without_a_box_layers_reach_hardly_beyond_the_synapses(self, column, beyond):
        cut = layers(SynapseTable.of({column: np.linspace(0, 0.49, 100)}), RunFacts(), 60)
        assert cut.counts().sum() == 100
        np.testing.assert_allclose([cut.edges[0], cut.edges[-1]], [-beyond, 0.49 + beyond])


class TestSections:
    """Figures, checks and table put a synapse in one and the same section."""

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 10**6)), min_size=1, max_size=50), st.integers(1, 9))
    def test_for_any_centroids_the_report_finds_the_section_of_the_table(self, objects, step):
        number = np.array([n for n, _ in objects])
        total = np.array([n * 100 + more % (n * 12) for n, more in objects])
        facts = RunFacts(box=BOX, voxel_size_nm=(step * 9.7, 100.0, 100.0))
        exact = nearest_voxel(total, number) - BOX.z[0]
        exact[exact == BOX.shape[0]] = -1
        mean = total / number
        for columns in ({"centroid_z_voxel": mean}, {"centroid_z_um": mean * (step * 9.7 / 1000)}):
            table = SynapseTable.of(columns)
            assert np.array_equal(sections(table, facts), exact)
            counts = np.bincount(exact[exact >= 0], minlength=BOX.shape[0])
            assert np.array_equal(layers(table, facts, 60).counts(), counts)

    def test_the_sections_that_the_check_counts_are_those_of_the_figure(self):
        """The centroid of an object in two sections lies on the border of both: there they differed."""
        table = synapses(1200)
        table["centroid_z_voxel"] = np.repeat(np.arange(100, 112), 100) + np.tile([0.0, 0.5], 600)
        table["centroid_z_voxel"][:100] = 101.5
        table["centroid_z_um"] = table["centroid_z_voxel"] * 0.07
        of = subject(table)
        text = checked(of)["Odd sections"].more[0]
        rows = numbers("depth", of).rows
        assert f"section 100 with {rows[0][2]}" in text
        assert rows[0][2] == "0"


class TestChecks:
    """A section that stands out is named; chance alone is not."""

    def found(self, table, facts=FACTS):
        return checked(subject(table, facts), facts)

    @pytest.mark.parametrize("seed", range(8))
    def test_chance_alone_makes_no_section_odd(self, seed):
        found = self.found(synapses(2000, seed=seed))["Odd sections"]
        assert (found.light, found.reason) == (GOOD, "none of 12")

    def test_a_section_with_too_many_and_one_with_none_are_named(self):
        table = synapses(3000)
        table["centroid_z_voxel"] = np.round(table["centroid_z_voxel"])
        table["centroid_z_voxel"][table["centroid_z_voxel"] == 104] = 105
        found = self.found(table)["Odd sections"]
        assert (found.light, found.reason) == (LOOK, "2 of 12 sections")
        assert "section 104 with 0" in found.more[0]
        assert "section 105 with" in found.more[0]

    def test_a_section_that_is_brighter_in_one_channel_is_named(self):
        table = synapses(3000)
        table["mean_GABA"][np.round(table["centroid_z_voxel"]) == 107] *= 3
        found = self.found(table)["Odd sections"]
        assert found.reason == "1 of 12 sections"
        assert found.more[0].startswith("In GABA")
        assert " 107 (+" in found.more[0]

    def test_a_thousand_notes_do_not_bury_the_page(self):
        found = self.found(synapses(100), replace(FACTS, notes=[f"Failed block {i}." for i in range(1000)]))["Notes"]
        assert len(found.more) < 20
        assert "988 more notes" in found.more[-1]

    def test_objects_that_are_no_synapses_are_counted_with_what_to_do(self):
        table = {**synapses(200), "touches_padding": np.arange(200) < 3, "bright_everywhere": np.arange(200) < 10}
        density = density_of(200, table["bright_everywhere"])
        found = self.found(table, replace(FACTS, density=density))
        assert (found["Padding"].light, found["Padding"].reason) == (LOOK, "3 objects at its edge")
        assert "leave them out of comparisons" in found["Padding"].more[0]
        everywhere = found["Bright in every channel"]
        assert (everywhere.light, everywhere.reason) == (LOOK, "10 objects (5 %)")
        without = density.as_json()["without_bright_everywhere"]["per_um3"]
        assert f"Without them the density is {without:.3g} per" in everywhere.more[0]
        clean = self.found(synapses(200))
        assert {clean[name].light for name in ("Padding", "Bright in every channel")} == {UNKNOWN}

    def test_the_verdict_and_the_check_say_the_density_of_the_brick(self, tmp_path):
        found = density_of(900)
        assert found.interval is not None
        table = {**synapses(900), "touches_border": np.ones(900, bool)}
        facts = replace(FACTS, density=found)
        cut = " ".join(self.found(table, facts)["Cut objects"].more)
        assert f"the counting brick finds {found.brick.per_um3:.3g}" in cut
        assert "more than its 95 % interval" not in cut
        for every, is_high in ((replace(found.brick, synapses=2 * found.brick.synapses), True), (found.brick, False)):
            of_every = self.found(table, replace(FACTS, density=replace(found, every=every)))
            assert ("which is too high" in " ".join(of_every["Cut objects"].more)) == is_high
        uneven = self.found(table, replace(FACTS, density=density_of(900, end=5)))["Cut objects"]
        assert "more than its 95 % interval holds" in " ".join(uneven.more)
        page = draw_report(title="D", table=table, facts=facts, overviews={}, mask_overviews={}).write(tmp_path, facts)
        text = page.read_text()
        low, high = found.interval
        assert f"{found.brick.per_um3:.3g} per µm³" in text
        assert f"95 % interval {low:.3g} to {high:.3g}; range by choice of faces" in text
        assert f"95 % interval {low:.3g} to {high:.3g}, from 64 tiles" in text
        assert f"excluding at first faces {found.without_low.per_um3:.3g}" in text
