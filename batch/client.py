"""The client of AWS Batch, and of the logs of its jobs. It decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from secrets import token_hex
from time import sleep
from typing import Any

from botocore import exceptions as boto_errors
from botocore.config import Config

from batch.machines import Queue
from batch.status import JobState
from nd_synapse.aws.connection import connect
from nd_synapse.aws.errors import Meaning, code_and_message, status, translated
from nd_synapse.errors import NDSynapseError, PermissionDeniedError, UnavailableError, UnknownNameError, UsageError
from nd_synapse.text import one_line

__all__ = ["BatchClient"]

log = logging.getLogger(__name__)

# At most 4 attempts, each with 10 s to connect and 30 s between two pieces of a response.
_READING = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4})
# A submission that is repeated after a lost response would be a second job.
_SUBMITTING = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1})

_PAUSES_S = (0.0, 2.0, 5.0)
"""Before each look for a job whose submission got no response."""

_AT_ONCE = 100
"""Jobs that Batch describes in one call."""

_BUSY = {"ServerException", "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure"}
_BUSY_STATUS = 500
"""An HTTP status from here on is a failure of the service."""

_REFUSED = {"AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException"}


def _meaning(error: boto_errors.ClientError) -> Meaning:
    """Translate an error response of AWS Batch or CloudWatch Logs."""
    code, message = code_and_message(error)
    number, found = status(error), f"AWS answered {code} ({message})"
    if "Throttl" in code or "TooManyRequests" in code or code in _BUSY or number >= _BUSY_STATUS:
        return UnavailableError, f"{found}, after the retries", "Wait a while, then repeat the command"
    if code == "ResourceNotFoundException" or "does not exist" in message:
        return UnknownNameError, found, "Check name and region"
    if code in _REFUSED or number in (401, 403):
        return PermissionDeniedError, found, "Use credentials that may do this; docs/batch.md lists the rights"
    return UsageError, found, "Correct the names of queue and job definition, and the options"


_translated = partial(translated, of_response=_meaning)


class BatchClient:
    """Requests to AWS Batch and CloudWatch Logs; `region` None is that of boto3's settings."""

    def __init__(self, region: str | None = None) -> None:
        self._region = region
        self._reading = self._client("batch", _READING)
        self.region = str(self._reading.meta.region_name)

    def _client(self, service: str, config: Config) -> Any:
        """Return a client; those that not every command needs are made late, for it takes a while."""
        return connect(service, config, region=self._region)

    @cached_property
    def _submitting(self) -> Any:
        return self._client("batch", _SUBMITTING)

    @cached_property
    def _logs(self) -> Any:
        return self._client("logs", _READING)

    def _pages(self, operation: str, **requested: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of a response."""
        yield from self._reading.get_paginator(operation).paginate(**requested)

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

    def queue(self, queue: str) -> Queue:
        """Describe a queue with its compute environments."""
        with _translated(f"job queue {queue}"):
            found = self._reading.describe_job_queues(jobQueues=[queue])["jobQueues"]
            names = [one["computeEnvironment"] for one in found[0]["computeEnvironmentOrder"]] if found else []
        if not found:
            raise UnknownNameError(
                f"job queue {queue}",
                f"there is none in {self.region}",
                "Check name and region: they are among the outputs of the stack",
            )
        with _translated(f"compute environments of the queue {queue}"):
            answer = self._reading.describe_compute_environments(computeEnvironments=names)
            return Queue.of(queue, answer["computeEnvironments"])

    def register(self, request: Mapping[str, Any]) -> str:
        """Register a revision of a job definition."""
        with _translated(f"registering the job definition {request['jobDefinitionName']}"):
            return str(self._submitting.register_job_definition(**request)["jobDefinitionArn"])

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit a job, once; if no response comes, look for the job by its unique name."""
        name, queue = f"{request['jobName']}-{token_hex(4)}", request["jobQueue"]
        try:
            with _translated(f"submitting {name} to the queue {queue}"):
                return str(self._submitting.submit_job(**{**request, "jobName": name})["jobId"])
        except UnavailableError as error:
            if isinstance(error.__cause__, boto_errors.ClientError) and status(error.__cause__) < _BUSY_STATUS:
                raise  # it was refused
            found = self._found(name, queue)
            if found is None:
                raise UnavailableError(error.requested, error.found, _unknown(name, queue)) from error
            log.warning("no response to the submission of %s, which exists as %s: %s", name, found, error.found)
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

    def describe(self, ids: Sequence[str]) -> list[JobState]:
        """Describe jobs; those that Batch has forgotten, or does not know yet, are missing."""
        found: list[JobState] = []
        for first in range(0, len(ids), _AT_ONCE):
            with _translated("describing the jobs"):
                jobs = self._reading.describe_jobs(jobs=list(ids[first : first + _AT_ONCE]))["jobs"]
                found += [JobState.of(job) for job in jobs]
        return found

    def terminate(self, job_id: str, reason: str) -> None:
        """End a job, and all children of an array, whether they run or wait."""
        with _translated(f"ending the job {job_id}"):
            self._reading.terminate_job(jobId=job_id, reason=reason)

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
    """Say how the job of a submission without a response is found."""
    filters = f"--filters name=JOB_NAME,values={name}"
    return (
        f"Whether {name} was submitted is not known: if `aws batch list-jobs --job-queue {queue} {filters}` lists it,"
        " end it with `aws batch terminate-job`, for no other command of ours knows it"
    )
