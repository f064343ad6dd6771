"""The image on AWS Batch: the real AWS command line, and moto, whose Batch runs real containers of the image.

moto hands no secret, no array index and no limit to a container, and does not retry: what depends on them is tested
with ``docker run``, and the rules of retrying in `tests/batch`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from batch.phases import ARRAYS
from batch.requests import request_of
from nd_synapse.geometry import Box
from nd_synapse.job.out import NOTE
from tests.batch.examples import a_run as run_of_batch
from tests.conftest import REPOSITORY
from tests.driver.runs import Run, drive
from tests.fixtures_boss import BossServer, blobs
from tests.fixtures_s3 import S3Server, start_s3
from tests.image.conftest import (
    HARDENED,
    HOST,
    LIMIT_S,
    SHAPE,
    demand_image,
    docker,
    ended,
    requested,
    with_s3,
    with_token,
)
from tests.image.test_run import OUT, SAME
from tests.in_process import main, restored
from tests.markdown import fenced, section
from tests.served_volumes import put
from tests.test_parts import phases
from tests.volumes_on_disk import write

demand_image()

SHARDS = 3
BUCKET = "batch-results"
DONE = ("statistics", "detect", "objects")
"""Passes that the children of arrays do for the report."""
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Aws:
    """The AWS command line, spoken to as a user does."""

    server: S3Server

    def run(self, *words: str) -> Any:
        """Run a command; return what it answers."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("aws")), *words, "--output", "json"],
            env={**os.environ, **KEYS, "AWS_ENDPOINT_URL": self.server.url},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def ended(self, job: str) -> dict[str, Any]:
        """Wait for the end of a job; return its description."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            (found,) = self.run("batch", "describe-jobs", "--jobs", job)["jobs"]
            if found["status"] in ("SUCCEEDED", "FAILED"):
                return dict(found)
            assert time.monotonic() < deadline, found
            time.sleep(0.5)

    def log_of(self, job: dict[str, Any]) -> str:
        """Return what a job wrote."""
        stream = job["container"]["logStreamName"]
        words = ("logs", "get-log-events", "--log-group-name", "/aws/batch/job", "--log-stream-name", stream)
        return "\n".join(event["message"] for event in self.run(*words)["events"])


@pytest.fixture(scope="module")
def aws(image: str) -> Iterator[Aws]:
    """Start a moto whose Batch has a queue, and our job definition on this image."""
    with start_s3(MOTO_DOCKER_NETWORK_MODE="host") as server:
        aws = Aws(server)
        aws.run("s3api", "create-bucket", "--bucket", BUCKET)
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        aws.run("iam", "create-role", "--role-name", "batch", "--assume-role-policy-document", trust)
        resources = {"type": "EC2", "minvCpus": 0, "maxvCpus": 4, "instanceTypes": ["m5"]}
        network = aws.run("ec2", "describe-subnets")["Subnets"][0]["SubnetId"]
        group = aws.run("ec2", "describe-security-groups")["SecurityGroups"][0]["GroupId"]
        aws.run("iam", "create-instance-profile", "--instance-profile-name", "instances")
        profile = aws.run("iam", "get-instance-profile", "--instance-profile-name", "instances")["InstanceProfile"]
        resources |= {"subnets": [network], "securityGroupIds": [group], "instanceRole": profile["Arn"]}
        role = aws.run("iam", "get-role", "--role-name", "batch")["Role"]["Arn"]
        environment = ("--compute-environment-name", "machines", "--type", "MANAGED", "--service-role", role)
        aws.run("batch", "create-compute-environment", *environment, "--compute-resources", json.dumps(resources))
        order = json.dumps([{"order": 1, "computeEnvironment": "machines"}])
        queue = ["--job-queue-name", "nd-synapse-ec2", "--state", "ENABLED", "--priority", "1"]
        aws.run("batch", "create-job-queue", *queue, "--compute-environment-order", order)
        aws.run("batch", "register-job-definition", "--cli-input-json", json.dumps(definition(image, server)))
        yield aws


def definition(image: str, server: S3Server) -> dict[str, Any]:
    """Fill in our job definition, for moto without volumes: it wants a path of the host for each."""
    written = json.loads((REPOSITORY / "batch" / "job_definition.json").read_text(encoding="utf-8"))
    container = written["containerProperties"]
    del container["volumes"], container["mountPoints"]
    container["image"] = image
    variables = {**KEYS, "AWS_ENDPOINT_URL": server.url, "RESULTS_BUCKET": BUCKET}
    container["environment"] = [{"name": name, "value": value} for name, value in variables.items()]
    return {**written, "jobDefinitionName": "nd-synapse-ec2"}


def of_documents(server: BossServer, *more: str) -> list[str]:
    """Return the words of the documented submission, with a BOSS and a volume in the place of names."""
    (block,) = (text for text in fenced(section(REPOSITORY / "docs" / "batch.md", "One job")) if "submit-job" in text)
    words = shlex.split(block.replace("\\\n", " "))
    overrides = json.loads(words[-1])
    command = overrides["command"]
    given = requested(server)
    for option in ("--host", "--col", "--exp"):
        command[command.index(option) + 1] = given[given.index(option) + 1]
    # moto hands over no secrets; on AWS the job definition does
    overrides |= {"command": [*command, *more], "environment": [{"name": "BOSS_TOKEN", "value": server.token}]}
    return [*words[1:-1], json.dumps(overrides)]


@pytest.fixture(scope="module")
def local(sample_boss: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What the same job gives without a container and without Batch."""
    run = drive(sample_boss, tmp_path_factory.mktemp("local"), *requested(sample_boss), "--no-push", "--no-plots")
    assert run.code == 0, run.stderr
    return run


def mask_in_boss(server: BossServer, key: str) -> NDArray[np.uint8]:
    remote = server.remote()
    z, y, x = ([0, stop] for stop in SHAPE)
    return np.asarray(remote.get_cutout(remote.get_channel(f"{key}_All", *OUT), 0, x, y, z, parallel=False))


def test_a_job_submitted_as_the_readme_says_succeeds_with_the_results_of_a_local_run(
    aws: Aws, sample_boss: BossServer, local: Run
) -> None:
    submitted = aws.run(*of_documents(sample_boss))
    job = aws.ended(submitted["jobId"])
    assert job["status"] == "SUCCEEDED", aws.log_of(job)
    client, key = aws.server.client(), local.folder.name
    for name in SAME:
        body = client.get_object(Bucket=BUCKET, Key=f"{key}/{name}")["Body"].read()
        assert body == (local.folder / name).read_bytes(), name
    assert f"{key}/run.json" in aws.server.keys(BUCKET)
    assert any(re.search(r"/PyMeda_.*\.html$", name) for name in aws.server.keys(BUCKET))
    assert np.array_equal(mask_in_boss(sample_boss, key), tifffile.imread(local.folder / SAME[1]))
    assert sample_boss.token not in aws.log_of(job)
    for name in aws.server.keys(BUCKET):
        assert sample_boss.token.encode() not in client.get_object(Bucket=BUCKET, Key=name)["Body"].read(), name


def test_a_job_that_fails_says_why_in_its_log(aws: Aws, sample_boss: BossServer) -> None:
    submitted = aws.run(*of_documents(sample_boss, "--exp", "no-such-experiment"))
    job = aws.ended(submitted["jobId"])
    assert job["status"] == "FAILED"
    log = aws.log_of(job)
    assert "no-such-experiment" in log
    assert log.count(" ERROR ") == 1
    assert "Traceback" not in log


def test_an_array_of_containers_ends_with_the_bytes_of_a_local_run(
    aws: Aws, image: str, sample_boss: BossServer, local: Run, tmp_path: Path
) -> None:
    """Each container is a machine of its own: nothing but S3 is common to them. Root read-only, no capabilities."""
    options = (*HARDENED, *HOST, *with_token(sample_boss), *with_s3(aws.server))
    blocks = ("--block-size", "4,256,512", "--cpus", "1", "--no-push", "--no-plots", "--no-upload")
    shared = ("--shared", f"s3://{BUCKET}/runs/test", "--shards", str(SHARDS))
    words = ["python3", "driver.py", *requested(sample_boss, *blocks)]
    for phase, index in phases(SHARDS):
        child = (*options, "--env", f"AWS_BATCH_JOB_ARRAY_INDEX={index}")
        done = ended(image, *words, *shared, "--phase", phase, options=child)
        assert done.code == 0, done.log
        assert f"part {index} of {SHARDS} is done, 0 of its blocks failed" in done.log
    name = f"nd-synapse-report-{os.getpid()}"
    try:
        docker("run", "--name", name, *options, image, *words, *shared[:2], "--phase", "report")
        docker("cp", f"{name}:/app/results/.", str(tmp_path))
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, timeout=LIMIT_S)
    (folder,) = (entry for entry in tmp_path.iterdir() if entry.is_dir())
    for file in SAME:
        assert (folder / file).read_bytes() == (local.folder / file).read_bytes(), file
    record = json.loads((folder / "run.json").read_text())
    assert {record["resumed_blocks"][name] for name in DONE} == {record["counts"]["blocks"]}


def test_parts_from_a_zarr_in_s3_to_s3_end_with_the_bytes_of_a_local_run(aws: Aws, tmp_path: Path) -> None:
    """There is no BOSS and no token; what a child of an array gets from Batch, and not from moto, is its number."""
    write("ome05.zarr", tmp_path / "volume.zarr", blobs((8, 96, 128), 5, 120))
    put(aws.server, tmp_path / "volume.zarr", "lab")
    source, out = "s3://lab/lab/volume.zarr", "s3://lab/found"
    given = run_of_batch(
        options=("--source", source, "--out", out, "--no-plots"),
        box=Box((0, 8), (0, 96), (0, 128)),
        block_size=(4, 48, 64),
        blocks=8,
        shards=SHARDS,
        queue="nd-synapse-ec2",
        job_definition="nd-synapse-ec2",
        bucket=BUCKET,
        prefix="runs/from-s3",
    )
    for phase in given.phases:
        request = request_of(given, phase)
        request.pop("arrayProperties", None)
        for index in range(given.children(phase)):
            number = {"name": "AWS_BATCH_JOB_ARRAY_INDEX", "value": str(index)}
            request["containerOverrides"]["environment"] = [number] if phase in ARRAYS else []
            job = aws.ended(aws.run("batch", "submit-job", "--cli-input-json", json.dumps(request))["jobId"])
            assert job["status"] == "SUCCEEDED", aws.log_of(job)
    words = (
        "--source",
        str(tmp_path / "volume.zarr"),
        "--path",
        str(tmp_path / "local"),
        "--out",
        str(tmp_path / "found"),
    )
    with restored():
        assert main("nd-synapse", "run", *words, "--no-plots", "--cpus", "1") == 0
    (folder,) = (tmp_path / "local").iterdir()
    client, key = aws.server.client(), folder.name
    written = {name.removeprefix("found/") for name in aws.server.keys("lab") if name.startswith("found/")}
    expected = {str(file.relative_to(tmp_path / "found")) for file in (tmp_path / "found").rglob("*") if file.is_file()}
    assert written == expected
    for name in sorted(written - {NOTE}):
        body = client.get_object(Bucket="lab", Key=f"found/{name}")["Body"].read()
        assert body == (tmp_path / "found" / name).read_bytes(), name
    for name in SAME:
        body = client.get_object(Bucket=BUCKET, Key=f"{key}/{name}")["Body"].read()
        assert body == (folder / name).read_bytes(), name
    record = json.loads(client.get_object(Bucket=BUCKET, Key=f"{key}/run.json")["Body"].read())
    assert {record["resumed_blocks"][name] for name in DONE} == {8}
