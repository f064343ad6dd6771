"""The result folder, on real disks: full ones, too, and under processes that die."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from arro3.io import read_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nd_synapse.errors import DataError, StorageError, UsageError
from nd_synapse.files import csv_tables, parquet
from nd_synapse.geometry import Box
from nd_synapse.job import folder as results
from nd_synapse.job.deliverables import deliverables
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.names import mask_names, results_key
from tests.small_disk import small_disk

REPO = Path(results.__file__).parent
BOX = Box(z=(3, 6), y=(100, 110), x=(7, 12))
ABOUT = {"voxel_size_nm": (70.0, 3.72, 3.72), "description": "synthetic: planted synapses"}

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)).map(lambda m: m * np.uint8(255))


@pytest.fixture
def folder(tmp_path: Path) -> ResultFolder:
    return ResultFolder(tmp_path, "key")


@pytest.fixture
def mask() -> np.ndarray:
    return (np.random.default_rng(5).random(BOX.shape) > 0.7) * np.uint8(255)


# names


def test_the_results_key_is_the_historical_one() -> None:
    box = Box(z=(2, 10), y=(0, 1024), x=(30, 1344))
    key = "nomads-unsupervised_collman_M247514_z_2_10_y_0_1024_x_30_1344"
    assert results_key("nomads-unsupervised", "collman", "M247514", box) == key


def test_the_first_mask_is_named_for_its_pipeline_and_the_others_for_themselves() -> None:
    names = mask_names("nomads-unsupervised", ["All", "Gaba"])
    assert names == {"All": "nomads-unsupervised-predictions", "Gaba": "Gaba"}


@pytest.mark.parametrize("names", [("All", "p-predictions"), ("All", "P-Predictions"), ("All", "all"), ("a", "B", "b")])
def test_masks_whose_files_or_channels_would_be_one_are_refused(names: tuple[str, ...]) -> None:
    """Some file systems, and the database behind BOSS, know no case."""
    with pytest.raises(UsageError, match="would be the name of two"):
        mask_names("p", names)


@pytest.mark.parametrize("key", ["", ".", "..", "../up", "a/b", "/a", "a\\b", "a\nb", "a\x00b", ".hidden"])
def test_a_key_that_would_leave_the_path_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match="outside of its folder"):
        ResultFolder(tmp_path, key)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../mask", "a/b", ".mask"])
def test_a_file_name_that_would_leave_the_folder_is_refused(folder: ResultFolder, mask: np.ndarray, name: str) -> None:
    with pytest.raises(UsageError):
        folder.write_mask(name, mask, box=BOX, **ABOUT)


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
        pickled, tiff = folder.write_mask("mask", view, box=box, voxel_size_nm=(70, 4, 4), description="")
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


def test_the_ome_tiff_says_what_and_where_it_is(folder: ResultFolder, mask: np.ndarray) -> None:
    _, path = folder.write_mask("nomads-unsupervised-predictions", mask, box=BOX, **ABOUT)

    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert not file.is_bigtiff
        assert file.series[0].axes == "ZYX"
        assert {page.compression for page in file.pages} == {tifffile.COMPRESSION.ADOBE_DEFLATE}
        assert len(file.pages) == 3
        root = ElementTree.fromstring(file.ome_metadata)
    ome = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    pixels = root.find(".//ome:Pixels", ome).attrib
    assert [float(pixels[f"PhysicalSize{axis}"]) for axis in "ZYX"] == [0.07, 0.00372, 0.00372]
    assert {pixels[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"µm"}
    assert [pixels[f"Size{axis}"] for axis in "TCZYX"] == ["1", "1", "3", "10", "5"]
    assert root.find(".//ome:Channel", ome).get("Name") == "nomads-unsupervised-predictions"
    assert root.find(".//ome:Description", ome).text == "synthetic: planted synapses"
    planes = root.findall(".//ome:Plane", ome)
    assert [plane.get("PositionZ") for plane in planes] == ["0.21", "0.28", "0.35"]
    assert (planes[0].get("PositionY"), planes[0].get("PositionX")) == ("0.372", "0.02604")
    notes = {m.get("K"): int(m.text) for m in root.findall(".//ome:M", ome)}
    assert notes == {"z_start": 3, "z_stop": 6, "y_start": 100, "y_stop": 110, "x_start": 7, "x_stop": 12}


def test_a_description_with_any_characters_gives_xml_that_can_be_read(folder: ResultFolder, mask: np.ndarray) -> None:
    _, path = folder.write_mask("mask", mask, voxel_size_nm=(70, 4, 4), box=BOX, description="<a> & \x00\x1b海馬\ud800")
    with tifffile.TiffFile(path) as file:
        assert "海馬" in "".join(ElementTree.fromstring(file.ome_metadata).itertext())


def test_a_mask_beyond_four_gigabytes_becomes_a_big_tiff(
    folder: ResultFolder, mask: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "_CLASSIC_TIFF_BYTES", mask.nbytes - 1)
    _, path = folder.write_mask("mask", mask, box=BOX, **ABOUT)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), mask)


def test_equal_masks_give_equal_files_and_other_masks_others(tmp_path: Path, mask: np.ndarray) -> None:
    def written(key: str, mask: np.ndarray) -> list[bytes]:
        return [path.read_bytes() for path in ResultFolder(tmp_path, key).write_mask("mask", mask, box=BOX, **ABOUT)]

    first = written("first", mask)
    assert written("second", np.asfortranarray(mask)) == first
    other = written("third", 255 - mask)
    assert other[0] != first[0]
    uuids = [re.search(rb"urn:uuid:[0-9a-f-]+", tiff)[0] for tiff in (first[1], other[1])]
    assert uuids[0] != uuids[1]


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
        folder.write_mask("mask", wrong, box=BOX, **ABOUT)
    assert folder.files() == []
    assert [path.name for path in folder.root.iterdir()] == [".work"]


MASK_JOB = """
import resource, sys
from pathlib import Path
import numpy as np
from box import Box
from results import ResultFolder

folder = ResultFolder(Path(sys.argv[1]), "key")
shape = (40, 4000, 4000)
with open(folder.work / "mask", "wb") as file:
    file.truncate(640_000_000)
mask = np.memmap(folder.work / "mask", np.uint8, "r", shape=shape)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 250_000_000,) * 2)
try:
    np.ones(640_000_000, np.uint8)
except MemoryError:
    folder.write_mask("mask", mask, voxel_size_nm=(70, 4, 4), box=Box.of_shape(shape), description="")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds allocations on Linux alone")
def test_a_mask_larger_than_memory_is_written(tmp_path: Path) -> None:
    """640 MB in a process that may allocate 250 MB: some slices of 16 MB and the threads' stacks."""
    subprocess.run([sys.executable, "-c", MASK_JOB, tmp_path], cwd=REPO, check=True, timeout=120)
    assert (tmp_path / "key" / "mask.pkl").stat().st_size > 640_000_000
    with tifffile.TiffFile(tmp_path / "key" / "mask.ome.tiff") as file:
        assert file.series[0].shape == (40, 4000, 4000)


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
        header, *rows = _read(ResultFolder(Path(path), "key").write_table("synapses.csv", columns))
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
    path = folder.write_table("synapses.csv", columns)
    assert path.read_bytes() == b'id,z_um,PSD95,"type, said"\n1,0.07,0.1,gaba\n2,,1e+20,"a ""b"""\n'


def test_a_table_longer_than_one_piece_is_whole(folder: ResultFolder) -> None:
    rows = 2 * csv_tables._ROWS + 3
    path = folder.write_table("synapses.csv", {"id": np.arange(rows), "volume": np.arange(rows) * 2})
    np.testing.assert_array_equal(
        np.loadtxt(path, dtype=int, delimiter=",", skiprows=1), np.outer(np.arange(rows), [1, 2])
    )


def test_a_heading_that_no_parquet_file_takes_is_refused(folder: ResultFolder) -> None:
    """Its library ends in a panic of Rust, which is no Exception."""
    for name in ("synapses.csv", "synapses.parquet"):
        with pytest.raises(DataError, match=r"has a NUL"):
            folder.write_table(name, {"a\0b": np.arange(3)})


@settings(max_examples=40, deadline=None)
@given(columns=tables())
def test_for_any_columns_parquet_gives_the_same_columns_again(columns: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = ResultFolder(Path(path), "key")
        file = folder.write_table("synapses.parquet", columns)
        found = read_parquet(file).read_all()
        first = file.read_bytes()
        assert folder.write_table("synapses.parquet", columns).read_bytes() == first
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
    file = folder.write_table(
        "synapses.parquet", {"id": np.arange(rows), "class": np.array(["gaba", "glut"])[np.arange(rows) % 2]}
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
        folder.write_table("synapses.csv", columns)
    assert folder.files() == []


def test_the_links_have_the_historical_form(folder: ResultFolder) -> None:
    """Two columns, no header; a comma in a neuroglancer link is quoted."""
    rows = {
        "All": "http://ndwt.neurodata.io/channel_detail/c/e/ch/",
        "All neuroglancer": 'https://n.org/#!{"a":1,"b":2}',
    }
    path = folder.write_links(rows)
    assert path.name == "NDVIS_links.csv"
    assert path.read_text().splitlines()[0] == "All,http://ndwt.neurodata.io/channel_detail/c/e/ch/"
    assert _read(path) == [list(row) for row in rows.items()]


def test_the_manifest_is_sorted_and_names_its_schema(folder: ResultFolder, tmp_path: Path) -> None:
    path = folder.write_json("run.json", {"voxels": np.int64(3), "path": tmp_path, "asked": {"z": (0, 8)}})
    assert json.loads(path.read_text()) == {
        "asked": {"z": [0, 8]},
        "path": str(tmp_path),
        "schema": "nd-synapse/run/1",
        "voxels": 3,
    }
    assert path.read_text().startswith('{\n  "asked": {\n')


@pytest.mark.parametrize("value", [float("nan"), np.float64("inf"), object(), {1: 2, "a": 3}])
def test_a_value_without_a_form_in_json_is_refused(folder: ResultFolder, value: object) -> None:
    with pytest.raises(DataError, match=r"run\.json"):
        folder.write_json("run.json", {"value": value})


# the folder


def test_hidden_files_and_links_are_no_deliverables(folder: ResultFolder, tmp_path: Path) -> None:
    (folder.work / "block.npy").write_bytes(b"")
    (folder.root / ".synapses.csv.1.part").write_bytes(b"")
    (folder.root / "report" / ".cache").mkdir(parents=True)
    (folder.root / "report" / ".cache" / "font").write_bytes(b"")
    (folder.root / "report" / "index.html").write_bytes(b"")
    (folder.root / "linked").symlink_to(tmp_path)
    (folder.root / "link").symlink_to(folder.root / "report" / "index.html")
    folder.write_links({})
    assert folder.files() == [folder.root / "NDVIS_links.csv", folder.root / "report" / "index.html"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ENOENT"):
        deliverables(tmp_path / "nowhere")


def test_building_the_folder_again_keeps_what_is_there(folder: ResultFolder) -> None:
    (folder.work / "block.npy").write_bytes(b"done")
    folder.write_links({"All": "x"})
    again = ResultFolder(folder.root.parent, "key")
    assert (again.work / "block.npy").read_bytes() == b"done"
    assert again.files() == [folder.root / "NDVIS_links.csv"]


def test_clearing_removes_scratch_and_half_written_files_and_nothing_else(folder: ResultFolder) -> None:
    folder.write_links({"All": "x"})
    (folder.work / "blocks").mkdir()
    (folder.root / ".synapses.csv.1.part").write_bytes(b"half")
    folder.clear_work()
    folder.clear_work()
    assert list(folder.root.iterdir()) == [folder.root / "NDVIS_links.csv"]


@pytest.mark.parametrize(("path", "key", "code"), [("file", "key", "ENOTDIR"), ("", "k" * 256, "ENAMETOOLONG")])
def test_a_folder_that_cannot_be_created_is_a_storage_error(tmp_path: Path, path: str, key: str, code: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=code) as caught:
        ResultFolder(tmp_path / path, key)
    assert caught.value.exit_code == 74


# failures while writing


def _write_everything(folder: ResultFolder) -> None:
    rng = np.random.default_rng(1)
    box = Box.of_shape((8, 500, 500))
    folder.write_links({"All": "x"})
    folder.write_mask("mask", (rng.random(box.shape) > 0.5) * np.uint8(255), box=box, **ABOUT)


def _assert_only_links(folder: ResultFolder, caught: pytest.ExceptionInfo[StorageError]) -> None:
    assert str(folder.root) in str(caught.value)
    assert "writing mask.pkl" in str(caught.value)
    assert "the files written before it are kept" in str(caught.value)
    assert [path.name for path in folder.files()] == ["NDVIS_links.csv"]
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


def test_a_failed_write_leaves_the_earlier_file(folder: ResultFolder) -> None:
    path = folder.write_table("synapses.csv", {"id": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(DataError):
        folder.write_table("synapses.csv", {"id": np.arange(3) * 1j})
    assert path.read_bytes() == before


def test_a_process_killed_while_it_writes_leaves_the_earlier_file(folder: ResultFolder) -> None:
    path = folder.write_table("synapses.csv", {"id": np.arange(3)})
    before = path.read_bytes()
    job = (
        "import sys, numpy; from pathlib import Path; from results import ResultFolder\n"
        "folder = ResultFolder(Path(sys.argv[1]), 'key')\n"
        "folder.write_table('synapses.csv', {'id': numpy.arange(20_000_000)})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", job, folder.root.parent], cwd=REPO)
    deadline = time.monotonic() + 30
    while not any(part.stat().st_size for part in folder.root.glob(".*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    assert path.read_bytes() == before
    assert folder.files() == [path]
    folder.clear_work()
    assert list(folder.root.iterdir()) == [path]


def test_a_folder_of_another_experiment_with_the_same_key_is_refused(tmp_path: Path) -> None:
    key = results_key("p", "a_b", "c", BOX)
    assert key == results_key("p", "a", "b_c", BOX)
    folder = ResultFolder(tmp_path, key)
    folder.refuse_other("a", "b_c")
    folder.write_json("run.json", {"asked": {"collection": "a_b", "experiment": "c"}, "files": {}})
    folder.refuse_other("a_b", "c")
    with pytest.raises(UsageError, match="it has those of a_b/c"):
        folder.refuse_other("a", "b_c")
    (folder.root / "run.json").write_text("{")
    folder.refuse_other("a", "b_c")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_folder_that_cannot_be_locked_is_named(
    folder: ResultFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A network file system without locks, or one whose server of locks is away."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    before = list(Path("/proc/self/fd").iterdir())
    with pytest.raises(StorageError, match=r"cannot be locked: .* a file system with locks"), results.locked():
        pytest.fail("it is locked")
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_folder_that_went_away_before_it_was_locked_is_named(folder: ResultFolder) -> None:
    shutil.rmtree(folder.root)
    with pytest.raises(StorageError, match="ENOENT"), results.locked():
        pytest.fail("it is locked")


class TestWhatIsNotOfARun:
    """The folder of a run is its alone; what a user puts into it is neither removed nor delivered."""

    MASKS = ("nomads-unsupervised-predictions", "inhibitory")

    @pytest.mark.parametrize(
        "name", ["notes.txt", "rois/a.roi", "figures/mine.svg", "figures/deeper/a.png", "other.pkl", "my PyMeda_a.html"]
    )
    def test_a_file_of_somebody_is_refused_and_stays(self, folder: ResultFolder, name: str) -> None:
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text("mine")
        with pytest.raises(UsageError, match=re.escape(f"it has what no run left there: {name}")):
            folder.refuse_foreign(self.MASKS)
        folder.clear_results(self.MASKS)
        assert (folder.root / name).read_text() == "mine"

    @pytest.mark.parametrize("name", ["run.json", "figures", "job.log", "synapses.csv", "anything"])
    @pytest.mark.parametrize("leads_to", ["file", "folder", "nowhere"])
    def test_a_symbolic_link_is_refused_whatever_its_name(
        self, folder: ResultFolder, tmp_path: Path, name: str, leads_to: str
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        (folder.root / name).symlink_to(tmp_path / leads_to)
        with pytest.raises(UsageError, match=f"it has what no run left there: {name}"):
            folder.refuse_foreign(self.MASKS)

    @pytest.mark.parametrize("ended", [True, False])
    def test_what_a_run_left_is_removed_whether_it_ended_or_not(self, folder: ResultFolder, ended: bool) -> None:
        names = [f"{mask}{suffix}" for mask in self.MASKS for suffix in (".pkl", ".ome.tiff")]
        names += ["synapses.csv", "synapses.parquet", "NDVIS_links.csv", "PyMeda_a-b.html", "figures/a.png"]
        (folder.root / "figures").mkdir()
        for name in (*names, "job.log"):
            (folder.root / name).touch()
        if ended:
            (folder.root / "of-then.pkl").touch()
            files = {key: {"bytes": 0, "sha256": ""} for key in [*names, "of-then.pkl"]}
            folder.write_json("run.json", {"asked": {"collection": "c", "experiment": "e"}, "files": files})
        folder.refuse_foreign(self.MASKS)
        folder.clear_results(self.MASKS)
        assert [path.name for path in folder.files()] == ["job.log"]

    def test_a_scratch_folder_that_is_a_symbolic_link_is_refused(self, tmp_path: Path) -> None:
        """Removing it would leave what it leads to, and the same command would go on from nothing."""
        (tmp_path / "key").mkdir()
        (tmp_path / "disk").mkdir()
        (tmp_path / "key" / ".work").symlink_to(tmp_path / "disk")
        with pytest.raises(UsageError, match=r"\.work: it is a symbolic link"):
            ResultFolder(tmp_path, "key")
