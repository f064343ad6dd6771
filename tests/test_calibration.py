"""A run measures how fast it is, and the plan of another takes that in place of assumptions."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch.planning import Wishes, planned
from benchmarks.imagined import TERAVOXEL, plan_over
from nd_synapse.blocks.shared_store import Part
from nd_synapse.detection.budget import needs_of
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.parts import detect_part
from nd_synapse.detection.speeds import ASSUMED, Measured, Speeds
from nd_synapse.errors import NDSynapseError
from nd_synapse.files.shared_folder import SharedFolder
from nd_synapse.job.calibration import read_speeds
from tests.conftest import REPOSITORY
from tests.detection.arrays import noisy, plan
from tests.detection.in_process import InProcessPool
from tests.fixtures_boss import spots
from tests.in_process import main
from tests.volumes_on_disk import write

SHAPE = (4, 15, 20)
SIZE = (2, 6, 7)
VOXELS = 4 * 15 * 20


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)


@pytest.mark.usefixtures("_in_process")
def test_a_run_measures_what_it_does_and_a_resumed_one_only_the_rest(tmp_path: Path) -> None:
    source = noisy(SHAPE, np.uint16, 3)
    first, again = (detect(plan(source, tmp_path, SIZE), 2).measured for _ in range(2))
    for name in ("statistics", "detect", "masks"):
        voxels, seconds = first.passes[name]
        assert (voxels, seconds > 0) == (VOXELS, True)
    assert first.pulled[0] == first.reading[0] == VOXELS * 2 * len(source.data)
    assert first.worker_voxels_s is not None
    # the sample of the figure of chance is no part of the volume
    assert "chance" not in first.passes
    assert "detect" not in again.passes
    assert (again.pulled[0], again.worker_voxels_s, again.cutout_bytes_s) == (0, None, None)


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_the_job_that_ends_a_run_knows_how_fast_its_parts_were(tmp_path: Path) -> None:
    store = SharedFolder(str(tmp_path / "shared"))
    source = noisy(SHAPE, np.uint8, 3)
    for phase in ("statistics", "detection"):
        for index in (0, 1, 1):
            with tempfile.TemporaryDirectory() as folder:
                detect_part(plan(source, Path(folder), SIZE), Part(phase, index, 2), store, 1)
    assert store.names("speeds") == {
        f"{phase}-{index}-of-2.note" for phase in ("statistics", "detection") for index in (0, 1)
    }
    with tempfile.TemporaryDirectory() as folder:
        measured = detect(plan(source, Path(folder), SIZE), 2, shared_store=store).measured
    assert measured.passes["statistics"][0] == measured.passes["detect"][0] == VOXELS
    assert measured.worker_voxels_s is not None


def test_the_time_of_all_passes_adds_up_though_they_did_different_numbers_of_blocks() -> None:
    measured = Measured({"statistics": (100, 2.0), "detect": (50, 3.0), "masks": (100, 1.0)}, (600, 3.0), (600, 1.5))
    # 0.02 s a voxel, then 0.06, then 0.01
    assert measured.worker_voxels_s == pytest.approx(1 / 0.09)
    assert measured.speeds("a run").cutout_bytes_s == (200, 200)
    assert Measured.of_json(json.loads(json.dumps(measured.as_json()))) == measured
    assert Measured({"detect": (50, 3.0)}).worker_voxels_s is None
    assert Measured({"statistics": (0, 0.0), "detect": (50, 3.0)}).speeds("x") == replace(ASSUMED, run="x")
    # a disk that brings more than BOSS is assumed to
    assert Measured(pulled=(10**9, 4.0), reading=(10**9, 2.0)).speeds("x").most_bytes_s == 5e8


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return a volume in files, and the folder of a run on it that ended."""
    path = tmp_path_factory.mktemp("calibration")
    write("zarr2.zarr", path / "volume", spots((8, 64, 64), 3))
    line = ("--source", str(path / "volume"), "--path", str(path / "results"), "--no-plots", "--cpus", "1", "--quiet")
    assert main("nd-synapse", "run", *line) == 0
    return str(path / "volume"), next((path / "results").glob("*/run.json")).parent


def test_a_dry_run_takes_the_speeds_of_a_run(ended: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    volume, folder = ended
    speeds = read_speeds(folder)
    assert speeds == read_speeds(folder / "run.json")
    recorded = json.loads((folder / "run.json").read_text())["speeds"]
    assert speeds.worker_voxels_s[0] == pytest.approx(recorded["worker_voxels_s"], rel=1e-3, abs=1)
    assert main("nd-synapse", "run", "--source", volume, "--dry-run", "--calibrate", str(folder)) == 0
    said = capsys.readouterr().out
    assert f"million voxels/s a worker, as measured in {folder}/run.json" in said
    assert "5 to 20 million" not in said


def test_a_calibration_without_a_plan_is_refused(ended: tuple[str, Path]) -> None:
    assert main("nd-synapse", "run", "--source", ended[0], "--calibrate", str(ended[1])) == 2


def changed(content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**content, "speeds": {**content["speeds"], **fields}}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: {}, id="of an earlier version"),
        pytest.param(lambda content: changed(content, passes={}), id="resumed"),
        pytest.param(lambda content: changed(content, pulled={"bytes": -1, "seconds": 1}), id="negative"),
        pytest.param(lambda content: changed(content, pulled={"bytes": 1, "seconds": float("nan")}), id="no number"),
        pytest.param(lambda content: [content], id="a list"),
    ],
)
def test_a_run_that_measured_nothing_is_refused(ended: tuple[str, Path], tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(damage(json.loads((ended[1] / "run.json").read_text()))))
    with pytest.raises(NDSynapseError, match=r"run\.json"):
        read_speeds(tmp_path)


def test_a_plan_for_batch_computes_with_the_speeds_of_a_run() -> None:
    assumed = planned(plan_over(TERAVOXEL), Wishes(shards=1000))
    slower = Speeds((1e6, 1e6), (1e6, 1e6), run="a run")
    calibrated = planned(plan_over(TERAVOXEL), Wishes(shards=1000, speeds=slower))
    assert "as measured in a run" in calibrated.as_text()
    assert "5 to 20 million" in assumed.as_text()
    # the other phases read what was found, which has speeds of its own
    both = zip(calibrated.phases, assumed.phases, strict=True)
    slowed = {one.name for one, other in both if one.work_s[0] > 1.8 * other.work_s[0]}
    assert {"statistics", "detection"} <= slowed
    assert calibrated.cost.on_demand[0] > 1.3 * assumed.cost.on_demand[0]
    json.dumps(calibrated.as_json())
    needs = needs_of(plan_over(TERAVOXEL), 2, 8)
    assert replace(needs, speeds=ASSUMED).seconds(2, 8) == needs.seconds(2, 8)


def test_a_run_on_files_imports_nothing_of_boss_and_s3(ended: tuple[str, Path], tmp_path: Path) -> None:
    """They take a fifth of a second, as long as the work on a small box."""
    program = (
        "import sys; from tests.in_process import main; code = main('nd-synapse', *sys.argv[1:]); "
        "print(code, *({'intern', 'boto3', 'requests', 'matplotlib'} & set(sys.modules)))"
    )
    words = ["run", "--source", ended[0], "--path", str(tmp_path), "--no-plots", "--quiet", "--no-upload"]
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
