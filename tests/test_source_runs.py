"""A job does not show where its volume lies, nor how often it was killed."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import driver
from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.fixtures_s3 import S3Server
from tests.in_process import main, restored
from tests.served_volumes import CHANNELS, SHAPE, put, refusal
from tests.volumes_on_disk import FORMS, uri_of, write

RESULT = ("nomads-unsupervised-predictions.pkl", "synapses.csv")
REAL = ("PSD95", "SYNAPSIN", "GLUR1", "LY")


def found_by(source: object, path: Path, **more: Any) -> list[bytes]:
    """Run the default pipeline; return the bytes of mask and table."""
    info, _, links = driver.driver(source=str(source), path=path, plots=False, cpus=1, **more)
    assert links == {}
    return [(Path(info["folder"]) / name).read_bytes() for name in RESULT]


def in_boss(boss: BossServer, col: str, exp: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments that name a whole volume in BOSS."""
    ranges = {f"{axis}_range": (0, n) for axis, n in zip("zyx", shape, strict=True)}
    return {"host": boss.url, "token": boss.token, "col": col, "exp": exp, **ranges}


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, Any]:
    return {name: tifffile.imread(shared_data / "at_example" / f"{name}.tif") for name in REAL}


@pytest.fixture(scope="module")
def boss_result(real: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("boss")
    fill(folder / "data", "weiler", "at_example", real)
    with start_boss(folder / "data") as boss:
        where = in_boss(boss, "weiler", "at_example", real["LY"].shape)
        info, _, _ = driver.driver(**where, path=folder, plots=False, push=False)
    return [(Path(info["folder"]) / name).read_bytes() for name in RESULT]


class TestRun:
    """A job does not show where its volume lies."""

    def test_boss_and_a_bucket_give_the_same_mask_and_table(self, s3_env: S3Server, tmp_path: Path) -> None:
        fill(tmp_path / "boss", "small", "plain", CHANNELS)
        with start_boss(tmp_path / "boss") as boss:
            where = in_boss(boss, "small", "plain", SHAPE)
            info, _, _ = driver.driver(**where, path=tmp_path / "out", plots=False, push=False, cpus=1)
        expected = [(Path(info["folder"]) / name).read_bytes() for name in RESULT]
        write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
        assert found_by(put(s3_env, tmp_path / "a.zarr"), tmp_path / "s3", block_size=(4, 32, 32)) == expected
        folder = tmp_path / "s3" / "nomads-unsupervised_a_z_0_6_y_0_60_x_0_70"
        assert not re.search("numcodecs|zarr\\.core", (folder / "job.log").read_text())
        run = json.loads((folder / "run.json").read_text())
        assert run["asked"]["source"]["uri"] == "s3://volumes/lab/a.zarr"
        printed = io.StringIO()
        with restored(), redirect_stdout(printed):
            assert main("nd-synapse", "verify", str(folder)) == 0
        assert re.search(r"ok   sample .* 0 voxels differ .* rows are equal", printed.getvalue())

    @pytest.mark.parametrize("twice", [True, False])
    def test_one_image_under_two_names_is_warned_of(self, tmp_path: Path, twice: bool) -> None:
        first, other = list(CHANNELS.values())[:2]
        for name, voxels in {"Synapsin": first, "PSD95": first if twice else other}.items():
            tifffile.imwrite(tmp_path / f"{name}.tif", voxels, photometric="minisblack")
        source = {name: tmp_path / f"{name}.tif" for name in ("Synapsin", "PSD95")}
        info, _, _ = driver.driver(
            source=source, path=tmp_path / "out", voxel_size_nm=(70, 100, 100), plots=False, cpus=1
        )
        log = (Path(info["folder"]) / "job.log").read_text(encoding="utf-8")
        assert ("channels Synapsin and PSD95 have the same mean" in log) == twice

    @pytest.mark.slow
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_of_the_real_volume_gives_the_mask_and_table_of_boss(
        self, form: str, boss_result: list[bytes], real: dict[str, Any], tmp_path: Path
    ) -> None:
        write(form, tmp_path / form, real)
        assert found_by(uri_of(form, tmp_path / form), tmp_path / "out", block_size=(8, 300, 500)) == boss_result

    @pytest.mark.slow
    @pytest.mark.parametrize("place", ["a folder of slices", "S3 to S3"])
    def test_a_killed_run_goes_on_to_the_same_bytes(
        self, place: str, boss_result: list[bytes], real: dict[str, Any], s3_env: S3Server, tmp_path: Path
    ) -> None:
        write("slices" if place != "S3 to S3" else "ome05.zarr", tmp_path / "a.zarr", real)
        uri, out = str(tmp_path / "a.zarr"), str(tmp_path / "left")
        if place == "S3 to S3":
            uri, out = put(s3_env, tmp_path / "a.zarr", "killed"), "s3://killed/left"
        words = ["run", "--source", uri, "--path", str(tmp_path / "out"), "--no-plots", "--out", out]
        words += ["--cpus", "1", "--block-size", "8,256,256", "--voxel-size-nm", "70,100,100"]
        command = [sys.executable, "-m", "nd_synapse", *words]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        (folder,) = _wait_for(lambda: list((tmp_path / "out").glob("nomads*")))
        _wait_for(lambda: len(list(folder.glob(".work/statistics-*/*"))) > 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with restored(), redirect_stderr(io.StringIO()):
            assert main("nd-synapse", *words) == 0
        assert json.loads((folder / "run.json").read_text())["resumed_blocks"]["statistics"] > 3
        assert [(folder / name).read_bytes() for name in RESULT] == boss_result

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["zarr2.zarr", "n5", "precomputed"])
    def test_a_chunk_that_changed_since_a_killed_run_is_read_anew(self, form: str, tmp_path: Path) -> None:
        """It is in the second block, and of 128 every sixteenth is compared: the result had voxels of both."""
        channels = blobs((8, 256, 256), 5, 900)
        write(form, tmp_path / "a", channels)
        words = ["run", "--source", uri_of(form, tmp_path / "a"), "--path", str(tmp_path / "out"), "--no-plots"]
        words += ["--cpus", "1", "--block-size", "4,32,32"]
        process = subprocess.Popen([sys.executable, "-m", "nd_synapse", *words], stderr=subprocess.DEVNULL)
        (folder,) = _wait_for(lambda: list((tmp_path / "out").glob("nomads*")))
        _wait_for(lambda: len(list(folder.glob(".work/statistics-*/*"))) > 40)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (before,) = folder.glob(".work/statistics-*")
        write(form, tmp_path / "b", {name: voxels[::-1, ::-1, ::-1] for name, voxels in channels.items()})
        chunk = {"zarr2.zarr": "PSD95/0.0.1", "n5": "PSD95/1/0/0", "precomputed": "PSD95/100_100_70/37-69_6-38_7-9"}[
            form
        ]
        (tmp_path / "a" / chunk).write_bytes((tmp_path / "b" / chunk).read_bytes())
        with restored(), redirect_stderr(io.StringIO()):
            assert main("nd-synapse", *words) == 0
        assert json.loads((folder / "run.json").read_text())["resumed_blocks"].get("statistics", 0) == 0
        assert not before.exists()
        found = [(folder / name).read_bytes() for name in RESULT]
        assert found == found_by(uri_of(form, tmp_path / "a"), tmp_path / "fresh")


def _wait_for(found: Any, limit_s: float = 60) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.02)
    pytest.fail("it did not come")


def test_a_channel_in_colour_is_named_once_by_a_run_and_by_its_log(tmp_path: Path) -> None:
    write("stacks", tmp_path / "a", CHANNELS)
    tifffile.imwrite(tmp_path / "a" / "view.tif", np.zeros((*SHAPE, 3), np.uint8), photometric="rgb")
    printed, words = io.StringIO(), ["--path", str(tmp_path / "out"), "--no-plots"]
    with restored(), redirect_stderr(printed):
        assert main("nd-synapse", "run", "--source", str(tmp_path / "a"), *words, "--cpus", "2") == 0
    (log_file,) = tmp_path.glob("out/*/job.log")
    for text in (printed.getvalue(), log_file.read_text()):
        assert text.count("left out: ") == 1


def test_a_run_is_refused_where_a_channel_is_cut_short(tmp_path: Path) -> None:
    """Another marker would take its role."""
    write("stacks", tmp_path / "a", CHANNELS)
    cut = sorted((tmp_path / "a").glob("*.tif"))[0]
    cut.write_bytes(cut.read_bytes()[:-200])
    code, printed = refusal(str(tmp_path / "a"), path=tmp_path, dry=False)
    assert (code, cut.name in printed, "Copy or write it anew" in printed) == (65, True, True)


def test_a_result_folder_is_no_place_for_results(tmp_path: Path) -> None:
    write("stacks", tmp_path / "a", CHANNELS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    code, printed = refusal(str(tmp_path / "a"), path=tmp_path, dry=False)
    assert (code, "result folder of a run" in printed) == (2, True)


def test_pixels_that_are_not_square_are_pointed_out_and_too_large_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, voxels in CHANNELS.items():
        tifffile.imwrite(tmp_path / "a" / f"{name}.tif", voxels, photometric="minisblack")
    with restored(), redirect_stderr(printed := io.StringIO()):
        words = ["--source", str(tmp_path / "a"), "--path", str(tmp_path / "out"), "--dry-run"]
        main("nd-synapse", "run", *words, "--voxel-size-nm", "100,100,70")
    assert "pixels that are not square are rare" in printed.getvalue()
    code, text = refusal(str(tmp_path / "a"), "--voxel-size-nm", "70000,100000,100000", path=tmp_path, dry=False)
    assert (code, "Check their order (z, y, x) and unit (nm)" in text) == (65, True)


@pytest.mark.parametrize("more", [[], ["--fresh"]], ids=["at first", "fresh"])
def test_a_run_that_is_refused_leaves_no_folder_that_looks_like_a_result(tmp_path: Path, more: list[str]) -> None:
    """And takes nothing from one that was there."""
    write("stacks", tmp_path / "a", CHANNELS)
    box = ["--z-range", "0,99", "--y-range", "0,60", "--x-range", "0,70", *more]
    assert refusal(str(tmp_path / "a"), *box, path=tmp_path, dry=False)[0] == 2
    assert list((tmp_path / "out").iterdir()) == []
    kept = tmp_path / "out" / "nomads-unsupervised_a_z_0_99_y_0_60_x_0_70"
    kept.mkdir()
    refusal(str(tmp_path / "a"), *box, path=tmp_path, dry=False)
    assert (kept / "job.log").exists()
