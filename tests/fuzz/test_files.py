"""Files that a command reads: tables of the report and of truth, run.json, and images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

import pymeda_driver
from nd_synapse.evaluate import truth
from nd_synapse.files.stacks import open_channels, open_stack
from nd_synapse.job.manifest import read_run_file
from tests.fuzz.cases import mutated_bytes, mutated_json, numbers, result_or_error, words
from tests.small_run import RUN

HEADINGS = ["id", "voxels", "volume_um3", "slices", "touches_border", "class", "in_Gaba", "mean_PSD95", "b"]
HEADINGS += [f"centroid_{axis}_{unit}" for axis in "zyx" for unit in ("voxel", "um")]
POINTS = [
    ["z", "y", "x", "type", "score", "volume_um3"],
    ["centroid_z_voxel", "centroid_y_voxel", "centroid_x_voxel", "class", "probability", "in_All"],
    ["z_um", "y_um", "x_um", "class", "score"],
]
cells = st.floats(-1e6, 1e6).map(str) | st.integers(0, 99).map(str) | st.sampled_from(["", "NA", "nan"])
bad_cells = words | numbers.map(str) | st.sampled_from(['"', '"a', "1,2", "\r", "1e400", "True"])
values = st.floats(0, 9).map(str) | st.integers(0, 9).map(str)


@st.composite
def tables(draw: st.DrawFn, header: list[str], right: st.SearchStrategy[str], valid: bool = False) -> bytes:
    """A table under a header; a heading, a cell or a row is odd in half of the cases."""
    header = list(header)
    rows = draw(st.lists(st.lists(right, min_size=len(header), max_size=len(header)), min_size=1, max_size=6))
    match "" if valid else draw(st.sampled_from(["", "", "", "heading", "cell", "row"])):
        case "heading":
            header[draw(st.integers(0, len(header) - 1))] = draw(words | st.sampled_from(header))
        case "cell":
            draw(st.sampled_from(rows))[draw(st.integers(0, len(header) - 1))] = draw(bad_cells)
        case "row":
            rows.append(draw(st.lists(right, max_size=9)))
    return "".join(",".join(row) + "\n" for row in [header, *rows]).encode("utf-8", "replace")


headers = st.lists(st.sampled_from(HEADINGS), min_size=1, max_size=8, unique=True)
report_tables = headers.flatmap(lambda header: tables(header, cells))
point_tables = st.sampled_from(POINTS).flatmap(lambda header: tables(header, values))


@given(report_tables | mutated_bytes([b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4\r\n", b'"a,b",c\n"1",2\n']))
def test_any_table_of_a_report_is_columns_or_an_error(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(body)
    with result_or_error():
        columns = pymeda_driver.read_table(path)
        assert len({len(column) for column in columns.values()}) <= 1


def read_points(folder: Path, body: bytes) -> None:
    path = folder / "truth.csv"
    path.write_bytes(body)
    assert np.isfinite(truth.read_points(path, (70.0, 100.0, 100.0), scored=True).centre_um).all()


@given(st.sampled_from(POINTS).flatmap(lambda header: tables(header, values, valid=True)), point_tables)
def test_any_table_of_truth_is_points_or_an_error(tmp_path: Path, valid: bytes, body: bytes) -> None:
    read_points(tmp_path, valid)
    with result_or_error():
        read_points(tmp_path, body)


def read_run(folder: Path, body: bytes) -> None:
    (folder / "run.json").write_bytes(body)
    run = read_run_file(folder)
    assert all("/" not in stem and not stem.startswith(".") for stem in run.masks.values())


def test_the_run_json_that_is_changed_below_is_valid(tmp_path: Path) -> None:
    read_run(tmp_path, json.dumps(RUN).encode())


@given(
    mutated_json([RUN]).map(lambda run: json.dumps(run, default=str).encode())
    | mutated_bytes([json.dumps(RUN).encode()])
)
def test_any_run_json_is_read_or_an_error(tmp_path: Path, body: bytes) -> None:
    with result_or_error():
        read_run(tmp_path, body)


def tiff(**how: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.arange(600, dtype=np.uint16).reshape(2, 15, 20), **{"photometric": "minisblack", **how})
    return file.getvalue()


SIZE: dict[str, Any] = {f"PhysicalSize{axis}": 0.1 for axis in "XYZ"}
TIFFS = [
    tiff(metadata={"axes": "ZYX"}),
    tiff(ome=True, metadata={"axes": "ZYX", **SIZE}, compression="lzw"),
    tiff(imagej=True, resolution=(10, 10), metadata={"axes": "ZYX", "unit": "um", "spacing": 0.07}),
    tiff(description="ImageJ=1.54f\nimages=2\nslices=2\ncf=0\nc0=-32768\nc1=1\n", metadata=None),
]


def read_whole(path: Path) -> None:
    """Read a file as a stack and as channels."""
    with result_or_error():
        stack = open_stack([path])
        assert stack.read(0, stack.shape[0]).shape == stack.shape
    with result_or_error():
        for opened in open_channels(path).values():
            assert min(opened().shape) > 0


def test_the_images_that_are_changed_below_are_valid(tmp_path: Path) -> None:
    for number, body in enumerate(TIFFS):
        (tmp_path / f"{number}.tif").write_bytes(body)
        assert open_stack([tmp_path / f"{number}.tif"]).shape == (2, 15, 20)


@given(mutated_bytes(TIFFS))
def test_any_tiff_is_a_stack_or_an_error(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(body)
    read_whole(tmp_path / "a.tif")


AXES = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
SCALE = [{"type": "scale", "scale": [0.07, 0.1, 0.1]}]
LEVELS = [{"path": "0", "coordinateTransformations": SCALE}, {"path": "0"}]
OME: dict[str, Any] = {
    "ome": {"multiscales": [{"axes": AXES, "datasets": LEVELS}], "omero": {"channels": [{"label": "PSD95"}]}}
}


@given(mutated_json([OME, {"plate": {}}, {"bioformats2raw.layout": 3}]))
def test_any_metadata_of_ome_zarr_are_a_stack_or_an_error(tmp_path: Path, attributes: Any) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", overwrite=True)
    group.create_array("0", data=np.ones((2, 3, 4), np.uint8))
    document = json.loads((tmp_path / "a.zarr" / "zarr.json").read_bytes())
    document["attributes"] = attributes
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps(document, default=str))
    read_whole(tmp_path / "a.zarr")
