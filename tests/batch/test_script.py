"""The script for a cluster, run by a stand-in for sbatch, and in a real Slurm to the bytes of one job."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from batch.phases import ARRAYS, PHASES, phases_of
from nd_synapse.geometry import Box
from tests.conftest import REPOSITORY
from tests.driver.runs import where
from tests.fixtures_boss import BossServer, fill, spots
from tests.slurm import Slurm, missing, start_slurm
from tests.test_parts import results
from tests.volumes_on_disk import write

SHAPE = (12, 96, 96)
PROGRAM = f"{sys.executable} -m nd_synapse"

SBATCH = """#!/bin/bash
printf '%s\\0' "$@" >> sbatch.txt
printf '\\n' >> sbatch.txt
body=$(cat)
for index in 0 6; do SLURM_ARRAY_TASK_ID=$index bash -c "$body" >> jobs.txt || exit; done
echo $((10 + $(wc -l < sbatch.txt)))
"""
"""Notes its options, and runs two jobs of each array at once."""

SHOW = """#!/bin/bash
printf '%s\\0' "$@"
echo
"""


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a volume whose name needs quotes everywhere."""
    path = tmp_path_factory.mktemp("volumes") / "it's $(one) volume"
    write("zarr2.zarr", path, spots(SHAPE, 12))
    return path


def job_ids(printed: str) -> dict[str, str]:
    """Return the jobs of the phases that a script submitted."""
    return dict(phase.split() for phase in printed.split(","))


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "ND_SYNAPSE": PROGRAM, **more}


def script(
    volume: Path | Sequence[str], folder: Path, *words: str, environ: Mapping[str, str] | None = None, code: int = 0
) -> str:
    """Print a script, and write it to a file; return its text, or the error."""
    reads = ["--source", str(volume)] if isinstance(volume, Path) else volume
    line = [*PROGRAM.split(), "batch", "script", "--scheduler", "slurm", *reads, *words]
    done = subprocess.run(line, cwd=folder, env=environ or environment(), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    (folder / "submit").write_text(done.stdout)
    return done.stderr if code else done.stdout


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_each_job_gets_the_options_of_the_user_and_what_the_plan_says(volume: Path, tmp_path: Path) -> None:
    script(
        volume, tmp_path, "--shards", "7", "--shared", "a 'shared' $x", "--path", "my results", "--block-size=4,32,32"
    )
    executable(tmp_path / "bin" / "sbatch", SBATCH)
    show = executable(tmp_path / "show", SHOW)
    done = subprocess.run(
        ["bash", "submit"],
        cwd=tmp_path,
        env=environment(PATH=f"{tmp_path}/bin:{os.environ['PATH']}", ND_SYNAPSE=str(show)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (
        0,
        "statistics 11, detection 12, contacts 13, join 14, objects 15, report 16\n",
    ), done.stderr
    submitted = [line.split("\0")[:-1] for line in (tmp_path / "sbatch.txt").read_text().splitlines()]
    arrays = [[option for option in options if option.startswith("--array")] for options in submitted]
    assert arrays == [["--array=0-6"], ["--array=0-6"], ["--array=0-6"], [], ["--array=0-6"], []]
    after = [[option for option in options if option.startswith("--dependency")] for options in submitted]
    assert after == [[], *([f"--dependency=afterok:{job}"] for job in range(11, 16))]
    assert all({"--parsable", "--kill-on-invalid-dep=yes", "--requeue"} <= set(options) for options in submitted)
    jobs = [line.split("\0")[:-1] for line in (tmp_path / "jobs.txt").read_text().splitlines()]
    shared = ["--block-size", "4,32,32", "--shared", f"{tmp_path}/a 'shared' $x", "--phase"]
    parts = [(phase, index) for phase in PHASES for index in (0, 6)]
    for job, (phase, index) in zip(jobs[:10], parts, strict=False):
        assert job[:3] == ["run", "--source", str(volume)]
        part = ["--shards", "7", *(["--shard", str(index)] if phase in ARRAYS else [])]
        assert job[job.index("--block-size") : -2] == [*shared, phase, *part]
        # a folder of its own, which is gone
        assert job[-2] == "--path"
        assert not Path(job[-1]).exists()
    assert (
        jobs[10]
        == jobs[11]
        == [*jobs[10][: jobs[10].index("--block-size")], *shared, "report", "--path", f"{tmp_path}/my results"]
    )


def test_relative_paths_hold_wherever_the_script_is_run(volume: Path, tmp_path: Path) -> None:
    """Jobs begin in the folder of sbatch: where the script was printed, --source was found."""
    script(["--source", os.path.relpath(volume, tmp_path)], tmp_path, "--shared", "shared", "--path", "results")
    executable(tmp_path / "bin" / "sbatch", '#!/bin/bash\npwd >> "$FOLDERS"\n')
    (tmp_path / "elsewhere").mkdir()
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    environ = environment(PATH=path, FOLDERS=str(tmp_path / "folders.txt"))
    subprocess.run(["bash", "../submit"], cwd=tmp_path / "elsewhere", env=environ, check=True)
    assert set((tmp_path / "folders.txt").read_text().splitlines()) == {str(tmp_path)}


@pytest.mark.parametrize(
    ("words", "found"),
    [(["--token", "a" * 40], "use BOSS_TOKEN"), (["--fresh"], "--fresh"), (["--dry-run"], "batch plan")],
)
def test_what_no_script_may_have_is_refused(volume: Path, tmp_path: Path, words: list[str], found: str) -> None:
    assert found in script(volume, tmp_path, "--shared", "shared", *words, code=2)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if names := missing():
        pytest.skip(f"{', '.join(names)} not installed: make slurm, on Debian")
    with start_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.mark.slow
def test_a_run_in_slurm_ends_with_the_bytes_of_one_job_though_its_jobs_are_killed(
    slurm: Slurm, volume: Path, tmp_path: Path
) -> None:
    options = ["--block-size", "4,32,32", "--cpus", "1"]
    line = [*PROGRAM.split(), "run", "--source", str(volume), "--path", str(tmp_path / "single"), *options]
    subprocess.run(line, env=environment(), check=True, stderr=subprocess.DEVNULL)
    script(volume, tmp_path, *options, "--shards", "7", "--shared", "shared")
    said = slurm.run("bash", "submit", environment=environment(), cwd=tmp_path)
    jobs = job_ids(said)
    kills = random.Random(7)
    assert tuple(jobs) == phases_of(7, pushes=False)
    arrays = [job_id for phase, job_id in jobs.items() if phase in ARRAYS]
    killed = [f"{job_id}_{kills.randrange(7)}" for job_id in arrays]
    for child in killed:
        # ended by SIGKILL while it runs, and begun again by Slurm
        while "JobState=RUNNING" not in slurm.run("scontrol", "show", "job", child):
            slurm.note_memory()
            time.sleep(0.1)
        time.sleep(kills.uniform(0, 1.5))
        slurm.run("scontrol", "requeue", child)
    slurm.await_end(480)
    assert results(tmp_path / "results") == results(tmp_path / "single")
    for child in killed:
        assert " Restarts=1 " in slurm.run("scontrol", "show", "job", child)
    ended = [job for job in slurm.accounting() if job["JobState"] == "COMPLETED"]
    for job_id in arrays:
        children = [job for job in ended if job.get("ArrayJobId") == job_id]
        assert sorted(job["ArrayTaskId"] for job in children) == [str(index) for index in range(7)]
    last = [job for job in ended if job["JobId"] == jobs["report"]]
    assert len(last) == 1
    assert last[0]["StartTime"] >= max(job["EndTime"] for job in ended if job is not last[0])
    print(f"\n{slurm.table(jobs)}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_in_slurm_pushes_and_proves_its_masks_by_parts(
    slurm: Slurm, boss_server: BossServer, tmp_path: Path
) -> None:
    """From BOSS into BOSS."""
    fill(boss_server.data, "slurm", "spots", spots((40, 1100, 96), 12))
    # requests to BOSS end at multiples of 32 sections and 1024 lines: there are four
    box = Box((26, 38), (976, 1072), (0, 96))
    token = environment(BOSS_TOKEN=boss_server.token)
    options = ["--block-size", "4,32,32", "--cpus", "1", "--shards", "3", "--shared", "shared"]
    script(where(boss_server, "slurm", "spots", box), tmp_path, *options, environ=token)
    jobs = job_ids(slurm.run("bash", "submit", environment=token, cwd=tmp_path))
    slurm.await_end(480)
    assert tuple(jobs) == phases_of(3, pushes=True)
    print(f"\n{slurm.table(jobs)}")
    manifest = next((tmp_path / "results").glob("*/run.json"))
    assert json.loads(manifest.read_text())["in_boss"]["All"].endswith("read back and equal; parts that did it: 3")
    verify = [*PROGRAM.split(), "verify", str(manifest.parent)]
    verified = subprocess.run(verify, env=token, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.slow
def test_a_phase_that_fails_ends_the_run(slurm: Slurm, volume: Path, tmp_path: Path) -> None:
    script(volume, tmp_path, "--block-size", "4,32,32", "--shards", "2", "--shared", "shared")
    slurm.run("bash", "submit", environment=environment(ND_SYNAPSE="false"), cwd=tmp_path)
    slurm.await_end(60)
    assert not list((tmp_path / "results").glob("*/run.json"))
