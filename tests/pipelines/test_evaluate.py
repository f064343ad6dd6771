"""Detections against truth, from files to the printed figures."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from nd_synapse.cli.evaluate import main
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import DataError
from nd_synapse.evaluate import Synapses, evaluate_points, inputs
from nd_synapse.evaluate.metrics import f1_of_counts
from nd_synapse.evaluate.truth import read_points
from nd_synapse.local_boss.synthetic import SyntheticVolume, generate
from nd_synapse.pipeline import registry
from tests.conftest import REPOSITORY

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
SIZE = "70,100,100"
SHAPE = (12, 96, 96)


@pytest.fixture(scope="module")
def volume() -> SyntheticVolume:
    return generate(SHAPE, VOXEL_SIZE_NM, 3)


@pytest.fixture(scope="module")
def sample(volume: SyntheticVolume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small synthetic sample as a user would have it."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "images").mkdir()
    group = zarr.open_group(folder / "images.zarr", mode="w")
    for name, voxels in volume.channels.items():
        tifffile.imwrite(folder / "images" / f"{name}.tif", voxels, photometric="minisblack")
        group.create_array(name, data=voxels)
    write_truth(folder / "truth.csv", volume)
    truth = np.zeros(SHAPE, np.uint16)
    centre = np.clip(np.rint(volume.synapses.centre).astype(int), 0, np.array(SHAPE) - 1)
    truth[tuple(centre.T)] = np.arange(1, len(centre) + 1)
    tifffile.imwrite(folder / "labels.tif", truth, photometric="minisblack")
    zarr.create_array(folder / "labels.zarr", data=truth)
    return folder


def write_truth(path: Path, volume: SyntheticVolume) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["type", "z", "y", "x", "volume_um3"])
        for kind, centre, size in zip(
            volume.synapses.types, volume.synapses.centre.tolist(), volume.synapses.volume_um3.tolist(), strict=True
        ):
            writer.writerow([kind, *centre, size])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def command(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "nd_synapse", "evaluate", *map(str, words)]
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


def figures(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code = main([*map(str, words), "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    parsed: dict[str, Any] = json.loads(printed.out)
    return parsed


class TestCommand:
    """The command line, from files to figures."""

    @pytest.mark.slow
    def test_a_sample_of_files_is_evaluated_in_one_command(self, sample: Path, tmp_path: Path) -> None:
        done = command(
            *("--images", sample / "images", "--truth", sample / "truth.csv", "--voxel-size-nm", SIZE),
            *("--pipeline", "probabilistic", "--out", tmp_path / "out"),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) <= 40, "a screen"
        assert re.search(r"^precision +0\.\d+ +0\.\d+ to [01]\.\d+ +[\d,]+ of [\d,]+ detections$", done.stdout, re.M)
        assert "one to one, centres at most 300 nm apart" in done.stdout
        names = {"false_alarms.csv", "hits.csv", "misses.csv", "matches.png", "precision_recall.png"}
        assert {file.name for file in (tmp_path / "out").iterdir()} == names
        hits, missed = (rows(tmp_path / "out" / name) for name in ("hits.csv", "misses.csv"))
        assert f"{len(hits):,} of {len(hits) + len(missed):,} synapses" in done.stdout
        assert all(float(row["distance_um"]) <= 0.3 for row in hits)
        assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in names if "png" in name)

    def test_figures_are_those_of_the_functions(
        self, sample: Path, volume: SyntheticVolume, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shown = figures(capsys, "--images", sample / "images", "--truth", sample / "truth.csv", "--voxel-size-nm", SIZE)
        found = detect_arrays(registry.build("nomads-unsupervised", {}), volume.channels, VOXEL_SIZE_NM)
        centre = np.stack([found.table[f"centroid_{axis}_um"] for axis in "zyx"], axis=1)
        evaluation = evaluate_points(Synapses(volume.synapses.centre_um), Synapses(centre))
        assert (shown["hits"], shown["detections"]) == (evaluation.hits, len(centre))
        assert shown["f1"]["value"] == f1_of_counts(shown["hits"], shown["missed"], shown["false_alarms"]).value
        assert sum(kind["total"] for kind in shown["synapses_by_type"].values()) == shown["synapses"]

    def test_tiff_and_zarr_give_the_same_figures(self, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
        size = ("--voxel-size-nm", SIZE)
        tiff, stored = (
            figures(capsys, "--images", sample / images, "--truth", sample / labels, *size)
            for images, labels in (("images", "labels.tif"), ("images.zarr", "labels.zarr"))
        )
        assert {**tiff, "truth_file": ""} == {**stored, "truth_file": ""}
        assert "at least one voxel shared" in tiff["rule"]

    def test_a_label_volume_can_be_matched_by_distance(self, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shown = figures(
            *(capsys, "--images", sample / "images", "--truth", sample / "labels.tif", "--voxel-size-nm", SIZE),
            *("--max-distance-nm", 250),
        )
        assert "at most 250 nm apart" in shown["rule"]

    def test_a_table_of_a_run_is_scored_as_the_run_was(
        self, sample: Path, volume: SyntheticVolume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = detect_arrays(registry.build("nomads-unsupervised", {}), volume.channels, VOXEL_SIZE_NM)
        table = tmp_path / "synapses.csv"
        columns = {**found.table, "score": found.table["voxels"], "in_Big": found.table["voxels"] > 40}
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
        against = ("--truth", sample / "truth.csv", "--voxel-size-nm", SIZE)
        ran = figures(capsys, "--images", sample / "images", *against)
        scored = figures(capsys, "--detections", table, *against)
        assert (scored["hits"], scored["f1"]) == (ran["hits"], ran["f1"])
        assert 0 < scored["average_precision"] <= scored["recall"]["value"]
        big = figures(capsys, "--detections", table, "--mask", "Big", *against)
        assert big["detections"] == np.count_nonzero(columns["in_Big"])
        ranges = ("--z-range", "0,12", "--y-range", "0,48", "--x-range", "0,96")
        half = figures(capsys, "--detections", table, *against, *ranges)
        assert half["synapses"] == np.count_nonzero(volume.synapses.centre[:, 1] < 47.5)

    def test_types_restrict_the_truth(self, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
        against = ("--images", sample / "images", "--truth", sample / "truth.csv", "--voxel-size-nm", SIZE)
        everything = figures(capsys, *against)["synapses_by_type"]
        shown = figures(capsys, *against, "--types", "inhibitory")
        assert shown["synapses"] == everything["inhibitory"]["total"]

    def test_a_border_leaves_out_what_is_near_to_it(self, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
        against = ("--images", sample / "images", "--truth", sample / "truth.csv", "--voxel-size-nm", SIZE)
        shown = figures(capsys, *against, "--border-nm", "0,1000,1000")
        everything = figures(capsys, *against)
        assert shown["synapses"] + shown["left_out_synapses"] == everything["synapses"]
        assert shown["left_out_synapses"] > 0
        assert main([*map(str, against), "--border-nm", "500"]) == DataError.exit_code, "nothing is left along z"
        assert "all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", 65, "no header"),
        ("z,y,x\n", 65, "there are none"),
        ("z,y,x\n1,2,nan\n", 65, "row 1 has 'nan' in column 'x'"),
        ("z,y,x\n1,2,\n", 65, "no finite number"),
        ("z,y,x\n1,2,three\n", 65, "'three'"),
        ("z,y,x\n1,2\n", 65, "line 2 has 2 cells"),
        ("z,y,x,x\n1,2,3,4\n", 65, "heads two columns"),
        ("a;b\n1;2\n", 65, "Name the columns z,y,x"),
        ("x,y\n1,2\n", 65, "its columns are x, y"),
        ("z,y,x\n1,2,3\n11,96,700\n", 65, "1 of 2 lie outside of the volume"),
        ("z,y,x,z_um,y_um,x_um\n5,50,50,0.9,5,5\n", 65, "Correct --voxel-size-nm"),
        ("\x00\x01\x02", 65, "truth.csv"),
        ("z_um,y_um,x_um\n1e308,1e308,1e308\n", 65, "row 1 is [1e+308"),
        ("z,y,x\n1e308,2,3\n", 65, "numbers of at most 1e+15"),
        ("index,axis-0,axis-1\n0,50,50\n", 65, "its columns are index, axis-0, axis-1"),
        ("index,axis-0,axis-1,axis-2,axis-3\n0,1,5,50,50\n", 65, "they have four axes"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_an_invalid_truth_is_one_line(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, words: str
) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(text, encoding="utf-8")
    line = ["--images", str(sample / "images"), "--truth", str(truth), "--voxel-size-nm", SIZE]
    assert main(line) == code
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_points_that_napari_saved_are_voxels(tmp_path: Path) -> None:
    """Its layer of points has the scale of the images, and its file the places without it."""
    for name, header in (("ours", "z,y,x"), ("napari", "index,axis-0,axis-1,axis-2")):
        before = "0.0," if name == "napari" else ""
        (tmp_path / f"{name}.csv").write_text(f"{header}\n{before}3.0,41.25,7.5\n", encoding="utf-8")
    ours, napari = (read_points(tmp_path / f"{name}.csv", (70, 100, 100)) for name in ("ours", "napari"))
    np.testing.assert_array_equal(ours.centre_um, napari.centre_um)
    np.testing.assert_allclose(napari.centre_um, [[0.21, 4.125, 0.75]])


def test_corners_of_shapes_that_napari_saved_are_no_points(tmp_path: Path) -> None:
    header = "index,shape-type,vertex-index,axis-0,axis-1,axis-2"
    (tmp_path / "shapes.csv").write_text(f"{header}\n0.0,rectangle,0.0,3.0,41.2,7.5\n", encoding="utf-8")
    with pytest.raises(DataError, match="corners of napari's shapes"):
        read_points(tmp_path / "shapes.csv", (70, 100, 100))


def test_a_function_in_the_working_folder_is_evaluated(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evaluated_here.py").write_text("def bright(channels):\n    return channels['PSD95'] > 100\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    line = ["--images", str(sample / "images"), "--truth", str(sample / "truth.csv"), "--voxel-size-nm", SIZE]
    assert main([*line, "--pipeline", "evaluated_here:bright"]) == 0
    assert "precision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 2, "Give one of --images"),
        ("--images {s}/images", 2, "there is no truth"),
        ("--images {s}/images --truth {s}/truth.csv", 2, "Give --voxel-size-nm"),
        ("--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,0,100", 2, "three sizes from"),
        ("--images {s}/images --truth {s}/none.csv --voxel-size-nm 70,100,100", 2, "no such file"),
        ("--images {s}/none --truth {s}/truth.csv --voxel-size-nm 70,100,100", 2, "no such file"),
        ("--images {s} --truth {s}/truth.csv --voxel-size-nm 70,100,100 --channels presynaptic=A", 2, "A"),
        ("--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,100,100 --overlap", 2, "no extent"),
        ("--images {s}/images --truth {s}/labels.tif --voxel-size-nm 70,100,100 --types a", 2, "has none"),
        ("--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,100,100 --types glut", 2, "excitatory"),
        ("--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,100,100 --type-column kind", 2, "'kind'"),
        ("--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,100,100 --mask Gaba", 2, "Correct --mask"),
        (
            "--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,100,100 --max-distance-nm -3",
            2,
            "not a number from 0",
        ),
        ("--images {s}/labels.tif --truth {s}/truth.csv --voxel-size-nm 70,100,100", 2, "channels are labels"),
        ("--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,100,100 --pipeline nomad", 2, "nomads"),
        ("--images {s}/images --truth {s}/images --voxel-size-nm 70,100,100", 2, "not a Zarr array"),
        ("--images {s}/labels.zarr --truth {s}/truth.csv --voxel-size-nm 70,100,100", 2, "channels are labels."),
        ("--images {s}/images --truth {s}/images.zarr --voxel-size-nm 70,100,100", 65, "Name one of them"),
        ("--detections {s}/truth.csv --truth {s}/labels.tif", 2, "Give --voxel-size-nm"),
        ("--detections {s}/truth.csv --truth {s}/truth.csv", 2, "of unknown size"),
        ("--detections {s}/truth.csv --truth {s}/truth.csv --voxel-size-nm 1,1,1 --border-nm 9", 2, "--z-range"),
        ("--detections {s}/truth.csv --truth {s}/truth.csv --voxel-size-nm 1,1,1 --z-range 0,3", 2, "some are missing"),
        ("--synaptograms {s}/truth.csv", 65, "no archive of arrays"),
        ("--synaptograms {s}/none.npz", 2, "no such file"),
        (
            "--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,100,100 --max-distance-nm nan",
            2,
            "not a number from 0",
        ),
        (
            "--images {s}/images --truth {s}/truth.csv --voxel-size-nm 70,100,100 --max-distance-nm 1e300",
            2,
            "not a number from 0",
        ),
        ("--detections {s}/truth.csv --truth {s}/truth.csv --param fold=2", 2, "--param and --detections are given"),
    ],
)
def test_an_invalid_command_line_is_one_line(
    sample: Path, capsys: pytest.CaptureFixture[str], line: str, code: int, words: str
) -> None:
    assert main(line.format(s=sample).split()) == code
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.zeros(SHAPE, np.float32), "not whole numbers"),
        (np.zeros((12, 96, 95), np.uint8), "Give the truth of the same box"),
        (np.full(SHAPE, -1, np.int16), "the label -1"),
        (np.zeros(SHAPE, np.uint8), "there are none"),
        (np.zeros((2, *SHAPE), np.uint8), "not z, y, x"),
    ],
    ids=["float", "shape", "negative", "empty", "four-axes"],
)
def test_an_invalid_label_volume_is_one_line(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], voxels: np.ndarray[Any, Any], words: str
) -> None:
    tifffile.imwrite(tmp_path / "labels.tif", voxels, photometric="minisblack", metadata=None)
    if voxels.ndim == 4:
        (tmp_path / "labels.tif").unlink()
        zarr.create_array(tmp_path / "labels.tif", data=voxels)
    line = ["--images", str(sample / "images"), "--truth", str(tmp_path / "labels.tif"), "--voxel-size-nm", SIZE]
    assert main(line) == DataError.exit_code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kept", [0.1, 0.9])
def test_a_tiff_that_is_cut_short_is_refused(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], compression: str | None, kept: float
) -> None:
    """Its reader would fill in zeros, and the synapses there would count as missed."""
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, tifffile.imread(sample / "labels.tif"), photometric="minisblack", compression=compression)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert main(["--images", str(sample / "images"), "--truth", str(path), "--voxel-size-nm", SIZE]) == 65
    assert "labels.tif" in capsys.readouterr().err


def test_files_that_are_too_large_are_refused(
    sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--images", str(sample / "images"), "--truth", str(sample / "truth.csv"), "--voxel-size-nm", SIZE]
    monkeypatch.setattr(inputs, "MAX_BYTES", 1000)
    assert main(line) == DataError.exit_code
    monkeypatch.setattr(inputs, "MAX_ROWS", 3)
    assert main(["--detections", line[3], "--truth", line[3], "--voxel-size-nm", SIZE]) == DataError.exit_code
    assert "more than 3 rows" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_is_a_storage_error(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--detections", sample / "truth.csv", "--truth", sample / "truth.csv", "--voxel-size-nm", SIZE]
    assert main([*map(str, line), "--out", str(sample / "truth.csv")]) == 74
    assert "Give --out a folder" in capsys.readouterr().err


def test_a_table_without_rows_has_found_nothing(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "synapses.csv"
    table.write_text("centroid_z_um,centroid_y_um,centroid_x_um,score\n", encoding="utf-8")
    line = ["--detections", str(table), "--truth", str(sample / "truth.csv"), "--voxel-size-nm", SIZE]
    assert main([*line, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^precision +- +0 of 0 detections$", shown, re.MULTILINE)
    assert re.search(r"^average precision +0\.000$", shown, re.MULTILINE)
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_detections_far_from_the_truth_are_pointed_out(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong unit or origin would otherwise look like a bad pipeline."""
    table = tmp_path / "synapses.csv"
    table.write_text("z_um,y_um,x_um\n400,4000,4000\n", encoding="utf-8")
    line = ["--detections", str(table), "--truth", str(sample / "truth.csv"), "--voxel-size-nm", SIZE]
    assert main(line) == 0
    assert "The two lie apart from each other" in capsys.readouterr().out


def test_a_table_against_itself_is_perfect(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    against = sample / "truth.csv"
    shown = figures(capsys, "--detections", against, "--truth", against, "--voxel-size-nm", SIZE)
    assert (shown["precision"]["value"], shown["recall"]["value"], shown["f1"]["value"]) == (1, 1, 1)


@pytest.mark.slow
def test_all_objects_of_the_published_mask_are_found(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The truth is the published detector's own output."""
    folder = shared_data / "at_example"
    shown = figures(
        *(capsys, "--images", folder, "--truth", folder / "published_detections_mask.tif", "--voxel-size-nm", SIZE),
        *("--pipeline", "probabilistic", "--overlap", 1.0),
    )
    assert (shown["hits"], shown["missed"], shown["false_alarms"]) == (2477, 0, 0)
