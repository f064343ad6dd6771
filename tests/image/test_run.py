"""The job in a container: as a user and as AWS Batch start it, under limits, stopped and started again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.driver.runs import PREDICTIONS, Run, drive
from tests.fixtures_boss import BossServer, start_boss
from tests.fixtures_s3 import S3Server
from tests.image.conftest import (
    HARDENED,
    HOST,
    LIMIT_S,
    SHAPE,
    Container,
    demand_image,
    docker,
    ended,
    requested,
    started,
    with_s3,
    with_token,
)

demand_image()

OUT = ("collman_nomads", "nomads_predictions")
SAME = (f"{PREDICTIONS}.pkl", f"{PREDICTIONS}.ome.tiff", "synapses.csv")
"""Files that are the same, byte for byte, wherever and however often a job ran."""

START_LIMIT_S = 20.0

STOP_LIMIT_S = 30
"""What Batch and ``docker stop`` give a job to end."""

BLOCKS = ("--block-size", "4,512,512", "--cpus", "1")


def in_boss(server: BossServer, key: str) -> NDArray[np.uint8]:
    """Read the mask with the client that any user has."""
    remote = server.remote()
    z, y, x = ([0, stop] for stop in SHAPE)
    return np.asarray(remote.get_cutout(remote.get_channel(f"{key}_All", *OUT), 0, x, y, z, parallel=False))


def log_has(container: Container, words: str) -> None:
    """Wait until a container has logged something."""
    deadline = time.monotonic() + LIMIT_S
    while words not in container.log:
        assert time.monotonic() < deadline, container.log
        assert container.description["State"]["Running"], container.log
        time.sleep(0.1)


@pytest.fixture(scope="module")
def local(sample_boss: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What the same job gives without a container."""
    run = drive(sample_boss, tmp_path_factory.mktemp("local"), *requested(sample_boss), "--no-push", "--no-plots")
    assert run.code == 0, run.stderr
    return run


class TestJob:
    """The same results as without a container."""

    def test_boss_s3_and_the_results_are_those_of_a_local_run(
        self, image: str, sample_boss: BossServer, s3_env: S3Server, local: Run, tmp_path: Path
    ) -> None:
        """With the words of Batch, a read-only root, no capabilities, and all of a job: plots, push, upload."""
        options = (*HARDENED, *HOST, *with_token(sample_boss), *with_s3(s3_env), "--memory", "1g")
        words = ["python3", "driver.py", *requested(sample_boss, "--bucket", "results")]
        with started(image, *words, options=options) as container:
            assert container.wait() == 0, container.log
            folder = container.results(tmp_path)
        for name in SAME:
            assert (folder / name).read_bytes() == (local.folder / name).read_bytes(), name
        assert np.array_equal(in_boss(sample_boss, folder.name), tifffile.imread(folder / SAME[1]))
        files = [file for file in folder.rglob("*") if file.is_file()]
        assert set(s3_env.keys("results")) == {f"{folder.name}/{file.relative_to(folder)}" for file in files}
        for file in files:
            key = f"{folder.name}/{file.relative_to(folder)}"
            assert s3_env.client().get_object(Bucket="results", Key=key)["Body"].read() == file.read_bytes(), key

    def test_options_alone_are_options_of_the_job(self, image: str, sample_boss: BossServer) -> None:
        done = ended(image, *requested(sample_boss, "--dry-run"), options=(*HARDENED, *HOST, *with_token(sample_boss)))
        assert done.code == 0, done.log
        assert "4,194,304 voxels" in done.log

    def test_a_user_of_any_number_can_run_it(self, image: str, sample_boss: BossServer) -> None:
        """One who mounts a folder is its owner, and not ours; and Fargate mounts no tmpfs over a read-only root."""
        options = ("--read-only", *HOST, *with_token(sample_boss), "--user", "12345:12345")
        done = ended(image, *requested(sample_boss, "--no-push", "--no-plots"), options=options)
        assert done.code == 0, done.log

    def test_the_demonstration_runs_in_one_container_without_a_network(self, image: str) -> None:
        done = ended(image, "demo", options=(*HARDENED, "--network", "none", "--memory", "1g"))
        assert done.code == 0, done.log
        assert re.search(r"^ok +BOSS .*: 0 voxels differ of", done.log, re.MULTILINE), done.log
        assert "Report: /app/results/demo/" in done.log

    def test_a_child_that_lost_its_parent_is_reaped(self, image: str) -> None:
        script = "(sleep 0.2 &); sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status; exit 0"
        assert ended(image, "sh", "-c", script, options=HARDENED).log == ""


WRONG = {
    "usage": (["--frobnicate"], 2),
    "constant-channel": (
        ["--col", "flat", "--exp", "flat", "--z-range", "0,4", "--y-range", "0,40", "--x-range", "0,40"],
        65,
    ),
    "unreachable-host": (["--host", "http://127.0.0.1:9"], 69),
    "wrong-token": (["--token", "0123456789abcdef0123456789abcdef01234567"], 77),
}


class TestExitCodes:
    """What Batch and scripts decide by."""

    @pytest.mark.parametrize(("more", "code"), WRONG.values(), ids=WRONG)
    def test_the_exit_code_of_the_job_is_that_of_the_container(
        self, image: str, sample_boss: BossServer, more: list[str], code: int
    ) -> None:
        options = (*HARDENED, *HOST, *with_token(sample_boss))
        done = ended(image, *requested(sample_boss, "--no-push", "--no-plots", *more), options=options)
        assert done.code == code, done.log
        assert done.log.count(" ERROR ") == 1, done.log
        assert "Traceback" not in done.log


GREEDY = """
import numpy as np

def greedy(data_dict):
    voxels = next(iter(data_dict.values()))
    # only of one of the two blocks
    hoard = np.ones(2**32 if len(voxels) == 10 else 1, np.uint8)
    return {"All": voxels > 100 * hoard[-1]}
"""


class TestMemory:
    """A limit is known before the work, and the error says what helps."""

    def test_blocks_that_cannot_fit_the_limit_are_refused_with_a_size_that_can(
        self, image: str, sample_boss: BossServer
    ) -> None:
        options = (*HARDENED, *HOST, *with_token(sample_boss), "--memory", "512m")
        # it keeps more of a block in memory than the default does
        words = requested(sample_boss, "--no-push", "--no-plots", "--cpus", "1", "--pipeline", "nomads-classifier")
        refused = ended(image, *words, "--block-size", "16,512,512", options=options)
        assert refused.code == 2, refused.log
        assert "there are 0.50 GiB" in refused.log
        size = refused.log.rpartition("Give --block-size ")[2].split()[0].rstrip(".")
        assert ended(image, *words, "--block-size", size, options=options).code == 0

    def test_a_worker_that_the_kernel_kills_is_reported_as_such(
        self, image: str, sample_boss: BossServer, tmp_path: Path
    ) -> None:
        """What a pipeline takes beyond its word ends its worker, not the job: no bare 137."""
        module = tmp_path / "greedy.py"
        module.write_text(GREEDY)
        mounted = ("--volume", f"{module}:/app/greedy.py:ro")
        options = (*HARDENED, *HOST, *with_token(sample_boss), *mounted, "--memory", "700m", "--memory-swap", "700m")
        words = requested(sample_boss, "--no-push", "--no-plots", "--pipeline", "greedy:greedy", "--cpus", "1")
        words += ["--block-size", "10,512,512"]
        with started(image, *words, options=options) as container:
            assert container.wait() == 3, container.log
            assert container.description["State"]["OOMKilled"]
            log = container.log
        advice = "SIGKILL, twice; most often because memory ran out: give a smaller --block-size or fewer --cpus"
        assert (
            f"1 of 2 blocks failed, the first at z 0:10 y 0:512 x 0:512: its worker process was ended by {advice}"
            in log
        )

    def test_a_job_that_the_kernel_kills_itself_is_reported_as_such(self, image: str, sample_boss: BossServer) -> None:
        """Not even the start fits into this limit."""
        options = (*HARDENED, *HOST, *with_token(sample_boss), "--memory", "24m", "--memory-swap", "24m")
        with started(image, *requested(sample_boss), options=options) as container:
            assert container.wait() == 137, container.log
            assert container.description["State"]["OOMKilled"]
            assert "a smaller --block-size" in container.log


@pytest.fixture
def slow_boss(sample_data: Path) -> Iterator[BossServer]:
    """Serve the sample so slowly that a job can be met in the middle."""
    with start_boss(sample_data, "--rate-mb-s", "1") as server:
        yield server


class TestStop:
    """SIGTERM, and then the same command again."""

    def test_a_job_that_is_stopped_in_the_middle_ends_in_time_and_goes_on_to_the_same_bytes(
        self, image: str, slow_boss: BossServer, sample_boss: BossServer, local: Run, volume: str, tmp_path: Path
    ) -> None:
        options = (*HARDENED, *HOST, *with_token(slow_boss), "--volume", f"{volume}:/app/results")
        words = ["--no-push", "--no-plots", "--verbose", *BLOCKS]
        with started(image, *requested(slow_boss, *words), options=options) as container:
            log_has(container, "statistics: block")
            before = time.monotonic()
            docker("stop", "--time", str(STOP_LIMIT_S), container.name)
            assert time.monotonic() - before < STOP_LIMIT_S
            assert container.description["State"]["ExitCode"] == 75, container.log
            assert "The same command goes on where it was" in container.log
        with started(image, *requested(slow_boss, *words), options=options) as container:
            assert container.wait() == 0, container.log
            folder = container.results(tmp_path)
        for name in SAME:
            assert (folder / name).read_bytes() == (local.folder / name).read_bytes(), name

    def test_ctrl_c_is_the_same_as_sigterm(self, image: str, slow_boss: BossServer) -> None:
        options = (*HARDENED, *HOST, *with_token(slow_boss))
        with started(image, *requested(slow_boss, "--no-push", "--no-plots", *BLOCKS), options=options) as container:
            log_has(container, "presynaptic")
            docker("kill", "--signal", "INT", container.name)
            assert container.wait() == 75, container.log
            assert container.log.count(" ERROR ") == 1


class TestToken:
    """Anyone who may look at a container does not see a token that came in a file."""

    def test_a_token_from_a_file_shows_nowhere(self, image: str, sample_boss: BossServer, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(sample_boss.token)
        file.chmod(0o444)
        options = (*HARDENED, *HOST, "--volume", f"{file}:/run/secrets/boss_token:ro")
        words = requested(sample_boss, "--no-push", "--verbose", "--token-file", "/run/secrets/boss_token")
        with started(image, *words, options=options) as container:
            assert container.wait() == 0, container.log
            folder = container.results(tmp_path / "results")
            shown = {
                "log": container.log,
                "description": json.dumps(container.description),
                "changes": docker("diff", container.name),
                "processes": subprocess.run(
                    ["docker", "ps", "--all", "--no-trunc"], capture_output=True, text=True, timeout=LIMIT_S
                ).stdout,
            }
        assert not [name for name, text in shown.items() if sample_boss.token in text]
        secret = sample_boss.token.encode()
        assert not [file for file in folder.rglob("*") if file.is_file() and secret in file.read_bytes()]


class TestColdStart:
    """From ``docker run`` to work."""

    def test_a_job_has_its_first_voxels_within_seconds(
        self, image: str, sample_boss: BossServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The limit is for machines that do something else as well; the figures are printed."""
        user = ("--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{tmp_path}:/app/results")
        options = (*HARDENED, *HOST, *with_token(sample_boss), *user)
        words = requested(sample_boss, "--no-push", "--no-plots", "--block-size", "4,128,128", "--pulls", "1")
        before = time.monotonic()
        seconds: dict[str, float] = {}
        with started(image, *words, options=options) as container:
            while len(seconds) < 2:
                passed = time.monotonic() - before
                assert passed < START_LIMIT_S, container.log
                if "log" not in seconds and " INFO " in container.log:
                    seconds["log"] = passed
                if any(file.is_file() for file in tmp_path.glob("*/.work/tiles-*/*")):
                    seconds.setdefault("voxels", passed)
                time.sleep(0.02)
        with capsys.disabled():
            print(f"\nfirst line of the log after {seconds['log']:.1f} s, first voxels after {seconds['voxels']:.1f} s")
