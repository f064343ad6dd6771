"""The door to AWS Batch, and to the logs of its jobs.

It decides nothing: `batch.requests` says what is sent, `batch.status` what the answers mean.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from secrets import token_hex
from time import sleep
from typing import Any

import boto3
from botocore import exceptions as boto_errors
from botocore.config import Config

from batch.queues import Queue
from batch.status import JobState
from nd_synapse.aws.answers import SENSELESS, SenselessError, scrub, sensible, without_credentials
from nd_synapse.aws.connection import BOTO_FAILURES, meaning, status
from nd_synapse.aws.limits import limited
from nd_synapse.errors import NDSynapseError, PermissionDeniedError, UnavailableError, UnknownNameError, UsageError
from nd_synapse.text import one_line

__all__ = ["BatchDoor"]

log = logging.getLogger(__name__)

# A call ends after at most 4 attempts, with seconds between them: each of 10 s to connect, silences of 30 s, and the
# limit of `aws_limits` in all.
_ASKING = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4})
# What is sent again after an answer that was lost may be there twice.
_SENDING = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1})

_PAUSES_S = (0.0, 2.0, 5.0)
"""Before each look for a job of which nobody said that it was submitted."""

_MOST_PAGES = 1000
"""Answers to one question at most."""

_AT_ONCE = 100
"""Jobs that Batch describes in one call."""

# An answer to any of these has it.
_NEEDED = {
    "DescribeComputeEnvironments": ("computeEnvironments",),
    "DescribeJobDefinitions": ("jobDefinitions",),
    "DescribeJobQueues": ("jobQueues",),
    "DescribeJobs": ("jobs",),
    "GetLogEvents": ("events",),
    "ListJobs": ("jobSummaryList",),
    "RegisterJobDefinition": ("jobDefinitionArn",),
    "SubmitJob": ("jobId",),
}

_BUSY = {"ServerException", "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure"}
_BUSY_STATUS = 500
"""An answer of this HTTP status or above is the service's own failure."""


class BatchDoor:
    """What we ask of AWS Batch and of CloudWatch Logs.

    Parameters
    ----------
    region : str or None
        Region of the queue; None for that of boto3's settings. ``AWS_ENDPOINT_URL`` and the others are honoured.

    Raises
    ------
    UsageError
        If region or endpoint cannot be meant.
    """

    def __init__(self, region: str | None = None) -> None:
        with _translated("connecting to AWS Batch"):
            self._session = boto3.session.Session(region_name=region)
        self._asking = self._client("batch", _ASKING)
        self.region = str(self._asking.meta.region_name)

    def _client(self, service: str, config: Config) -> Any:
        """Return a client; those that not every command needs are made late, for it takes a while."""
        with _translated(f"connecting to {service}"):
            try:
                return sensible(limited(self._session.client(service, config=config)), _NEEDED)
            except ValueError as cause:
                scrub(cause)
                remedy = "Correct AWS_ENDPOINT_URL and the region (AWS_DEFAULT_REGION)"
                raise UsageError(
                    f"connecting to {service}", without_credentials(str(cause).rstrip(".")), remedy
                ) from cause

    @cached_property
    def _sending(self) -> Any:
        return self._client("batch", _SENDING)

    def _pages(self, operation: str, **requested: Any) -> Iterator[dict[str, Any]]:
        """Yield the answers of an operation that has several, as far as anybody has so many."""
        for number, page in enumerate(self._asking.get_paginator(operation).paginate(**requested)):
            if number == _MOST_PAGES:
                raise SenselessError(operation=operation, cause=f"it did not end within {_MOST_PAGES:,} answers")
            yield page

    @cached_property
    def _logs(self) -> Any:
        return self._client("logs", _ASKING)

    def definition(self, name: str) -> dict[str, Any]:
        """Describe a job definition."""
        by_name = {"jobDefinitions": [name]} if ":" in name else {"jobDefinitionName": name}
        with _translated(f"job definition {name}"):
            pages = self._pages("describe_job_definitions", **by_name, status="ACTIVE")
            found: list[dict[str, Any]] = [definition for page in pages for definition in page["jobDefinitions"]]
            found.sort(key=lambda definition: int(definition["revision"]))
        if not found:
            raise UnknownNameError(
                f"job definition {name}",
                f"there is none that is active in {self.region}",
                "Create the stack of batch/infrastructure.yaml, or register batch/job_definition.json",
            )
        return found[-1]

    def environments(self, queue: str) -> list[dict[str, Any]]:
        """Describe the compute environments of a queue."""
        with _translated(f"job queue {queue}"):
            found = self._asking.describe_job_queues(jobQueues=[queue])["jobQueues"]
            names = [one["computeEnvironment"] for one in found[0]["computeEnvironmentOrder"]] if found else []
        if not found:
            raise UnknownNameError(
                f"job queue {queue}",
                f"there is none in {self.region}",
                "Check name and region: the stack tells its own",
            )
        with _translated(f"compute environments of the queue {queue}"):
            answer = self._asking.describe_compute_environments(computeEnvironments=names)
            environments: list[dict[str, Any]] = answer["computeEnvironments"]
            # what cannot be read is refused where it comes in
            Queue.of(queue, environments)
        return environments

    def register(self, request: Mapping[str, Any]) -> str:
        """Register a revision of a job definition."""
        with _translated(f"registering the job definition {request['jobDefinitionName']}"):
            return str(self._sending.register_job_definition(**request)["jobDefinitionArn"])

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit a job; once, for a request that is repeated would be a second job.

        If no answer comes, the job is looked for: its name gets an end that no other has.
        """
        name, queue = f"{request['jobName']}-{token_hex(4)}", request["jobQueue"]
        try:
            with _translated(f"submitting {name} to the queue {queue}"):
                return str(self._sending.submit_job(**{**request, "jobName": name})["jobId"])
        except UnavailableError as error:
            if isinstance(error.__cause__, boto_errors.ClientError) and status(error.__cause__) < _BUSY_STATUS:
                raise  # it was refused
            found = self._found(name, queue)
            if found is None:
                raise UnavailableError(error.requested, error.found, _unknown(name, queue)) from error
            log.warning("no answer to the submission of %s, and it is there as %s: %s", name, found, error.found)
            return found
        except KeyboardInterrupt:
            log.warning("%s", _unknown(name, queue))
            raise

    def _found(self, name: str, queue: str) -> str | None:
        """Look for a job by its name; Batch may need a while to list it."""
        filters = [{"name": "JOB_NAME", "values": [name]}]
        for pause_s in _PAUSES_S:
            sleep(pause_s)
            try:
                with _translated(f"looking for {name} in the queue {queue}"):
                    pages = self._pages("list_jobs", jobQueue=queue, filters=filters)
                    ids = [str(job["jobId"]) for page in pages for job in page["jobSummaryList"]]
            except NDSynapseError as error:
                log.warning("%s", error)
                return None
            if ids:
                return ids[0]
        return None

    def describe(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Describe jobs; those that Batch has forgotten, or does not yet know, are missing from the answer."""
        found: list[dict[str, Any]] = []
        for first in range(0, len(ids), _AT_ONCE):
            with _translated("describing the jobs"):
                found += self._asking.describe_jobs(jobs=list(ids[first : first + _AT_ONCE]))["jobs"]
                # what cannot be read is refused where it comes in
                for one in found[-_AT_ONCE:]:
                    JobState.of(one)
        return found

    def terminate(self, job_id: str, reason: str) -> None:
        """End a job, and all children of an array, whether they run or wait."""
        with _translated(f"ending the job {job_id}"):
            self._asking.terminate_job(jobId=job_id, reason=reason)

    def log_lines(self, group: str, stream: str, limit: int) -> Iterator[str]:
        """Fetch the last lines of a log."""
        with _translated(f"log {one_line(stream)} of {one_line(group)}"):
            answer = self._logs.get_log_events(
                logGroupName=group, logStreamName=stream, limit=limit, startFromHead=False
            )
            lines = [line for event in answer["events"] for line in str(event["message"]).rstrip("\n").split("\n")]
        # a container writes what it likes, escape sequences for terminals among it
        yield from (one_line(line, keep="\t") for line in lines)


def _unknown(name: str, queue: str) -> str:
    """Say of a submission without an answer how the job is found, should it be there."""
    filters = f"--filters name=JOB_NAME,values={name}"
    return (
        f"Whether {name} was submitted is not known: `aws batch list-jobs --job-queue {queue} {filters}` lists it"
        " if it was; end it then with `aws batch terminate-job`, for no other command of ours knows of it"
    )


@contextmanager
def _translated(requested: str) -> Iterator[None]:
    """Turn every failure of boto3, and of reading what it answered, into one of ours."""
    try:
        yield
    except NDSynapseError:
        raise
    except boto_errors.ParamValidationError as cause:
        found = one_line(" ".join(str(cause).split()).rstrip("."))
        raise UsageError(requested, found, "Correct the options") from cause
    except boto_errors.ClientError as cause:
        scrub(cause)
        kind, found, remedy = _meaning(cause)
        raise kind(requested, found, remedy) from cause
    except BOTO_FAILURES as cause:
        scrub(cause)
        kind, found, remedy = meaning(cause)
        raise kind(requested, found, remedy) from cause
    except SENSELESS as cause:
        scrub(cause)
        kind, found, remedy = meaning(SenselessError(operation="it", cause=f"{type(cause).__name__}: {cause}"))
        raise kind(requested, found, remedy) from cause


def _meaning(cause: boto_errors.ClientError) -> tuple[type[NDSynapseError], str, str]:
    """Return our class of an answer, its words, and what helps."""
    error = cause.response.get("Error", {})
    code = one_line(error.get("Code", "?"))
    message = one_line(without_credentials(str(error.get("Message", "")))).rstrip(".")
    number = status(cause)
    found = f"AWS answered {code} ({message})"
    if "Throttl" in code or "TooManyRequests" in code or code in _BUSY or number >= _BUSY_STATUS:
        return UnavailableError, f"{found}, after the retries", "Wait a while, then give the same command"
    if code == "ResourceNotFoundException" or "does not exist" in message:
        return UnknownNameError, found, "Check name and region"
    if code in ("AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException") or number in (
        401,
        403,
    ):
        return PermissionDeniedError, found, "Use credentials that may do this; docs/batch.md lists the rights"
    return UsageError, found, "Correct the names of queue and job definition, and the options"
