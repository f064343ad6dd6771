"""The submission of a run, its resumption, and its end before the end.

It decides what is submitted, and has `batch.client` and `batch.runs` do it; what a job is asked is `batch.requests`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from batch.client import BatchClient
from batch.requests import SECRET_VARIABLE, Phase, Run, request_of
from batch.retry import Compute
from batch.runs import Records, Submitted
from batch.sizes import FREE_DISK_GIB
from batch.status import CANCELLED, ENDED
from nd_synapse.errors import NDSynapseError, UnknownNameError, UsageError

__all__ = [
    "cancel",
    "check_definition",
    "check_disk",
    "check_other",
    "check_rights",
    "compute_of",
    "latest",
    "missing_phases",
    "submit",
]

log = logging.getLogger(__name__)

BUCKET_TAG = "nd-synapse-bucket"
"""Tag of the stack's job definitions: the bucket in which their containers may write."""

RESULTS_TAG = "nd-synapse-results"
"""And what keys of results may begin with there, with blanks between."""


def compute_of(definition: Mapping[str, Any]) -> Compute:
    """Return where the containers of a job definition run."""
    return "FARGATE" if "FARGATE" in (definition.get("platformCapabilities") or ()) else "EC2"


def check_definition(definition: Mapping[str, Any], secret_arn: str | None) -> None:
    """Refuse a job definition of no container, without a token, or with one that everybody can read."""
    requested = f"job definition {definition.get('jobDefinitionName')}"
    container = definition.get("containerProperties")
    if container is None:
        raise UsageError(
            requested, "it is not one of a single container", "Register batch/job_definition.json, or deploy the stack"
        )
    if any(variable.get("name") == SECRET_VARIABLE for variable in container.get("environment", [])):
        raise UsageError(
            requested,
            f"it has {SECRET_VARIABLE} in its environment, which everybody can read who may describe it",
            "Keep the token in Secrets Manager, and name its ARN under `secrets`",
        )
    if secret_arn is None and all(secret.get("name") != SECRET_VARIABLE for secret in container.get("secrets", [])):
        raise UsageError(
            requested, f"it has no secret {SECRET_VARIABLE}", "Give --secret ARN, or name the ARN under `secrets`"
        )


def check_disk(definition: Mapping[str, Any], disk_gib: int) -> None:
    """Refuse a job definition of Fargate with less disk than is needed; on EC2, the machines have it."""
    if compute_of(definition) != "FARGATE":
        return
    storage = definition["containerProperties"].get("ephemeralStorage") or {}
    has_gib = int(storage.get("sizeInGiB", FREE_DISK_GIB))
    if disk_gib > has_gib:
        raise UsageError(
            f"{disk_gib} GiB of scratch in a container of job definition {definition.get('jobDefinitionName')}",
            f"it has {has_gib} GiB",
            f"Deploy the stack with FargateGiB={disk_gib}, or bound what pulled voxels take by --cache",
        )


def check_rights(
    definition: Mapping[str, Any], run_bucket: str, run_prefix: str, results: tuple[str, str] | None
) -> None:
    """Refuse what the containers of a stack have no right to; job definitions of others do not say what theirs have."""
    tags = definition.get("tags") or {}
    mine = tags.get(BUCKET_TAG)
    if mine is None:
        return
    requested = f"job definition {definition.get('jobDefinitionName')}"
    for option, bucket in (("--run-bucket", run_bucket), ("--bucket", mine if results is None else results[0])):
        if bucket != mine:
            raise UsageError(
                f"{option} {bucket} with the {requested}",
                f"its containers may write to {mine} alone",
                f"Give {mine}, or a job definition whose role may write there",
            )
    if run_prefix.strip("/").partition("/")[0] != "runs":
        raise UsageError(
            f"--run-prefix {run_prefix} with the {requested}",
            "its containers may write below runs/ alone",
            "Leave it out",
        )
    if results is not None and not results[1].startswith(tuple(tags.get(RESULTS_TAG, "").split())):
        raise UsageError(
            f"results under {results[1]} with the {requested}",
            "its containers may not write under that name",
            "Deploy the stack with the beginning of that name as OwnPipelinePrefix, or give --no-upload",
        )


def check_other(definition: Mapping[str, Any], run: Run) -> None:
    """Refuse a job definition with which a run cannot go on."""
    check_definition(definition, None)
    if compute_of(definition) != run.compute:
        raise UsageError(
            f"job definition {definition.get('jobDefinitionName')} for {run.address}",
            f"it is one for {compute_of(definition)}, and the run has containers for {run.compute}",
            "Give one of the same kind, or submit the run anew",
        )


def submit(run: Run, phases: Sequence[Phase], number: int, door: BatchClient, records: Records) -> list[Submitted]:
    """Submit jobs of a run, each to begin when the one before has succeeded."""
    done: list[Submitted] = []
    try:
        for phase in phases:
            after = done[-1].job_id if done else None
            done.append(Submitted(number, phase, door.submit(request_of(run, phase, after))))
            records.add(done[-1])
    except (NDSynapseError, KeyboardInterrupt):
        for job in done:
            log.warning("ending the %s job %s: the run could not be submitted as a whole", job.phase, job.job_id)
            try:
                door.terminate(job.job_id, CANCELLED)
            except NDSynapseError as error:
                # the others are to be ended all the same, and why nothing was submitted is to be told
                log.warning("%s; it may run: end it with `aws batch terminate-job --job-id %s`", error, job.job_id)
        raise
    return done


def latest(jobs: Sequence[Submitted]) -> dict[Phase, Submitted]:
    """Return the last job of each phase."""
    return {job.phase: job for job in sorted(jobs, key=lambda job: job.round)}


def missing_phases(run: Run, states: Mapping[Phase, str], finished: Mapping[Phase, set[str]]) -> list[Phase]:
    """Say which jobs of a run have to be submitted again.

    An array is submitted whole: which of its children have nothing left to do they see themselves, and end at once.
    """
    busy = [phase for phase, state in states.items() if state not in ENDED]
    if busy:
        raise UsageError(
            f"resuming {run.address}",
            f"its jobs have not all ended: {', '.join(busy)}",
            f"Wait, or end them first with `nd-synapse batch cancel {run.address}`",
        )
    arrays = [phase for phase in run.phases if phase != "report" and len(finished.get(phase, ())) < run.blocks]
    return [*arrays, "report"] if arrays or states.get("report") != "SUCCEEDED" else []


def cancel(jobs: Sequence[Submitted], door: BatchClient) -> list[Submitted]:
    """End all jobs of a run that have not ended."""
    states = {job["jobId"]: job["status"] for job in door.describe([job.job_id for job in jobs])}
    order: tuple[Phase, ...] = ("report", "detection", "statistics")
    # what was submitted a moment ago is not listed yet, and would run on
    live = [job for job in jobs if states.get(job.job_id) not in ENDED]
    live.sort(key=lambda job: order.index(job.phase))
    return [job for job in live if _ended(job, door, job.job_id in states)]


def _ended(job: Submitted, door: BatchClient, is_listed: bool) -> bool:
    """End a job; tell whether there was one, for Batch forgets those that ended a week ago."""
    try:
        door.terminate(job.job_id, CANCELLED)
    except UnknownNameError:
        if is_listed:
            raise
        return False
    return True
