"""What the commands of `nd-synapse batch` do: plan, script, submit, status, logs, cancel, resume."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batch import requests, submission
from batch.arguments import Requested, for_container, for_script, without_secrets
from batch.client import BatchClient
from batch.comparison import comparison_text
from batch.machines import Queue, bounded
from batch.phases import LAST, Phase
from batch.prices import read_prices
from batch.requests import Run
from batch.runs import Records, Submitted
from batch.script import slurm_script
from batch.status import JobState, status_text
from nd_synapse.aws.bucket import check_bucket
from nd_synapse.console.app import write_stdout
from nd_synapse.errors import UnknownNameError, UsageError
from nd_synapse.job.delivery import check_upload
from nd_synapse.job.job import Job
from nd_synapse.job.places import Target
from nd_synapse.job.steps import open_shared_store
from nd_synapse.text import one_line
from nd_synapse.values import parse_pairs

__all__ = ["cancel", "logs", "plan", "resume", "script", "status", "submit"]

log = logging.getLogger(__name__)

_LOG_GROUP = "/aws/batch/job"
"""Log group of containers by default."""

_MOST_LOGS = 10


def plan(requested: Requested) -> int:
    """Print what a run would do, need and cost."""
    check_upload(requested.job)
    planned = requested.plan("FARGATE" if requested.ours.compute == "fargate" else "EC2")
    _write(f"{json.dumps(planned.as_json(), indent=1)}\n" if requested.ours.json else planned.as_text())
    return 0


def script(requested: Requested) -> int:
    """Print the script that submits a run to a scheduler."""
    ours, job = requested.ours, requested.job
    options = for_script(requested.words)
    check_upload(job)
    shared = open_shared_store(ours.shared).url
    planned = requested.plan("EC2")
    # BOSS is one service for all children; files have a disk each, or a file system as wide as the cluster
    at_once = planned.children_at_once if job.source is None else None
    return write_stdout(slurm_script(planned, options, shared, Path.cwd(), job.path, at_once))


def _out_of(job: Job) -> tuple[str, str] | None:
    """Return the bucket and the prefix that ``--out`` leads to."""
    if job.out is None:
        return None
    bucket, _, prefix = Target.of(job.out).where.removeprefix("s3://").partition("/")
    return bucket, prefix


def submit(requested: Requested) -> int:
    """Submit a run."""
    ours, job = requested.ours, requested.job
    # what can be refused without AWS comes first
    check_bucket(ours.run_bucket)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}" if ours.run is None else ours.run
    prefix = f"{ours.run_prefix.strip('/')}/{run_id}"
    requests.check_place(run_id, prefix)
    bucket = job.bucket or ours.run_bucket
    check_bucket(bucket, job.acl)
    options = for_container(requested.words, bucket)
    tags = parse_pairs("--tag", without_secrets("--tag", ours.tag))
    if "--no-upload" in options and not job.push and job.out is None:
        found = "nothing would be left of it: the files of a container are lost with it"
        raise UsageError(
            "a run on AWS Batch that neither uploads nor pushes", found, "Leave --no-upload out, or give --out"
        )
    client = BatchClient()
    definition = client.definition(ours.job_definition)
    submission.check_definition(definition, ours.secret)
    results = None if "--no-upload" in options else (bucket, job.results_key)
    submission.check_rights(definition, ours.run_bucket, ours.run_prefix, results, _out_of(job))
    queue = client.queue(ours.queue)
    compute = submission.compute_of(definition)
    planned = requested.plan(compute)
    _write(planned.as_text())
    submission.check_disk(definition, max(planned.child_disk_gib, planned.report_disk_gib))
    run = Run(
        run_id=run_id,
        queue=ours.queue,
        job_definition=_revision(definition),
        compute=compute,
        options=options,
        box=job.box,
        block_size=planned.block_size,
        blocks=planned.blocks,
        shards=planned.shards,
        child=planned.child,
        report=planned.report,
        bucket=ours.run_bucket,
        prefix=prefix,
        pushes=bool(job.push),
        attempts=ours.attempts,
        tags=tags,
        planned=planned.times,
    )
    run = _bounded(_with_memory(run, ours.memory_mib), queue)
    _confirm(ours.yes, f"Submit {run.address} to {run.queue}?")
    _submit_first(run, client, ours.secret and requests.definition_with_secret(definition, ours.secret))
    return 0


def _submit_first(run: Run, client: BatchClient, definition: Mapping[str, Any] | None) -> None:
    """Record and submit a new run, with a job definition that is registered for it."""
    # an invalid request is refused before the first job is submitted
    for phase in run.phases:
        requests.request_of(run, phase)
    if definition:
        run = replace(run, job_definition=client.register(definition))
    records = Records(run.address)
    run = records.claim(run, client.region, datetime.now(UTC).isoformat(timespec="seconds"))
    _write_submitted(run, submission.submit(run, run.phases, 1, client, records))


def status(ours: argparse.Namespace) -> int:
    """Print the state of a run, and its cost until now."""
    records = Records(ours.run)
    run, region, created = records.read()
    client = BatchClient(region)
    prices = read_prices()

    def price(vcpus: float, memory_mib: int) -> tuple[float, float]:
        least, _ = prices.per_second(run.compute, vcpus, memory_mib, spot=True)
        _, most = prices.per_second(run.compute, vcpus, memory_mib, spot=False)
        return least, most

    jobs = records.jobs()
    last = submission.latest(jobs)
    rounds = [(job, _states(client, run, job)) for job in jobs]
    states = {job.phase: found for job, found in rounds if job in last.values()}
    earlier = [state for job, found in rounds if job not in last.values() for state in found]
    now_s = time.time()
    _write(status_text(run, created, states, earlier, records.finished(), price, now_s))
    _write(comparison_text(run, [(job.phase, found) for job, found in rounds], price, now_s))
    return 0


def _states(client: BatchClient, run: Run, job: Submitted) -> list[JobState]:
    """Return the states of the children of an array, or of a job itself."""
    children = run.children(job.phase)
    if children > 1:
        states = client.describe([f"{job.job_id}:{index}" for index in range(children)])
        if states:
            return states
    return client.describe([job.job_id])


def logs(ours: argparse.Namespace) -> int:
    """Print the last lines that containers of a run wrote."""
    records = Records(ours.run)
    run, region, _ = records.read()
    client = BatchClient(region)
    shown = 0
    for phase, job in submission.latest(records.jobs()).items():
        if ours.phase not in (None, phase):
            continue
        for state in _wanted(_states(client, run, job), ours.shard):
            if state.log_stream is None:
                continue
            if shown == _MOST_LOGS:
                log.warning("there are more logs; choose with --phase and --shard")
                return 0
            shown += 1
            where = phase if state.shard is None else f"{phase} {state.shard}"
            _write(f"{where}: {state.status.lower()}, log {one_line(state.log_stream)}\n")
            for line in client.log_lines(state.log_group or _LOG_GROUP, state.log_stream, ours.lines):
                _write(f"  {line}\n")
    if not shown:
        raise UnknownNameError(
            f"logs of {ours.run}",
            "none of these containers has written one",
            "Without --shard, failed children are shown; choose another with --phase and --shard",
        )
    return 0


def _wanted(states: Sequence[JobState], shard: int | None) -> Iterator[JobState]:
    """Yield the jobs whose logs are shown: the requested child, or failed children; and jobs that are no children."""
    for state in states:
        if state.shard is None or (state.status == "FAILED" if shard is None else state.shard == shard):
            yield state


def cancel(ours: argparse.Namespace) -> int:
    """Terminate a run."""
    records = Records(ours.run)
    _, region, _ = records.read()
    ended = submission.cancel(records.jobs(), BatchClient(region))
    for job in ended:
        _write(f"terminated {job.phase} {job.job_id}\n")
    _write(f"finished blocks are kept: nd-synapse batch resume {ours.run}\n" if ended else "all had ended\n")
    return 0


def resume(ours: argparse.Namespace) -> int:
    """Submit what is missing of a run."""
    records = Records(ours.run)
    run, region, _ = records.read()
    client = BatchClient(region)
    jobs = records.jobs()
    phase_of = {job.job_id: phase for phase, job in submission.latest(jobs).items()}
    states: dict[Phase, str] = {phase_of[job.job_id]: job.status for job in client.describe(list(phase_of))}
    phases = submission.missing_phases(run, states, records.finished())
    if phases and ours.job_definition:
        # other code may be unable to use the finished blocks, and each child of detection would then count all itself
        phases = list(run.phases)
    if ours.report_only:
        phases = [LAST]
    if not phases:
        _write("nothing is missing\n")
        return 0
    if ours.job_definition:
        definition = client.definition(ours.job_definition)
        submission.check_other(definition, run)
        run = replace(run, job_definition=_revision(definition))
    queue = client.queue(run.queue)
    run = _bounded(_with_memory(run, ours.memory_mib), queue)
    _confirm(ours.yes, f"Submit {', '.join(phases)} of {run.address} again?")
    number = max((job.round for job in jobs), default=0) + 1
    _write_submitted(run, submission.submit(run, phases, number, client, records))
    return 0


def _with_memory(run: Run, memory_mib: int | None) -> Run:
    """Return a run with the memory that the user gives."""
    if memory_mib is None:
        return run
    return replace(
        run, child=replace(run.child, memory_mib=memory_mib), report=replace(run.report, memory_mib=memory_mib)
    )


def _bounded(run: Run, queue: Queue) -> Run:
    """Return a run that does not overload BOSS, and print what differs from the plan."""
    bound = bounded(run, queue)
    if bound.child.pulls != run.child.pulls:
        _write(f"the queue has room for more children at a time: each has --pulls {bound.child.pulls}\n")
    return bound


def _revision(definition: Mapping[str, Any]) -> str:
    """Return name and revision of a job definition."""
    return f"{definition['jobDefinitionName']}:{definition['revision']}"


def _confirm(yes: bool, question: str) -> None:
    """Ask before a submission, which costs money."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("submitting", "there is no terminal to ask on", "Give --yes")
    _write(f"{question} [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("submitting", "the answer was not yes", "Nothing was submitted")


def _write_submitted(run: Run, jobs: Sequence[Submitted]) -> None:
    """Print what was submitted, and how to follow it."""
    for job in jobs:
        children = run.children(job.phase)
        _write(f"{job.phase}: {job.job_id}{f', {children:,} children' if children > 1 else ''}\n")
    _write(f"nd-synapse batch status {run.address}\n")


def _write(text: str) -> None:
    """Write to standard output, without control characters of AWS and of logs."""
    write_stdout(one_line(text, keep="\n\t"))
