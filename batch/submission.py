"""Submitting, resuming and cancelling a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from batch.client import BatchClient
from batch.machines import FREE_DISK_GIB
from batch.phases import LAST, PHASES, Phase
from batch.requests import SECRET_VARIABLE, Run, request_of
from batch.retry import Compute
from batch.runs import Records, Submitted
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
"""Tag of the stack's job definitions: the bucket that their containers may write to."""

RESULTS_TAG = "nd-synapse-results"
"""Tag: prefixes that keys of results may have there, separated by blanks."""


def compute_of(definition: Mapping[str, Any]) -> Compute:
    """Return where the containers of a job definition run."""
    return "FARGATE" if "FARGATE" in (definition.get("platformCapabilities") or ()) else "EC2"


def check_definition(definition: Mapping[str, Any], secret_arn: str | None) -> None:
    """Refuse a job definition without a single container, without a token, or with one that everyone can read."""
    requested = f"job definition {definition.get('jobDefinitionName')}"
    container = definition.get("containerProperties")
    if container is None:
        raise UsageError(
            requested, "it is not for a single container", "Register batch/job_definition.json, or deploy the stack"
        )
    if any(variable.get("name") == SECRET_VARIABLE for variable in container.get("environment", [])):
        raise UsageError(
            requested,
            f"it has {SECRET_VARIABLE} in its environment, readable for everyone who may describe it",
            "Keep the token in Secrets Manager, and name its ARN under `secrets`",
        )
    if secret_arn is None and all(secret.get("name") != SECRET_VARIABLE for secret in container.get("secrets", [])):
        raise UsageError(
            requested, f"it has no secret {SECRET_VARIABLE}", "Give --secret ARN, or name the ARN under `secrets`"
        )


def check_disk(definition: Mapping[str, Any], disk_gib: int) -> None:
    """Refuse a job definition of Fargate with too little disk; on EC2, the disk is the machine's."""
    if compute_of(definition) != "FARGATE":
        return
    storage = definition["containerProperties"].get("ephemeralStorage") or {}
    has_gib = int(storage.get("sizeInGiB", FREE_DISK_GIB))
    if disk_gib > has_gib:
        raise UsageError(
            f"{disk_gib} GiB of scratch in a container of job definition {definition.get('jobDefinitionName')}",
            f"it has {has_gib} GiB",
            f"Deploy the stack with FargateGiB={disk_gib}, or limit the pulled voxels on disk by --cache",
        )


def check_rights(
    definition: Mapping[str, Any],
    run_bucket: str,
    run_prefix: str,
    results: tuple[str, str] | None,
    out: tuple[str, str] | None = None,
) -> None:
    """Refuse what the containers of our stack have no right to; other job definitions have no such tags."""
    tags = definition.get("tags") or {}
    mine = tags.get(BUCKET_TAG)
    if mine is None:
        return
    requested = f"job definition {definition.get('jobDefinitionName')}"
    places = {"--bucket": results, "--out": out}
    for option, bucket in (("--run-bucket", run_bucket), *((o, at[0]) for o, at in places.items() if at is not None)):
        if bucket != mine:
            raise UsageError(
                f"{option} {bucket} with the {requested}",
                f"its containers may write to {mine} only",
                f"Give {mine}, or a job definition whose role may write there",
            )
    if run_prefix.strip("/").partition("/")[0] != "runs":
        raise UsageError(
            f"--run-prefix {run_prefix} with the {requested}",
            "its containers may write below runs/ only",
            "Leave it out",
        )
    for option, at in places.items():
        if at is not None and not at[1].startswith(tuple(tags.get(RESULTS_TAG, "").split())):
            raise UsageError(
                f"results under {at[1]} with the {requested}",
                "its containers may not write under that name",
                "Deploy the stack with a prefix of that name as OwnPipelinePrefix,"
                f" or {'give --no-upload' if option == '--bucket' else 'leave --out out'}",
            )


def check_other(definition: Mapping[str, Any], run: Run) -> None:
    """Refuse a job definition with which a run cannot be resumed."""
    check_definition(definition, None)
    if compute_of(definition) != run.compute:
        raise UsageError(
            f"job definition {definition.get('jobDefinitionName')} for {run.address}",
            f"it is for {compute_of(definition)}, and the containers of the run are for {run.compute}",
            "Give one of the same kind, or submit the run anew",
        )


def submit(run: Run, phases: Sequence[Phase], number: int, client: BatchClient, records: Records) -> list[Submitted]:
    """Submit jobs of a run; each depends on the one before."""
    done: list[Submitted] = []
    try:
        for phase in phases:
            after = done[-1].job_id if done else None
            done.append(Submitted(number, phase, client.submit(request_of(run, phase, after))))
            records.add(done[-1])
    except (NDSynapseError, KeyboardInterrupt):
        for job in done:
            log.warning("terminating the %s job %s: the run could not be submitted as a whole", job.phase, job.job_id)
            try:
                client.terminate(job.job_id, CANCELLED)
            except NDSynapseError as error:
                # terminate the others all the same, and raise the first error
                log.warning("%s; it may run: end it with `aws batch terminate-job --job-id %s`", error, job.job_id)
        raise
    return done


def latest(jobs: Sequence[Submitted]) -> dict[Phase, Submitted]:
    """Return the last job of each phase."""
    return {job.phase: job for job in sorted(jobs, key=lambda job: job.round)}


def missing_phases(run: Run, states: Mapping[Phase, str], finished: Mapping[Phase, set[str]]) -> list[Phase]:
    """Return the phases that have to be submitted again, as a whole: children that are finished end at once.

    A phase that failed is one of them though all of its blocks are there: it may leave more than what is counted.
    """
    busy = [phase for phase, state in states.items() if state not in ENDED]
    if busy:
        raise UsageError(
            f"resuming {run.address}",
            f"its jobs have not all ended: {', '.join(busy)}",
            f"Wait, or end them first with `nd-synapse batch cancel {run.address}`",
        )
    lacking = [
        phase
        for phase in run.phases
        if phase != LAST
        and (states.get(phase) == "FAILED" or (PHASES[phase].finishes and len(finished.get(phase, ())) < run.blocks))
    ]
    return [*lacking, LAST] if lacking or states.get(LAST) != "SUCCEEDED" else []


def cancel(jobs: Sequence[Submitted], client: BatchClient) -> list[Submitted]:
    """Terminate all jobs of a run that have not ended."""
    states = {job.job_id: job.status for job in client.describe([job.job_id for job in jobs])}
    order = list(reversed(PHASES))
    # a job that was submitted a moment ago is not listed yet, and would run on
    live = [job for job in jobs if states.get(job.job_id) not in ENDED]
    live.sort(key=lambda job: order.index(job.phase))
    return [job for job in live if _ended(job, client, job.job_id in states)]


def _ended(job: Submitted, client: BatchClient, is_listed: bool) -> bool:
    """End a job; return whether there was one: Batch forgets jobs some days after their end."""
    try:
        client.terminate(job.job_id, CANCELLED)
    except UnknownNameError:
        if is_listed:
            raise
        return False
    return True
