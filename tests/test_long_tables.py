"""Tables too long for CSV: Parquet in its place, an even sample as points, and the same answers of every command."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import driver
from nd_synapse.columns import MOST_ROWS, counted, pieces, step_of
from nd_synapse.errors import DataError
from nd_synapse.files.csv_tables import texts
from nd_synapse.files.parquet import read_parquet
from nd_synapse.geometry import Box
from nd_synapse.job import results
from nd_synapse.job.verify import Request, verify
from nd_synapse.view.run import open_run
from tests.fixtures_boss import REPOSITORY
from tests.in_process import main
from tests.volumes_with_puncta import write_blobs

READER = pytest.importorskip("neuroglancer.read_precomputed_annotations").AnnotationReader


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("volume") / "images.zarr")


def ran(volume: Path, folder: Path, **more: Any) -> Path:
    info, _, _ = driver.driver(path=folder, source=volume, push=False, cpus=1, plots=False, **more)
    return Path(info["folder"])


@pytest.fixture(scope="module")
def short(volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder with a CSV."""
    return ran(volume, tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def long(volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same results, of which five rows are a long table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "MOST_WITHOUT_PARQUET", 4)
        patch.setattr(results, "MOST_IN_CSV", 5)
        return ran(volume, tmp_path_factory.mktemp("long"), out=str(tmp_path_factory.mktemp("out") / "there"))


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "synapses.csv").read_text().splitlines()))


def test_a_long_table_is_the_same_in_parquet_and_has_no_csv(short: Path, long: Path) -> None:
    assert not (long / "synapses.csv").exists()
    expected = rows_of(short)
    assert len(expected) > 5
    (piece,) = read_parquet(long / "synapses.parquet", "it")
    cells = {name: texts(name, values) for name, values in piece.items()}
    assert [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)] == expected


def test_a_table_has_either_form_or_both_by_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_WITHOUT_PARQUET", 3)
    monkeypatch.setattr(results, "MOST_IN_CSV", 5)
    for rows, names in ((3, {"csv"}), (4, {"csv", "parquet"}), (5, {"csv", "parquet"}), (6, {"parquet"})):
        folder = tmp_path / str(rows)
        folder.mkdir()
        results.write_tables(folder, {"id": np.arange(rows)})
        assert {path.suffix[1:] for path in folder.iterdir()} == names


def test_a_long_table_is_verified_with_all_its_rows(long: Path) -> None:
    found = {check.name: check for check in verify(Request(folder=long, sample=8))}
    for name in ("files", "labels", "out", "sample"):
        assert found[name].good, found[name].found
    assert "rows are equal" in found["sample"].found
    assert not found["sample"].found.endswith(" 0 rows are equal")


def test_a_row_of_a_long_table_that_is_wrong_is_found(long: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(long, tmp_path / long.name))
    (piece,) = read_parquet(folder / "synapses.parquet", "it")
    piece["voxels"][-1] += 1
    results.write_table(folder, "synapses.parquet", piece)
    found = {check.name: check for check in verify(Request(folder=folder, sample=8))}
    assert found["labels"].good is False
    assert found["sample"].good is False
    assert f"row {len(piece['id'])}: its voxels is {piece['voxels'][-1]}" in found["sample"].found


def test_a_long_table_is_delivered_and_viewed(short: Path, long: Path) -> None:
    out = Path(json.loads((long / "run.json").read_text())["asked"]["out"].removeprefix("file://"))
    assert (out / "synapses.parquet").read_bytes() == (long / "synapses.parquet").read_bytes()
    ours, theirs = (open_run(Request(folder=folder)).scene.places for folder in (long, short))
    assert np.array_equal(ours.ids, theirs.ids)
    assert np.array_equal(ours.centroids, theirs.centroids)


def test_points_of_a_long_table_are_every_so_many_rows_under_their_own_ids(short: Path, long: Path) -> None:
    ours, theirs = (READER(f"file://{folder / 'synapses.annotations'}/") for folder in (long, short))
    rows = len(rows_of(short))
    step = step_of(rows, 5)
    assert step > 1
    for number in range(1, rows + 1):
        point, same = ours.by_id.get(number).result(), theirs.by_id[number]
        if (number - 1) % step:
            assert point is None
        else:
            assert (int(point.id), point.point.tolist(), str(point.props)) == (
                number,
                same.point.tolist(),
                str(same.props),
            )
    levels = json.loads((long / "synapses.annotations/info").read_bytes())["spatial"]
    ids = [
        int(point.id)
        for level, index in zip(levels, ours.spatial, strict=True)
        for point in index.get((0, 0, 0)).result()
    ]
    assert sorted(ids) == list(range(1, rows + 1, step))


@pytest.mark.parametrize("step", [1, 2, 64])
def test_ids_of_a_sample_are_found_across_indices_of_the_shard(tmp_path: Path, step: int, monkeypatch) -> None:
    rows = 1500 * step
    monkeypatch.setattr(results, "MOST_IN_CSV", 1500)
    places = {f"centroid_{axis}_voxel": np.arange(rows) % 7 for axis in "zyx"}
    results.write_points(
        tmp_path, {"id": np.arange(1, rows + 1), **places}, Box.of_shape((8, 8, 8)), (70.0, 10.0, 10.0)
    )
    reader = READER(f"file://{tmp_path / 'synapses.annotations'}/")
    for row in (0, 1, 510, 511, 512, 513, 1023, 1024, 1499):
        assert int(reader.by_id[row * step + 1].id) == row * step + 1
    for number in (rows + 1, *([step, 512 * step] if step > 1 else [])):
        assert reader.by_id.get(number).result() is None


def test_marks_of_a_long_table_are_refused_in_a_clear_sentence(long: Path, tmp_path: Path, capsys) -> None:
    marks = tmp_path / "marks.csv"
    marks.write_text("id,z,y,x,label,pipeline\n1,1,1,1,true,\n")
    assert main("nd-synapse", "evaluate", str(long), "--labels", str(marks)) != 0
    assert "it is a Parquet file; save it as CSV" in capsys.readouterr().err.replace(". S", "; s")


@pytest.mark.parametrize("damage", ["cut", "page", "end"])
def test_a_damaged_long_table_is_an_error_of_ours(tmp_path: Path, damage: str) -> None:
    file = results.write_table(tmp_path, "synapses.parquet", {"id": np.random.default_rng(1).integers(0, 9**9, 9999)})
    body = bytearray(file.read_bytes())
    if damage == "cut":
        del body[-100:]
    else:
        at = 4 if damage == "page" else len(body) - 60
        body[at : at + 40] = b"\xff" * 40
    file.write_bytes(body)
    with pytest.raises(DataError, match=r"synapses.parquet: it is damaged"):
        list(read_parquet(file, "synapses.parquet"))


def test_a_sample_is_even_and_never_too_long() -> None:
    for rows in (0, 1, 9, 10, 11, 20, 21, 40, 41, 1000):
        step = step_of(rows, 10)
        assert len(range(0, rows, step)) <= 10
        assert step == 1 or len(range(0, rows, step // 2)) > 10


def test_values_are_counted_over_all_pieces() -> None:
    values = np.array(["b", "a"])[(np.arange(MOST_ROWS + 5) < MOST_ROWS + 2).astype(int)]
    assert [piece.stop for piece in pieces(len(values))] == [MOST_ROWS, MOST_ROWS + 5]
    assert list(counted(values).items()) == [("a", MOST_ROWS + 2), ("b", 3)]


WRITES = """
import json, sys
from pathlib import Path
import numpy as np
from benchmarks.report import watched
from nd_synapse.blocks.store import Store
from nd_synapse.detection.joining import ColumnFiles
from nd_synapse.geometry import Box
from nd_synapse.job import results
from nd_synapse.job.digits import round_columns

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
store = Store(folder)
kinds = {name: np.dtype(float) for name in ("centroid_z_voxel", "centroid_y_voxel", "centroid_x_voxel", "score")}
table = ColumnFiles.blank(store, "table", rows, {"id": np.dtype(int), **kinds, "class": np.dtype("U10")})
random = np.random.default_rng(1)
for start in range(0, rows, 10**6):
    places = np.arange(start, min(start + 10**6, rows))
    some = {name: random.uniform(0, 900, len(places)) for name in kinds}
    table.fill(places, {"id": places + 1, **some, "class": np.array(["excitatory", "inhibitory"])[places % 2]})
with watched() as seen:
    rounded = ColumnFiles.blank(store, "rounded", rows, {name: values.dtype for name, values in table.items()})
    round_columns(table, rounded)
    after_rounding = max(seen)
    results.write_tables(folder, rounded)
    after_tables = max(seen)
    results.write_points(folder, rounded, Box.of_shape((900, 900, 900)), (70.0, 100.0, 100.0))
print(json.dumps([after_rounding, after_tables, max(seen)]))
"""


@pytest.mark.slow
def test_memory_of_writing_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    rows = results.MOST_IN_CSV + 1
    command = [sys.executable, "-c", WRITES, str(tmp_path), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    rounding, tables, points = json.loads(done.stdout)
    # the program itself has 100 MB
    assert rounding < 300e6
    assert tables < 400e6
    assert points < 1e9
    assert {path.name for path in tmp_path.iterdir()} >= {"synapses.parquet", "synapses.annotations"}
    assert not (tmp_path / "synapses.csv").exists()
