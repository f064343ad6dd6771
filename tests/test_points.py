"""Points in neuroglancer's format, read by neuroglancer's own reader and by TensorStore."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nd_synapse.files import points
from nd_synapse.geometry import Box
from nd_synapse.job.results import POINTS, write_points

BOX = Box((3, 43), (100, 1124), (2000, 3024))
SIZE_NM = (70.0, 100.0, 100.0)
READER = pytest.importorskip("neuroglancer.read_precomputed_annotations").AnnotationReader


def table(n: int, **more: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of n synapses at random places."""
    random = np.random.default_rng(n)
    centroids = {
        f"centroid_{axis}_voxel": random.uniform(a, b - 1, n).round(4)
        for axis, (a, b) in zip("zyx", BOX.ranges, strict=True)
    }
    volume = random.uniform(0.01, 1, n)
    score = random.uniform(1, 9, n).astype(np.float32)
    return {"id": np.arange(1, n + 1), **centroids, "volume_um3": volume, "score": score, **more}


def written(folder: Path, columns: dict[str, np.ndarray]) -> Path:
    """Write points, and return their folder."""
    folder.mkdir(exist_ok=True)
    write_points(folder, columns, BOX, SIZE_NM)
    return folder / POINTS


def bytes_in(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("n", [0, 1, 511, 512, 3000])
def test_each_synapse_is_found_by_its_id_with_its_place_and_its_properties(n: int, tmp_path: Path) -> None:
    classes = np.array(["excitatory", "inhibitory"])[np.arange(n) % 2]
    columns = table(n, **{"class": classes, "confidence": np.full(n, np.nan, np.float32)})
    folder = written(tmp_path, columns)
    reader = READER(f"file://{folder}/")
    unknown = ["confidence"] if n == 0 else []
    assert [spec.id for spec in reader.properties] == ["score", *unknown, "volume_um3", "class"]
    by_name = json.loads((folder / "info").read_bytes())["properties"][-1]
    assert by_name["enum_labels"] == sorted(set(classes))
    for row in {0, 1, n // 2, n - 2, n - 1} & set(range(n)):
        found = reader.by_id[row + 1]
        place = [columns[f"centroid_{axis}_voxel"][row] + 0.5 for axis in "xyz"]
        assert np.array_equal(found.point, np.array(place, np.float32))
        assert int(found.id) == row + 1
        assert found.props[0] == columns["score"][row]
        assert by_name["enum_labels"][found.props[-1]] == classes[row]
    assert reader.by_id.get(n + 1).result() is None


def test_each_synapse_lies_in_one_cell_of_one_grid_and_no_cell_has_too_many(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(points, "_MOST_IN_CELL", 100)
    columns = table(5000)
    folder = written(tmp_path, columns)
    reader = READER(f"file://{folder}/")
    info = json.loads((folder / "info").read_bytes())
    assert len(info["spatial"]) > 3
    ids = []
    for level, index in zip(info["spatial"], reader.spatial, strict=True):
        cells = 0
        for cell in np.ndindex(*level["grid_shape"]):
            found = index.get(cell).result()
            if found is None:
                continue
            cells += 1
            low = np.array(info["lower_bound"]) + np.array(cell) * level["chunk_size"]
            assert 0 < len(found) <= 100
            for point in found:
                assert (point.point >= low - 1e-3).all()
                assert (point.point <= low + level["chunk_size"] + 1e-3).all()
            ids += [int(point.id) for point in found]
        assert cells
    assert sorted(ids) == list(range(1, 5001))


def test_the_bytes_follow_from_the_table(tmp_path: Path) -> None:
    one, other = (bytes_in(written(tmp_path / name, table(20_000))) for name in "ab")
    assert one == other
    assert sorted(one) == ["by_id/0.shard", "info", "spatial0/0.shard", "spatial1/0.shard"]


def test_a_viewer_draws_cells_that_are_nearly_cubes() -> None:
    grid = points._grid(BOX, SIZE_NM, 4)
    sides = np.array(BOX.shape[::-1]) * SIZE_NM[::-1] / grid
    assert grid.tolist() == [16, 16, 1]
    assert sides.max() / sides.min() < 3
