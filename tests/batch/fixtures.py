"""AWS Batch for tests: moto's, whose jobs end at once, and one that answers as a test wishes; and a small volume."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.fixtures_s3 import SETTINGS, S3Server

BUCKET = "a-bucket"
SECRET_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:boss-AbCdEf"
ROLE = "arn:aws:iam::123456789012:role/batch"


def _configure(server: S3Server, **batch: Any) -> None:
    """Tell moto how its Batch behaves."""
    body = json.dumps({"batch": batch}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(
        urllib.request.Request(f"{server.url}/moto-api/config", body, headers, method="POST"), timeout=10
    ).close()


@cache
def client(server: S3Server, service: str) -> Any:
    """Return a client of a service of moto's server; it takes a while to make one."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.session.Session(**keys).client(service, region_name="us-east-1", endpoint_url=server.url)


@pytest.fixture(scope="module")
def account(s3_server: S3Server) -> Iterator[S3Server]:
    """An account with a bucket, a queue and a job definition `nd`; jobs succeed at once, no container runs.

    It is not emptied between tests, which takes seconds: each has a run of its own.
    """
    s3_server.reset()
    _configure(s3_server, use_docker=False)
    client(s3_server, "s3").create_bucket(Bucket=BUCKET)
    ec2 = client(s3_server, "ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    client(s3_server, "iam").create_role(RoleName="batch", AssumeRolePolicyDocument="{}")
    batch = client(s3_server, "batch")
    batch.create_compute_environment(
        computeEnvironmentName="nd-machines",
        type="MANAGED",
        state="ENABLED",
        serviceRole=ROLE,
        computeResources={"type": "FARGATE", "maxvCpus": 16, "subnets": [subnet], "securityGroupIds": [group]},
    )
    order = [{"order": 1, "computeEnvironment": "nd-machines"}]
    batch.create_job_queue(jobQueueName="nd", state="ENABLED", priority=1, computeEnvironmentOrder=order)
    define(batch, "nd", secrets=[{"name": "BOSS_TOKEN", "valueFrom": SECRET_ARN}])
    yield s3_server
    _configure(s3_server, use_docker=True)
    s3_server.reset()


@pytest.fixture
def aws(account: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Point boto3's environment at the account."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3", "RESULTS_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**SETTINGS, "AWS_ENDPOINT_URL": account.url}.items():
        monkeypatch.setenv(name, value)
    return account


def define(batch: Any, name: str, **container: Any) -> None:
    """Register a job definition."""
    needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}]
    batch.register_job_definition(
        jobDefinitionName=name,
        type="container",
        platformCapabilities=["EC2"],
        containerProperties={"image": "nd-synapse", "resourceRequirements": needs, **container},
    )


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS that holds a small volume: blobs where two markers meet."""
    data = tmp_path_factory.mktemp("volume")
    fill(data, "lab", "slice", blobs((8, 60, 70), 5, 25))
    with start_boss(data) as server:
        yield server


@dataclass
class Script:
    """An AWS that answers as a test wishes, and remembers what it was asked."""

    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """By the last word of the path, in lower case, or by the operation's name: status and body."""

    requested: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def of(self, operation: str) -> list[dict[str, Any]]:
        """Return what an operation was asked."""
        return [body for name, body in self.requested if name == operation]


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """Serve a script; give its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = self.headers.get("X-Amz-Target", self.path)
            operation = target.replace(".", "/").rpartition("/")[2].lower()
            script.requested.append((operation, json.loads(body or b"{}")))
            status, answer = script.answers.get(operation, (200, {}))
            said = json.dumps(answer).encode()
            self.send_response(status)
            if status >= 400:
                self.send_header("x-amzn-ErrorType", str(answer.get("code", "ServerException")))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
