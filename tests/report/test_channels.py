"""The figures of channels and depth show the numbers that plain NumPy gives, and their colours survive in the PNG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from nd_synapse.report.figures_channels import CHANNELS
from nd_synapse.report.look import house_style, png
from nd_synapse.report.plot import show
from nd_synapse.report.spectrum import elbow, principal_axes
from tests.report.examples import numbers, subject, synapses
from tests.report.test_tables import brightness


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(brightness)
def test_for_any_brightness_no_channel_figure_fails(values):
    of = subject({f"mean_{i}": column for i, column in enumerate(values.T)})
    shown = [show(plot, of) for plot in CHANNELS]
    assert not [(plot.slug, plot.reason) for plot in shown if plot.failed]


def test_scree_shares_are_squared_singular_values_over_their_sum():
    random = np.random.default_rng(0)
    left = np.linalg.qr(random.normal(size=(400, 5)) * [0, 1, 1, 1, 1] + [1, 0, 0, 0, 0])[0][:, 1:]
    values = left * [5, 3, 1.5, 1] @ np.linalg.qr(random.normal(size=(4, 4)))[0]
    squares, _ = principal_axes(values)
    np.testing.assert_allclose(squares / squares.sum(), [0.6711, 0.2416, 0.0604, 0.0268], atol=1e-4)


def test_scree_of_a_table_equals_a_full_decomposition():
    of = subject(synapses(500, ("A", "B", "C", "D")))
    singular = np.linalg.svd(of.standardised.values, compute_uv=False)
    rows = numbers("scree", of).rows
    np.testing.assert_allclose([float(row[1]) for row in rows], 100 * singular**2 / (singular**2).sum(), atol=0.006)
    assert float(rows[-1][2]) == pytest.approx(100)


@pytest.mark.parametrize(
    ("series", "at"), [([10, 9, 1, 0.9, 0.8], 2), ([10, 1, 0.9, 0.8, 0.7], 1), ([3, 1], 0), ([], 0)]
)
def test_the_elbow_is_where_the_series_falls(series, at):
    assert elbow(np.array(series, dtype=float)) == at


def test_the_correlation_in_the_page_is_pearsons():
    table = synapses(800)
    shown = np.array([[float(r) for r in row[1:]] for row in numbers("correlation-matrix", subject(table)).rows])
    expected = np.corrcoef([table[name] for name in table if name.startswith("mean_")])
    np.testing.assert_allclose(shown, expected, atol=6e-4)


def test_counts_by_depth_are_those_of_the_sections_and_add_up():
    table = {name: np.zeros(4, dtype=values.dtype) for name, values in synapses(0).items()}
    table["centroid_z_voxel"] = np.array([100, 100.4, 101, 111.49])
    rows = numbers("depth", subject(table)).rows
    assert [int(row[2]) for row in rows] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert float(rows[0][3]) == pytest.approx(2 / (200 * 300 * 7e-4), rel=1e-3)


def test_a_rare_colour_survives_in_the_png_and_the_background_stays_white():
    with house_style():
        drawn = Figure(figsize=(4, 3))
        axes = drawn.add_axes((0, 0, 1, 1))
        axes.imshow(np.random.default_rng(0).random((80, 80)), cmap="gray", aspect="auto", extent=(0, 1, 0, 0.8))
        axes.add_patch(Rectangle((0.5, 0.85), 0.01, 0.01, color="#0072b2"))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_axis_off()
        image = png(drawn)
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).reshape(-1, 3).astype(int)
    assert (pixels[5] == 255).all()
    assert np.abs(pixels - [0, 0x72, 0xB2]).sum(axis=1).min() < 12
