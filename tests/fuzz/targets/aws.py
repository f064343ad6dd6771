"""An AWS in this process, for targets that ask one: what botocore would send is answered here, without a server."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
import botocore.httpsession
from botocore.awsrequest import AWSResponse

import batch.arguments
from batch.client import BatchClient
from nd_synapse.aws import bucket, connection
from tests.batch.examples import a_run, keys_of
from tests.batch.fixtures import SECRET_ARN, SETTINGS

RUN = a_run()
ADDRESS = RUN.address
DEFINITION_ARN = "arn:aws:batch:us-east-1:123456789012:job-definition/nd:3"

ANSWERS: dict[str, Any] = {
    "describejobdefinitions": {
        "jobDefinitions": [
            {
                "jobDefinitionName": "nd-ec2",
                "jobDefinitionArn": DEFINITION_ARN,
                "revision": 3,
                "type": "container",
                "platformCapabilities": ["EC2"],
                "containerProperties": {"image": "nd", "secrets": [{"name": "BOSS_TOKEN", "valueFrom": SECRET_ARN}]},
                "tags": {"nd-synapse-bucket": "a-bucket", "nd-synapse-results": "nomads probabilistic"},
            }
        ]
    },
    "describejobqueues": {
        "jobQueues": [{"jobQueueName": "nd-ec2", "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "c"}]}]
    },
    "describecomputeenvironments": {
        "computeEnvironments": [
            {
                "computeEnvironmentName": "c",
                "state": "ENABLED",
                "computeResources": {"maxvCpus": 64, "instanceTypes": ["r5.4xlarge"]},
            }
        ]
    },
    "describejobs": {
        "jobs": [
            {
                "jobId": job_id,
                "jobName": "nd",
                "status": "FAILED",
                "statusReason": "Host EC2 (instance i-0) terminated.",
                "attempts": [
                    {
                        "container": {"logStreamName": "nd/default/1", "exitCode": 69, "reason": "x"},
                        "startedAt": 1_767_323_045_000,
                        "stoppedAt": 1_767_323_085_000,
                        "statusReason": "Essential container in task exited",
                    }
                ],
                "retryStrategy": {"attempts": 5},
                "container": {
                    "resourceRequirements": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "16384"}],
                    "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/nd"}},
                    "logStreamName": "nd/default/1",
                },
            }
            for job_id in ("a:0", "a:1", "b")
        ]
    },
    "getlogevents": {"events": [{"timestamp": 1, "message": "a line\n"}]},
    "terminatejob": {},
    "submitjob": {"jobId": "new", "jobName": "nd"},
    "registerjobdefinition": {"jobDefinitionName": "nd-ec2", "jobDefinitionArn": DEFINITION_ARN, "revision": 4},
}
OBJECTS: dict[str, bytes] = {
    "run.json": json.dumps({"created": "2026", "region": "us-east-1", "run": RUN.as_json()}).encode(),
    "jobs/001-statistics.json": b'{"job_id": "a"}',
    "jobs/001-detection.json": b'{"job_id": "a"}',
    "jobs/001-report.json": b'{"job_id": "b"}',
    **{f"statistics-0a/{key}.npz": b"x" for key in keys_of(RUN)[:5]},
    **{f"parts-0b/{key}.npz": b"x" for key in keys_of(RUN)[:3]},
}


@dataclass(frozen=True)
class Cloud:
    """What AWS answers: JSON by operation, objects by their names, and what comes in place of an answer."""

    answers: Mapping[str, Any]
    objects: Mapping[str, bytes]
    instead: Mapping[str, tuple[int, bytes]]
    """By operation: of S3, its method, or ``LIST``."""


class _Raw(io.BytesIO):
    def stream(self, size: int = 0, **_: Any) -> Iterator[bytes]:
        yield self.read()


def listed(objects: Mapping[str, bytes], prefix: str) -> bytes:
    """Return what S3 lists."""
    found = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size></Contents>"
        for key, body in objects.items()
        if key.startswith(prefix)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()


def _described(answer: Any, requested: list[str]) -> Any:
    """Leave out jobs that nobody asked for, as Batch does."""
    jobs = answer.get("jobs") if isinstance(answer, dict) else None
    if not isinstance(jobs, list):
        return answer
    others = {"a", "a:0", "a:1", "b"} - set(requested)
    return {**answer, "jobs": [job for job in jobs if not isinstance(job, dict) or str(job.get("jobId")) not in others]}


def _answer(cloud: Cloud, request: Any) -> tuple[int, bytes]:
    """Answer a request."""
    url = urlsplit(request.url)
    if url.netloc.startswith("batch.") or url.netloc.startswith("logs."):
        target = request.headers.get("X-Amz-Target", url.path)
        target = target.decode() if isinstance(target, bytes) else target
        operation = target.replace(".", "/").rpartition("/")[2].lower()
        if operation in cloud.instead:
            return cloud.instead[operation]
        answer = cloud.answers.get(operation, {})
        if operation == "describejobs":
            answer = _described(answer, json.loads(request.body or b"{}").get("jobs", []))
        return 200, json.dumps(answer).encode()
    query = parse_qs(url.query)
    operation = "LIST" if "list-type" in query else request.method
    if operation in cloud.instead:
        return cloud.instead[operation]
    prefix = f"{RUN.prefix}/"
    if operation == "LIST":
        there = {f"{prefix}{name}": body for name, body in cloud.objects.items()}
        return 200, listed(there, query.get("prefix", [""])[0])
    name = unquote(url.path).lstrip("/").removeprefix("a-bucket/").removeprefix(prefix)
    if request.method == "GET":
        missing = b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
        return (200, cloud.objects[name]) if name in cloud.objects else (404, missing)
    if request.method == "PUT" and name in cloud.objects:
        return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
    return (404, b"") if request.method == "HEAD" and name not in ("", *cloud.objects) else (200, b"")


@cache
def _clients() -> dict[str, Any]:
    """Clients take a while to make; nothing of a case is in them."""
    with mock.patch.dict(os.environ, SETTINGS):
        session = boto3.session.Session(region_name="us-east-1")
        return {
            "s3": session.client("s3", config=connection._CONFIG),
            "batch": session.client("batch", config=batch.client._READING),
            "logs": session.client("logs", config=batch.client._READING),
        }


@contextmanager
def answered(cloud: Cloud) -> Iterator[None]:
    """Let AWS be a cloud; nothing waits between attempts."""

    def send(self: Any, request: Any) -> AWSResponse:
        status, body = _answer(cloud, request)
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        return AWSResponse(request.url, status, headers, _Raw(body))

    def client(_: Any, service: str, config: Any) -> Any:
        return _clients()[service]

    _clients()
    with (
        mock.patch.object(botocore.httpsession.URLLib3Session, "send", send),
        mock.patch.object(BatchClient, "_client", client),
        mock.patch.object(bucket, "s3_client", return_value=_clients()["s3"]),
        mock.patch.dict(os.environ, SETTINGS),
        mock.patch("time.sleep"),
    ):
        yield
