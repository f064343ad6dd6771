"""The files of a result folder, on real disks: full ones, too, and under processes that die."""

from __future__ import annotations

import csv
import json
import pickle
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from arro3.io import read_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nd_synapse.errors import DataError, StorageError
from nd_synapse.files import masks as mask_files
from nd_synapse.files import parquet
from nd_synapse.geometry import Box
from nd_synapse.job.deliverables import deliverables
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.manifest import write_run_json
from nd_synapse.job.results import write_links, write_mask, write_table
from tests.conftest import REPOSITORY
from tests.small_disk import small_disk

LIMIT_S = 120
BOX = Box(z=(3, 6), y=(100, 110), x=(7, 12))
ABOUT: dict[str, Any] = {"voxel_size_nm": (70.0, 3.72, 3.72), "description": "synthetic: planted synapses"}

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)).map(lambda m: m * np.uint8(255))


@pytest.fixture
def folder(tmp_path: Path) -> ResultFolder:
    return ResultFolder(tmp_path, "key")


@pytest.fixture
def mask() -> np.ndarray:
    return (np.random.default_rng(5).random(BOX.shape) > 0.7) * np.uint8(255)


# the mask


@settings(max_examples=40, deadline=None)
@given(mask=masks, order=st.permutations((0, 1, 2)), step=st.sampled_from((1, -1)))
def test_for_any_mask_the_pickle_and_the_tiff_hold_it(mask: np.ndarray, order: list[int], step: int) -> None:
    """Any shape, memory layout and a read-only array; the loaded array is a plain one that may be changed."""
    view = mask.transpose(order)[:, ::step]
    view.flags.writeable = False
    with tempfile.TemporaryDirectory() as path:
        folder = ResultFolder(Path(path), "key")
        box = Box.of_shape(view.shape)
        pickled, tiff = write_mask(folder.root, "mask", view, box=box, voxel_size_nm=(70, 4, 4), description="")
        loaded = pickle.loads(pickled.read_bytes())
        with tifffile.TiffFile(tiff) as file:
            pages = np.stack([page.asarray() for page in file.pages])
            series = file.series[0].shape
    assert type(loaded) is np.ndarray
    assert loaded.dtype == np.uint8
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, view)
    np.testing.assert_array_equal(pages, view)
    assert np.prod(series) == view.size


def ome_of(path: Path) -> ElementTree.Element:
    """Return the OME-XML of a TIFF, its tags without namespace."""
    with tifffile.TiffFile(path) as file:
        assert file.ome_metadata is not None
        return ElementTree.fromstring(re.sub(r' xmlns="[^"]+"', "", file.ome_metadata, count=1))


def test_the_ome_tiff_says_what_and_where_it_is(folder: ResultFolder, mask: np.ndarray) -> None:
    _, path = write_mask(folder.root, "nomads-unsupervised-predictions", mask, box=BOX, **ABOUT)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert not file.is_bigtiff
        assert file.series[0].axes == "ZYX"
        assert {page.compression for page in file.pages} == {tifffile.COMPRESSION.ADOBE_DEFLATE}
        assert len(file.pages) == 3
    root = ome_of(path)
    (pixels,) = (each.attrib for each in root.iter("Pixels"))
    assert [float(pixels[f"PhysicalSize{axis}"]) for axis in "ZYX"] == [0.07, 0.00372, 0.00372]
    assert {pixels[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"µm"}
    assert [pixels[f"Size{axis}"] for axis in "TCZYX"] == ["1", "1", "3", "10", "5"]
    assert [each.get("Name") for each in root.iter("Channel")] == ["nomads-unsupervised-predictions"]
    assert root.findtext(".//Description") == "synthetic: planted synapses"
    places = [[plane.get(f"Position{axis}") for axis in "ZYX"] for plane in root.iter("Plane")]
    assert places == [[z, "0.372", "0.02604"] for z in ("0.21", "0.28", "0.35")]
    notes = {m.get("K"): m.text for m in root.iter("M")}
    assert notes == {"z_start": "3", "z_stop": "6", "y_start": "100", "y_stop": "110", "x_start": "7", "x_stop": "12"}


def test_a_description_with_any_characters_gives_xml_that_can_be_read(folder: ResultFolder, mask: np.ndarray) -> None:
    _, path = write_mask(folder.root, "mask", mask, box=BOX, **{**ABOUT, "description": "<a> & \x00\x1b海馬\ud800"})
    assert "海馬" in "".join(ome_of(path).itertext())


def test_large_slices_are_cut_into_tiles_and_have_levels(folder: ResultFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a stated size they are in strips, which ImageJ itself reads, too."""
    monkeypatch.setattr(mask_files, "_STRIPS", 100)
    monkeypatch.setattr(mask_files, "_TILE", (32, 32))
    mask = (np.random.default_rng(5).random((3, 70, 101)) > 0.99) * np.uint8(255)
    mask.flags.writeable = False
    _, path = write_mask(folder.root, "mask", mask, box=Box.of_shape(mask.shape), **ABOUT)
    with tifffile.TiffFile(path) as file:
        (series,) = file.series
        assert file.is_ome
        assert {page.tile for page in file.pages} == {(32, 32)}
        levels = [level.asarray() for level in series.levels]
    np.testing.assert_array_equal(levels[0], mask)
    assert [level.shape for level in levels] == [(3, 70, 101), (3, 35, 51), (3, 18, 26)]
    for y, x in np.ndindex(18, 26):
        assert (levels[2][:, y, x] == mask[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].max(axis=(1, 2))).all()


def test_a_mask_beyond_four_gigabytes_becomes_a_big_tiff(
    folder: ResultFolder, mask: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_files, "_CLASSIC_TIFF_BYTES", mask.nbytes - 1)
    _, path = write_mask(folder.root, "mask", mask, box=BOX, **ABOUT)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), mask)


def test_equal_masks_give_equal_files_and_other_masks_others(folder: ResultFolder, mask: np.ndarray) -> None:
    def written(mask: np.ndarray) -> list[bytes]:
        return [path.read_bytes() for path in write_mask(folder.root, "mask", mask, box=BOX, **ABOUT)]

    def identity(tiff: bytes) -> list[bytes]:
        return re.findall(rb"urn:uuid:[0-9a-f-]+", tiff)

    first = written(mask)
    assert written(np.asfortranarray(mask)) == first
    other = written(np.uint8(255) - mask)
    assert other[0] != first[0]
    assert identity(other[1]) != identity(first[1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros(BOX.shape, bool), "it is bool"),
        (np.zeros((3, 10, 6), np.uint8), "(3, 10, 6)"),
        (np.full(BOX.shape, 7, np.uint8), "slice 0 holds the value 7"),
    ],
    ids=["bool", "shape", "labels"],
)
def test_what_is_no_mask_is_refused_and_leaves_no_file(folder: ResultFolder, wrong: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        write_mask(folder.root, "mask", wrong, box=BOX, **ABOUT)
    assert deliverables(folder.root) == []
    assert [path.name for path in folder.root.iterdir()] == [".work"]


MASK_JOB = """
import resource, sys
from pathlib import Path
import numpy as np
from nd_synapse.geometry import Box
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.results import write_mask

folder = ResultFolder(Path(sys.argv[1]), "key")
shape = (60, 2000, 2000)
with open(folder.work / "mask", "wb") as file:
    file.truncate(240_000_000)
mask = np.memmap(folder.work / "mask", np.uint8, "r", shape=shape)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 200_000_000,) * 2)
try:
    np.ones(240_000_000, np.uint8)
except MemoryError:
    write_mask(folder.root, "mask", mask, voxel_size_nm=(70, 4, 4), box=Box.of_shape(shape), description="")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds allocations on Linux alone")
def test_a_mask_larger_than_memory_is_written(tmp_path: Path) -> None:
    """240 MB in a process that may allocate 200 MB: some slices of 4 MB and the threads' stacks."""
    subprocess.run([sys.executable, "-c", MASK_JOB, tmp_path], cwd=REPOSITORY, check=True, timeout=LIMIT_S)
    assert (tmp_path / "key" / "mask.pkl").stat().st_size > 240_000_000
    with tifffile.TiffFile(tmp_path / "key" / "mask.ome.tiff") as file:
        assert file.series[0].shape == (60, 2000, 2000)


# tables, links, manifest


@st.composite
def tables(draw: st.DrawFn) -> dict[str, np.ndarray]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    rows = draw(st.integers(0, 6))
    dtypes = [np.int64, np.uint64, np.int8, np.bool_, np.float64, np.float32]
    columns = {"id": np.arange(rows)}
    for heading in draw(st.lists(text.filter(lambda t: "\0" not in t), max_size=4)):
        dtype = draw(st.sampled_from([*dtypes, str]))
        elements = text.filter(lambda t: not t.endswith("\x00")) if dtype is str else None
        column = draw(hnp.arrays("U8" if dtype is str else dtype, rows, elements=elements))
        columns[heading] = column
    return columns


def _read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@settings(max_examples=80, deadline=None)
@given(columns=tables())
def test_for_any_columns_the_table_gives_the_same_values_again(columns: dict[str, np.ndarray]) -> None:
    """No digit is lost: the text of a number is the shortest that means that number in its own type."""
    with tempfile.TemporaryDirectory() as path:
        header, *rows = _read(write_table(ResultFolder(Path(path), "key").root, "synapses.csv", columns))
    assert header == list(columns)
    assert len(rows) == len(columns["id"])
    for place, column in enumerate(columns.values()):
        cells = [row[place] for row in rows]
        if column.dtype.kind == "f":
            cells = [cell or "nan" for cell in cells]
        if column.dtype.kind == "b":
            assert cells == [str(bool(value)) for value in column]
        else:
            np.testing.assert_array_equal(np.array(cells, dtype=column.dtype), column)


def test_a_table_looks_like_this(folder: ResultFolder) -> None:
    columns = {
        "id": np.array([1, 2]),
        "z_um": np.array([0.07, np.nan]),
        "PSD95": np.array([0.1, 1e20], np.float32),
        "type, said": np.array(["gaba", 'a "b"']),
    }
    path = write_table(folder.root, "synapses.csv", columns)
    assert path.read_bytes() == b'id,z_um,PSD95,"type, said"\n1,0.07,0.1,gaba\n2,,1e+20,"a ""b"""\n'


def test_a_heading_that_no_parquet_file_takes_is_refused(folder: ResultFolder) -> None:
    """Its library ends in a panic of Rust, which is no Exception."""
    for name in ("synapses.csv", "synapses.parquet"):
        with pytest.raises(DataError, match=r"has a NUL"):
            write_table(folder.root, name, {"a\0b": np.arange(3)})


@settings(max_examples=40, deadline=None)
@given(columns=tables())
def test_for_any_columns_parquet_gives_the_same_columns_again(columns: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = ResultFolder(Path(path), "key")
        file = write_table(folder.root, "synapses.parquet", columns)
        found = read_parquet(file).read_all()
        first = file.read_bytes()
        assert write_table(folder.root, "synapses.parquet", columns).read_bytes() == first
    assert found.column_names == list(columns)
    for name, column in columns.items():
        values = found[name].combine_chunks() if len(column) else None
        if column.dtype.kind == "U":
            assert (values.to_pylist() if values else []) == column.tolist()
        elif values:
            np.testing.assert_array_equal(values.to_numpy(), column)
            assert values.to_numpy().dtype == column.dtype


def test_a_long_table_in_parquet_is_whole_and_comes_piece_by_piece(folder: ResultFolder) -> None:
    rows = 2 * parquet._ROWS + 3
    file = write_table(
        folder.root,
        "synapses.parquet",
        {"id": np.arange(rows), "class": np.array(["gaba", "glut"])[np.arange(rows) % 2]},
    )
    batches = list(read_parquet(file))
    assert sum(batch.num_rows for batch in batches) == rows
    assert batches[-1]["id"].to_numpy()[-1] == rows - 1


def test_parquet_on_a_full_disk_is_an_error_of_ours() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        parquet.write_parquet(full, {"id": np.arange(10)})


@pytest.mark.parametrize(
    "columns",
    [{}, {"a": np.arange(2), "b": np.arange(3)}, {"a": np.zeros((2, 2))}, {"a": np.array([1j])}],
    ids=["none", "lengths", "two-dimensional", "complex"],
)
def test_what_is_no_table_is_refused(folder: ResultFolder, columns: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError):
        write_table(folder.root, "synapses.csv", columns)
    assert deliverables(folder.root) == []


def test_the_links_have_the_historical_form(folder: ResultFolder) -> None:
    """Two columns, no header; a comma in a neuroglancer link is quoted."""
    rows = {
        "All": "http://ndwt.neurodata.io/channel_detail/c/e/ch/",
        "All neuroglancer": 'https://n.org/#!{"a":1,"b":2}',
    }
    path = write_links(folder.root, rows)
    assert path.name == "NDVIS_links.csv"
    assert path.read_text().splitlines()[0] == "All,http://ndwt.neurodata.io/channel_detail/c/e/ch/"
    assert _read(path) == [list(row) for row in rows.items()]


def test_run_json_is_sorted_and_names_its_schema(tmp_path: Path) -> None:
    write_run_json(tmp_path, {"voxels": np.int64(3), "asked": {"z": (0, 8)}})
    text = (tmp_path / "run.json").read_text()
    assert json.loads(text) == {"asked": {"z": [0, 8]}, "schema": "nd-synapse/run/1", "voxels": 3}
    assert text.startswith('{\n  "asked": {\n')


@pytest.mark.parametrize("value", [float("nan"), np.float64("inf"), object(), {1: 2, "a": 3}])
def test_a_value_without_a_form_in_json_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(DataError, match=r"run\.json"):
        write_run_json(tmp_path, {"value": value})


# failures while writing


def _write_everything(folder: ResultFolder) -> None:
    rng = np.random.default_rng(1)
    box = Box.of_shape((8, 500, 500))
    write_links(folder.root, {"All": "x"})
    write_mask(folder.root, "mask", (rng.random(box.shape) > 0.5) * np.uint8(255), box=box, **ABOUT)


def _assert_only_links(folder: ResultFolder, caught: pytest.ExceptionInfo[StorageError]) -> None:
    assert str(folder.root) in str(caught.value)
    assert "writing mask.pkl" in str(caught.value)
    assert "the files written before it are kept" in str(caught.value)
    assert [path.name for path in deliverables(folder.root)] == ["NDVIS_links.csv"]
    assert not list(folder.root.glob(".*.part"))


def test_a_full_disk_is_a_storage_error_that_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        folder = ResultFolder(disk, "key")
        with pytest.raises(StorageError, match="ENOSPC") as caught:
            _write_everything(folder)
        _assert_only_links(folder, caught)


def test_a_limit_on_file_sizes_is_a_storage_error_that_loses_nothing(folder: ResultFolder) -> None:
    """The way of a full disk that needs no root: the device refuses the bytes beyond a megabyte."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(StorageError, match="EFBIG") as caught:
            _write_everything(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    _assert_only_links(folder, caught)


def test_a_process_killed_while_it_writes_leaves_the_earlier_file(folder: ResultFolder) -> None:
    path = write_table(folder.root, "synapses.csv", {"id": np.arange(3)})
    before = path.read_bytes()
    job = (
        "import sys, numpy; from pathlib import Path; from nd_synapse.job.folder import ResultFolder\n"
        "from nd_synapse.job.results import write_table\n"
        "folder = ResultFolder(Path(sys.argv[1]), 'key')\n"
        "write_table(folder.root, 'synapses.csv', {'id': numpy.arange(20_000_000)})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", job, folder.root.parent], cwd=REPOSITORY)
    deadline = time.monotonic() + LIMIT_S
    while not any(part.stat().st_size for part in folder.root.glob(".*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    assert path.read_bytes() == before
    assert deliverables(folder.root) == [path]
    folder.clear_work()
    assert list(folder.root.iterdir()) == [path]
