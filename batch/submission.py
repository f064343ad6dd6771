"""The submission of a run, its resumption, and its end before the end.

It decides what is submitted, and has `batch.client` and `batch.runs` do it; what a job is asked is `batch.requests`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from batch.client import BatchDoor
from batch.requests import SECRET_VARIABLE, Phase, Run, request_of
from batch.retry import Compute
from batch.runs import Records, Submitted
from batch.status import CANCELLED, ENDED
from errors import NDSynapseError, UsageError

__all__ = ["cancel", "check_definition", "compute_of", "latest", "missing_phases", "submit"]

log = logging.getLogger(__name__)


def compute_of(definition: Mapping[str, Any]) -> Compute:
    """Return where the containers of a job definition run.

    Parameters
    ----------
    definition : mapping
        As Batch describes it.

    Returns
    -------
    {'EC2', 'FARGATE'}
        EC2 is what Batch takes where nothing is said.
    """
    return "FARGATE" if "FARGATE" in (definition.get("platformCapabilities") or ()) else "EC2"


def check_definition(definition: Mapping[str, Any], secret_arn: str | None) -> None:
    """Refuse a job definition whose containers would have no token, or one that everybody can read.

    Parameters
    ----------
    definition : mapping
        As Batch describes it.
    secret_arn : str or None
        The secret that it will be registered anew with, or none.

    Raises
    ------
    UsageError
        If it is such a one.
    """
    container = definition.get("containerProperties", {})
    asked = f"job definition {definition.get('jobDefinitionName')}"
    if any(variable.get("name") == SECRET_VARIABLE for variable in container.get("environment", [])):
        raise UsageError(
            asked,
            f"it has {SECRET_VARIABLE} in its environment, which everybody can read who may describe it",
            "Keep the token in Secrets Manager, and name its ARN under `secrets`",
        )
    if secret_arn is None and all(secret.get("name") != SECRET_VARIABLE for secret in container.get("secrets", [])):
        raise UsageError(
            asked, f"it has no secret {SECRET_VARIABLE}", "Give --secret ARN, or name the ARN under `secrets`"
        )


def submit(run: Run, phases: Sequence[Phase], number: int, door: BatchDoor, records: Records) -> list[Submitted]:
    """Submit jobs of a run, each to begin when the one before has succeeded.

    Parameters
    ----------
    run : Run
        The run.
    phases : sequence of Phase
        Which of its jobs, in order.
    number : int
        Of the round: 1, and one more with each resumption.
    door : BatchDoor
        Where they are submitted.
    records : Records
        Where their ids are noted.

    Returns
    -------
    list of Submitted
        The jobs.

    Raises
    ------
    NDSynapseError
        If one cannot be submitted or noted; those before it are ended then, for nobody would find them.
    """
    done: list[Submitted] = []
    try:
        for phase in phases:
            after = done[-1].job_id if done else None
            done.append(Submitted(number, phase, door.submit(request_of(run, phase, after))))
            records.add(done[-1])
    except (NDSynapseError, KeyboardInterrupt):
        for job in done:
            log.warning("ending the %s job %s: the run could not be submitted as a whole", job.phase, job.job_id)
            door.terminate(job.job_id, CANCELLED)
        raise
    return done


def latest(jobs: Sequence[Submitted]) -> dict[Phase, Submitted]:
    """Return the last job of each phase.

    Parameters
    ----------
    jobs : sequence of Submitted
        All jobs of a run, by rounds.

    Returns
    -------
    dict of Phase to Submitted
        Without phases that were never submitted.
    """
    return {job.phase: job for job in sorted(jobs, key=lambda job: job.round)}


def missing_phases(run: Run, states: Mapping[Phase, str], finished: Mapping[Phase, set[str]]) -> list[Phase]:
    """Say which jobs of a run have to be submitted again.

    An array is submitted whole: which of its children have nothing left to do they see themselves, and end at once.

    Parameters
    ----------
    run : Run
        The run.
    states : mapping of Phase to str
        How Batch says that the last job of each phase is; without those that it has forgotten.
    finished : mapping of Phase to set of str
        Keys of the blocks that are committed, for the phases that commit any.

    Returns
    -------
    list of Phase
        In order; empty if the run is complete.

    Raises
    ------
    UsageError
        If a job has not ended.
    """
    busy = [phase for phase, state in states.items() if state not in ENDED]
    if busy:
        raise UsageError(
            f"resuming {run.address}",
            f"its jobs have not all ended: {', '.join(busy)}",
            f"Wait, or end them first with `python -m batch cancel {run.address}`",
        )
    arrays = [phase for phase in run.phases if phase != "report" and len(finished.get(phase, ())) < run.blocks]
    return [*arrays, "report"] if arrays or states.get("report") != "SUCCEEDED" else []


def cancel(jobs: Sequence[Submitted], door: BatchDoor) -> list[Submitted]:
    """End all jobs of a run that have not ended.

    Parameters
    ----------
    jobs : sequence of Submitted
        All jobs of the run.
    door : BatchDoor
        Where they are.

    Returns
    -------
    list of Submitted
        Those that were ended, the last first: so none begins because the one before it ends.

    Raises
    ------
    NDSynapseError
        If Batch refuses or does not answer.
    """
    states = {job["jobId"]: job["status"] for job in door.describe([job.job_id for job in jobs])}
    order: tuple[Phase, ...] = ("report", "detection", "statistics")
    live = [job for job in jobs if states.get(job.job_id, ENDED[0]) not in ENDED]
    live.sort(key=lambda job: order.index(job.phase))
    for job in live:
        door.terminate(job.job_id, CANCELLED)
    return live
