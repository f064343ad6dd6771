"""What a run leaves and returns, and what may lie in its folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import driver
from nd_synapse.credentials import Token
from nd_synapse.job import steps
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.job import Job
from tests.detection.hostile import Fragile
from tests.driver.runs import (
    BYTES,
    LOCAL,
    PREDICTIONS,
    SMALL,
    VOXEL_SIZE_NM,
    Run,
    drive,
    drive_small,
    files_of,
    in_boss,
    where,
)
from tests.fixtures_boss import BossServer


class TestResults:
    """What a run leaves, on a small volume."""

    @pytest.mark.slow
    def test_second_run_makes_the_channel_equal_to_the_second_mask(
        self, small_boss: BossServer, tmp_path: Path
    ) -> None:
        """BOSS would keep the union; the push does not, and replaces masks of another run only on request."""
        options = ["--out-exp", "second", "--no-plots"]
        first = drive_small(small_boss, tmp_path / "1", *options)
        other = [*options, "--param", "min_voxels=70"]
        refused = drive_small(small_boss, tmp_path / "2", *other)
        assert refused.code == 2
        assert "--overwrite" in refused.stderr
        second = drive_small(small_boss, tmp_path / "2", *other, "--overwrite")
        assert (first.code, second.code) == (0, 0), second.stderr
        assert np.count_nonzero(second.mask()) < np.count_nonzero(first.mask())
        assert np.array_equal(in_boss(small_boss, second, SMALL, ("collman_nomads", "second")), second.mask())

    def test_run_json_describes_the_run_and_nothing_holds_the_token(self, small_boss: BossServer, plain: Run) -> None:
        manifest = plain.manifest()
        assert manifest["asked"]["x_range"] == [0, 70]
        assert manifest["roles"] == {"presynaptic": "SYNAPSIN", "postsynaptic": "PSD95"}
        assert manifest["counts"]["synapses"] == len(plain.table()) > 0
        assert manifest["voxels"]["All"] == np.count_nonzero(plain.mask())
        assert {"pull", "detect", "registration", "push", "plots"} <= manifest["seconds"].keys()
        assert manifest["registration"]["of_sections"] == 6
        assert 0 < manifest["chance"]["detections"] <= manifest["counts"]["synapses"]
        assert manifest["chance"]["expected"] <= manifest["chance"]["expected_at_most"]
        assert "are expected by chance" in (plain.folder / "job.log").read_text()
        links = list(csv.reader((plain.folder / "NDVIS_links.csv").read_text().splitlines()))
        out = "collman_nomads/nomads_predictions"
        assert links[0] == ["All", f"http://ndwt.neurodata.io/channel_detail/{out}/{plain.folder.name}_All/"]
        assert [name for name, _ in links] == ["All", "All neuroglancer"]
        names = {path.relative_to(plain.folder).as_posix() for path in plain.folder.rglob("*")}
        assert {"job.log", "run.json", *BYTES} <= names
        assert not any(name.startswith(".") for name in names)
        assert small_boss.token not in plain.stderr
        assert not [name for name, body in files_of(plain.folder).items() if small_boss.token.encode() in body]

    @pytest.mark.parametrize("options", [["--cpus", "1"], ["--cpus", "3", "--block-size", "2,13,17"]])
    def test_blocks_and_workers_do_not_show(
        self, small_boss: BossServer, plain: Run, tmp_path: Path, options: list[str]
    ) -> None:
        """The same files, byte for byte, as with the defaults."""
        other = drive_small(small_boss, tmp_path, *LOCAL, *options)
        assert other.code == 0, other.stderr
        for name in BYTES:
            assert (plain.folder / name).read_bytes() == (other.folder / name).read_bytes(), name

    def test_neurodata_cfg_gives_what_the_command_line_leaves_out(self, small_boss: BossServer, tmp_path: Path) -> None:
        config = tmp_path / "neurodata.cfg"
        config.write_text(
            f"[Default]\ntoken = {small_boss.token}\nhost = {small_boss.url}\n"
            "[shared]\ncollection = small\nexperiment = plain\n"
            "[Parallel]\nx_range = 0,50\ny_range = 0,40\nz_range = 0,6\n"
        )
        arguments = ["--config", str(config), "--x-range", "0,70", *LOCAL]
        run = drive(small_boss, tmp_path / "results", *arguments, token="")
        assert run.code == 0, run.stderr
        assert run.mask().shape == (6, 40, 70)

    def test_a_job_whose_blocks_failed_ends_with_3_and_names_them(self, small_boss: BossServer, tmp_path: Path) -> None:
        class Broken(Fragile):
            def detect(self, arrays: Any, finding: Any, place: Any) -> Any:
                if place.shape[0] == 4:
                    raise ValueError("too thick")
                return Fragile.detect(self, arrays, finding, place)

        job = Job(
            host=small_boss.url,
            token=Token(small_boss.token),
            collection="small",
            experiment="plain",
            box=SMALL,
            pipeline=Broken(broken=False),
            block_size=(4, 60, 70),
            path=tmp_path,
            push=False,
        )
        folder = ResultFolder(tmp_path, job.results_key)
        outcome = steps.run(job, folder, lambda *_: None)
        assert [error.exit_code for error in outcome.errors] == [3]
        assert "1 of 2 blocks failed, the first at z 0:4 y 0:60 x 0:70: ValueError: too thick" in str(outcome.errors[0])
        (failed,) = json.loads((folder.root / "run.json").read_text())["failed_blocks"]
        assert failed["box"] == "z 0:4 y 0:60 x 0:70"
        assert "too thick" in failed["traceback"]
        with tifffile.TiffFile(folder.root / f"{PREDICTIONS}.ome.tiff") as tiff:
            assert "Not computed, and 0 here, because blocks failed: z 0:4" in str(tiff.ome_metadata)
        assert "Failed block, 0 in the masks, at z 0:4" in next(folder.root.glob("*.html")).read_text()
        assert folder.work.exists()


class TestFolder:
    """What may lie in a result folder, and who may work in it."""

    def test_the_folder_of_another_experiment_with_the_same_key_stays(
        self, small_boss: BossServer, tmp_path: Path
    ) -> None:
        options = [*LOCAL, "--quiet"]
        first = drive(small_boss, tmp_path, *where(small_boss, "a_b", "c", SMALL), *options)
        assert first.code == 0, first.stderr
        before = files_of(first.folder)
        for more in ([], ["--fresh"]):
            second = drive(small_boss, tmp_path, *where(small_boss, "a", "b_c", SMALL), *options, *more)
            assert second.code == 2
            assert "it has those of a_b/c, whose results key is the same" in second.stderr
        assert before == files_of(first.folder)

    def test_a_file_of_the_users_is_refused_before_the_work_and_stays(
        self, small_boss: BossServer, folder: Path
    ) -> None:
        (folder / "notes.txt").write_text("mine")
        before = files_of(folder)
        for more in ([], ["--fresh"]):
            again = drive_small(small_boss, folder.parent, *LOCAL, "--quiet", *more)
            assert again.code == 2
            assert "it has files that no run left there: notes.txt. Move them elsewhere" in again.stderr
        assert files_of(folder) == before
        (folder / "notes.txt").unlink()
        assert drive_small(small_boss, folder.parent, *LOCAL).code == 0
        assert not (folder / "NDVIS_links.csv").exists()

    def test_an_invalid_shared_store_is_refused_before_boss_is_asked_and_results_are_removed(
        self, folder: Path
    ) -> None:
        before = {name: (folder / name).read_bytes() for name in (*BYTES, "run.json")}
        nowhere = BossServer("http://127.0.0.1:9", "a-token-of-nobody", folder, None)  # type: ignore[arg-type] # it has no process
        parts = ["--shared", "s3://no-prefix", "--phase", "report", "--block-size", "6,60,70"]
        run = drive_small(nowhere, folder.parent, *LOCAL, *parts)
        assert run.code == 2
        assert "--shared s3://no-prefix: it is not of the form s3://bucket/prefix" in run.stderr
        assert {name: (folder / name).read_bytes() for name in before} == before

    @pytest.mark.slow
    def test_fresh_of_the_function_starts_over_as_that_of_the_command_does(
        self, small_boss: BossServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def call(**more: Any) -> dict[str, int]:
            z, y, x = SMALL.ranges
            options: dict[str, Any] = {"path": tmp_path, "push": False, "plots": False, **more}
            driver.driver(small_boss.url, small_boss.token, "small", "plain", z, y, x, **options)
            (written,) = tmp_path.glob("*/run.json")
            return dict(json.loads(written.read_text())["resumed_blocks"])

        with monkeypatch.context() as patch:
            patch.setattr(steps, "_clear", lambda folder: None)
            call()
            assert call()["statistics"] > 0
        assert call(fresh=True) == {}


class TestImported:
    """The historical functions, imported."""

    def test_driver_returns_info_mask_and_links(self, small_boss: BossServer, tmp_path: Path) -> None:
        info, results, links = driver.driver(
            small_boss.url, small_boss.token, "small", "plain", (0, 6), (0, 60), (0, 70), str(tmp_path), plots=False
        )
        assert isinstance(results, np.ndarray)
        assert results.shape == (6, 60, 70)
        assert results.dtype == np.uint8
        assert info["results_key"] == "nomads-unsupervised_small_plain_z_0_6_y_0_60_x_0_70"
        assert links["All"].endswith(f"/{info['results_key']}_All/")
        assert small_boss.token not in repr((info, links))

    def test_get_data_returns_every_channel_and_the_voxel_size(self, small_boss: BossServer) -> None:
        data_dict, voxel_size = driver.get_data(
            small_boss.url, small_boss.token, "small", "twice", (1, 6), (0, 60), (3, 70)
        )
        assert {name: array.shape for name, array in data_dict.items()} == dict.fromkeys(
            ["PSD95", "SYNAPSIN_a", "SYNAPSIN_b"], (5, 60, 67)
        )
        assert voxel_size == VOXEL_SIZE_NM


@pytest.mark.parametrize("cache", [None, "0.00001"])
def test_dry_run_prints_what_is_needed_and_touches_nothing(
    small_boss: BossServer,
    tmp_path: Path,
    cache: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BOSS_TOKEN", small_boss.token)
    options = ["--path", str(tmp_path / "r"), "--dry-run", "--block-size", "3,30,35"]
    options += ["--cache", cache] if cache else []
    assert driver.main([*where(small_boss, "small", "plain", SMALL), *options]) == 0
    printed = dict(line.split(None, 1) for line in capsys.readouterr().out.replace("to pull", "to-pull").splitlines())
    assert printed["blocks"].startswith("8 of at most 3 x 30 x 35")
    assert printed["box"].endswith("25,200 voxels")
    assert ("for --cache holds less" in printed["to-pull"]) == (cache is not None)
    assert printed.keys() >= {"to-pull", "memory", "disk", "time", "channels", "results"}
    assert list(tmp_path.iterdir()) == []
