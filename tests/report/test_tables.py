"""Tables of the report, from arrays and from files, and their standardised channels."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

import pymeda_driver
from nd_synapse.errors import DataError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.report.checks import BAD, LOOK, UNKNOWN, checks
from nd_synapse.report.entry import measure
from nd_synapse.report.plot import show
from nd_synapse.report.table import SynapseTable, standardise
from pymeda_driver import RunFacts, pymeda_pipeline, read_table
from tests.report.examples import FACTS, PLOTS, ROOT, VOXEL_NM, checked, said, subject, synapses

brightness = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 12), st.integers(1, 3)),
    elements=st.one_of(
        st.floats(-1e12, 1e12), st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-300])
    ),
)


@settings(max_examples=100, deadline=None)
@given(brightness)
def test_for_any_brightness_standardised_columns_have_mean_0_and_sd_1(values):
    before = values.copy()
    values.setflags(write=False)
    names = [str(i) for i in range(values.shape[1])]
    found = standardise(names, np.where(np.isfinite(values), values, np.nan))
    np.testing.assert_array_equal(values, before)
    assert np.isfinite(found.values).all()
    assert set(found.names) | set(found.constant) | set(found.empty) >= (set(names) if len(found.values) else set())
    if found.names:
        np.testing.assert_allclose(found.values.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(found.values.std(axis=0), 1, rtol=1e-6)


def test_constant_and_missing_values_are_named_and_left_out():
    table = synapses(300, ("A", "B", "SAME", "EMPTY"))
    table["mean_SAME"] = np.full(300, 0.1)
    table["mean_EMPTY"] = np.full(300, np.nan)
    table["mean_A"][:7] = np.nan
    table["mean_B"][5:9] = np.inf
    table["volume_um3"][:3] = np.nan
    of = subject(table)
    found = checked(of)["Channels"]
    assert found.light == BAD
    assert found.reason == "constant, empty, with missing values"
    assert "Constant: SAME" in said(of)
    assert "Empty: EMPTY" in said(of)
    assert "With missing values: 9 synapses" in said(of)
    assert all(show(PLOTS[slug], of).image for slug in ("sizes", "ridge-line", "location-heatmap"))


@pytest.mark.parametrize(
    ("columns", "match"),
    [({"a": [1, 2], "b": [1]}, "rows"), ({"a": [1j, 2]}, "column 'a'"), ({"a": [[1], [1, 2]]}, "column 'a'")],
    ids=["lengths", "complex", "ragged"],
)
def test_columns_that_do_not_fit_together_are_refused(columns, match):
    with pytest.raises(DataError, match=match):
        SynapseTable.of(columns)


@pytest.mark.parametrize("size", [(0, 1, 1), (1, 1), ("a", 1, 1), 5])
def test_a_voxel_without_a_size_is_refused(size):
    with pytest.raises(UsageError, match="voxel size"):
        RunFacts(voxel_size_nm=size)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)), st.integers(0, 1000))
def test_for_any_mask_the_measurement_equals_a_plain_one(mask, seed):
    image = np.random.default_rng(seed).integers(0, 65535, mask.shape, dtype=np.uint16)
    mask.setflags(write=False)
    image.setflags(write=False)
    box = Box.of_shape(mask.shape, (7, 70, 700))
    table = measure(mask, {"A": image, "B": image / 65535}, box, VOXEL_NM, {})
    labels, n = ndimage.label(mask, np.ones((3, 3, 3)))
    assert len(table["id"]) == n
    expected = []
    for label in range(1, n + 1):
        where = np.argwhere(labels == label)
        at_face = (where == 0) | (where == np.array(mask.shape) - 1)
        centre = where.mean(axis=0) + box.start
        size, span = len(where), np.ptp(where[:, 0]) + 1
        expected.append((*centre, size, span, at_face.any(), image[labels == label].mean()))
    names = [f"centroid_{axis}_voxel" for axis in "zyx"] + ["voxels", "slices", "touches_border", "mean_A"]
    found = np.stack([table[name].astype(float) for name in names], axis=1)
    plain = np.array(sorted(map(tuple, np.array(expected).reshape(n, 7)))).reshape(n, 7)
    np.testing.assert_allclose(np.array(sorted(map(tuple, found))).reshape(n, 7), plain, rtol=1e-12)
    np.testing.assert_allclose(table["mean_B"] * 65535, table["mean_A"], rtol=1e-12)
    np.testing.assert_allclose(table["volume_um3"], table["voxels"] * 7e-4)
    np.testing.assert_allclose(table["centroid_z_um"], table["centroid_z_voxel"] * 0.07)


def test_a_synapse_is_in_another_mask_that_holds_half_of_its_voxels():
    mask = np.zeros((3, 8, 20), bool)
    mask[1, 1:4, [2, 3]] = mask[1, 5:7, 10:14] = True
    other = np.zeros_like(mask)
    other[1, 1:4, 2] = other[1, 5, 10:13] = True
    table = measure(mask, {}, Box.of_shape(mask.shape), None, {"Gaba": other})
    assert table["voxels"].tolist() == [6, 8]
    assert table["in_Gaba"].tolist() == [True, False], "3 of 6 voxels are half, 3 of 8 are not"


@pytest.mark.slow
def test_the_historical_call_writes_a_report_and_leaves_its_inputs_alone(tmp_path):
    random = np.random.default_rng(3)
    image = (ndimage.gaussian_filter(random.random((6, 80, 90)), 1.5) * 255).astype(np.uint8)
    data = {"PSD95": image, "SYNAPSIN": image[::-1].copy()}
    mask = image > np.quantile(image, 0.93)
    before = mask.tobytes(), {name: array.tobytes() for name, array in data.items()}
    for array in (mask, *data.values()):
        array.setflags(write=False)
    page = pymeda_pipeline(mask, data, title="PyMeda Plots on All Predicted Synapses", path=str(tmp_path))
    assert page == tmp_path / "PyMeda_plots-on-all-predicted-synapses.html"
    assert before == (mask.tobytes(), {name: array.tobytes() for name, array in data.items()})
    text = page.read_text(encoding="utf-8")
    assert f"{ndimage.label(mask, np.ones((3, 3, 3)))[1]:,}" in text
    reasons = ("one mask and of one class", "One population", "It was not measured.", "no column “score”")
    assert "Not drawn" in text
    assert all(any(reason in why for reason in reasons) for why in re.findall("<dd>([^<]*)</dd>", text))


def test_empty_masks_give_a_report(tmp_path):
    nothing = np.zeros((3, 20, 20), dtype=np.uint8)
    page = pymeda_pipeline({"All": nothing, "Gaba": nothing}, {}, path=tmp_path, voxel_size_nm=VOXEL_NM)
    text = page.read_text(encoding="utf-8")
    assert "no synapse was found" in text
    assert "objects of the mask “All”" in text


def test_without_a_voxel_size_nothing_is_in_micrometres_and_no_position_is_a_channel():
    one = np.pad(np.ones((1, 2, 3), dtype=bool), 2)
    table = measure(one, {}, Box.of_shape(one.shape), None, {})
    assert "centroid_z_um" not in table
    assert SynapseTable.of(table).channels == {}


@pytest.mark.parametrize(
    ("masks", "images", "match"),
    [
        (np.zeros((3, 4, 4)), {"A": np.zeros((3, 4, 5))}, "channel 'A'"),
        ({"a": np.zeros((3, 4, 4)), "b": np.zeros((3, 4, 5))}, {}, "mask 'b'"),
        (np.zeros((4, 4)), {}, "mask"),
        ({}, {}, "no mask"),
    ],
    ids=["image of another shape", "mask of another shape", "plane", "no mask"],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, masks, images, match):
    with pytest.raises(DataError, match=match):
        pymeda_pipeline(masks, images, path=tmp_path)


def test_numbers_truth_values_and_classes_are_read_from_a_file(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(
        "id,kind,A,B,ok,class\n1,x,1.5,2,True,Gaba\n2,y,,3,False,Glut\n3,z,4.5,NaN,true,\n4,z,1e3,7,false,a\n"
    )
    columns = read_table(file)
    assert list(columns) == ["id", "A", "B", "ok", "class"]
    assert columns["id"].dtype == np.int64
    np.testing.assert_array_equal(columns["A"], [1.5, np.nan, 4.5, 1000])
    np.testing.assert_array_equal(columns["ok"], [1, 0, 1, 0])
    assert columns["class"].tolist() == ["Gaba", "Glut", "", "a"]


@pytest.mark.slow
def test_the_command_writes_the_report_of_a_file(tmp_path):
    file = tmp_path / "my table.csv"
    file.write_text("id;class;mean_A;in_Gaba\n1;Gaba;1,5;True\n2;Glut;2;False\n3;Glut;#REF!;False\n")
    command = [sys.executable, "-m", "pymeda_driver", str(file), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip())
    assert page == tmp_path / "out" / "PyMeda_of-my-table.html"
    text = page.read_text(encoding="utf-8")
    assert "All 3 rows" in text
    assert "<td>Glut</td>" in text
    assert "semicolons between cells, decimal commas" in text
    unusable = "Column “mean_A”: 1 cell not usable, taken as missing: “#REF!” in row 3."
    assert unusable in text
    assert unusable in done.stderr


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", 65), (b"a,a\n1,2\n", 65), (b"a,b\n1\n", 65), (b"a,b\nx,y\n", 65), (b"a,b\0", 65), (None, 74)],
    ids=["empty", "name twice", "ragged", "no numbers", "not text", "missing"],
)
def test_a_file_that_is_no_table_ends_in_one_sentence_and_its_exit_code(tmp_path, capsys, content, code):
    file = tmp_path / "t.csv"
    if content is not None:
        file.write_bytes(content)
    assert pymeda_driver.main([str(file), "--out", str(tmp_path / "out")]) == code
    errors = capsys.readouterr().err
    assert " ERROR the table " in errors
    assert errors.count("\n") == 1


def test_a_header_without_rows_is_an_empty_table(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("id,mean_A\n")
    assert {name: len(values) for name, values in read_table(file).items()} == {"id": 0, "mean_A": 0}


def test_checks_name_failed_blocks_correlated_channels_and_single_section_objects():
    table = synapses(200, ("A", "B"))
    table["mean_B"] = table["mean_A"] * 2 + 1
    table["slices"] = np.ones(200, dtype=int)
    table["touches_border"] = np.ones(200, dtype=bool)
    of = subject(table)
    facts = replace(FACTS, notes=["Not delivered: x."], counts={"blocks": 4, "blocks that failed": 2})
    found = checked(of, facts)
    assert found["Notes"].more == ("Not delivered: x.",)
    assert (found["Failed blocks"].light, found["Failed blocks"].reason) == (BAD, "holes: 2 of 4 blocks")
    assert "A and B (r = 1.000)" in said(of)
    assert (found["Single-section objects"].light, found["Single-section objects"].reason) == (LOOK, "100 % of all")
    assert found["Cut objects"].reason == "100 % touch the border of the box"
    flat = replace(FACTS, box=Box(z=(0, 1), y=(0, 5), x=(0, 5)))
    assert checked(of, flat)["Single-section objects"].light == UNKNOWN


def test_one_image_under_two_names_is_bad_and_a_scaled_one_is_correlated():
    table = synapses(200, ("A", "B", "C"))
    table["mean_B"] = table["mean_A"].copy()
    table["mean_A"][3] = table["mean_B"][3] = np.nan
    table["mean_C"] = table["mean_A"] * 2
    found = checked(subject(table))["Channels"]
    assert (found.light, found.reason) == (BAD, "with missing values, identical, highly correlated")
    assert found.more[1].startswith("Identical: A and B. They have the same values")
    assert "A and C (r = 1.000)" in found.more[2]
    assert "A and B" not in found.more[2]


def test_saturated_and_constant_images_are_named():
    random = np.random.default_rng(0)
    noise = random.integers(0, 200, (4, 40, 40))
    images = {"fine": noise, "full": np.minimum(noise * 2, 255), "flat": np.full(noise.shape, 7), "real": noise * 0.1}
    of = subject(synapses(100), images={name: np.asarray(image) for name, image in images.items()})
    at_top = of.fields.at_top
    assert (at_top["fine"], at_top["flat"], at_top["real"]) == (0, 1, 0)
    assert at_top["full"] == pytest.approx(0.36, abs=0.03)
    (found,) = (c for c in checks(of.table, of.standardised, FACTS, at_top) if c.name == "Channels")
    assert (found.light, found.reason) == (BAD, "constant, saturated")


def test_what_cannot_be_checked_is_not_good():
    of = subject({"mean_A": np.arange(99.0), "mean_B": np.sin(np.arange(99.0))}, RunFacts())
    assert {name for name, check in checked(of).items() if check.light != UNKNOWN} == {"Channels"}
