"""``nd-synapse batch``: its command lines, records of runs in S3, answers of AWS Batch, lists of prices."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from hypothesis import strategies as st

import batch.arguments
from batch import command as batch_command
from batch.prices import read_prices
from tests.batch.examples import CHILD, REPORT
from tests.batch.fixtures import SECRET_ARN
from tests.fuzz.cases import (
    ABSENT,
    TOKEN,
    json_values,
    mutated_bytes,
    mutated_json,
    mutated_text,
    names,
    numbers,
    one_of_line,
    one_wrong,
    plain,
    sometimes,
    words,
)
from tests.fuzz.judge import Target, quietly
from tests.fuzz.targets.aws import ADDRESS, ANSWERS, OBJECTS, RUN, Cloud, answered
from tests.fuzz.targets.jobs import (
    WHOLE,
    bad_addresses,
    bad_buckets,
    bad_names,
    bad_numbers,
    bad_sizes,
    buckets,
    flag,
    hosts,
    ranges,
)

# --- command lines ------------------------------------------------------------------------------------------------

LOUD = {"--verbose": flag}
OF_RUN: dict[str, tuple[dict[str, st.SearchStrategy[Any]], dict[str, st.SearchStrategy[Any]]]] = {
    "status": ({"run": st.just(ADDRESS), **LOUD}, {"run": bad_addresses | st.just(ABSENT), "--verbose": words}),
    "cancel": ({"run": st.just(ADDRESS), **LOUD}, {"run": bad_addresses | mutated_text([ADDRESS])}),
    "logs": (
        {
            "run": st.just(ADDRESS),
            "--phase": sometimes(st.sampled_from(["statistics", "detection", "report"])),
            "--shard": sometimes(st.integers(0, 1).map(str)),
            "--lines": sometimes(st.integers(1, 10_000).map(str)),
        },
        {
            "run": mutated_text([ADDRESS]),
            "--phase": words,
            "--shard": bad_numbers | st.just("7"),
            "--lines": bad_numbers,
        },
    ),
    "resume": (
        {
            "run": st.just(ADDRESS),
            "--memory-mib": sometimes(st.integers(4, 30_000).map(str)),
            "--job-definition": sometimes(st.just("nd-ec2")),
            "--report-only": flag,
            "--yes": st.just(True),
        },
        {
            "run": bad_addresses,
            "--memory-mib": bad_numbers | st.just("999999999"),
            "--yes": st.just(False),
            "--report-only": words,
        },
    ),
}
OF_DRIVER: dict[str, st.SearchStrategy[Any]] = {
    "--host": hosts,
    "--col": names,
    "--exp": names,
    "--z-range": ranges,
    "--y-range": ranges,
    "--x-range": ranges,
    "--block-size": WHOLE["--block-size"],
    "--cpus": sometimes(st.integers(1, 8).map(str)),
    "--no-push": flag,
}
WRONG_DRIVER: dict[str, st.SearchStrategy[Any]] = {
    "--host": bad_names,
    "--col": st.just(ABSENT) | st.just("e" * 250),
    "--z-range": words,
    "--block-size": bad_sizes,
    "--cpus": bad_numbers,
    "--no-push": st.sampled_from(["--shared=s3://abc/x", "--dry-run", f"--token={TOKEN}", "--fresh", "--path=x"]),
}
SUBMIT: dict[str, st.SearchStrategy[Any]] = {
    "--queue": st.just("nd-ec2"),
    "--job-definition": st.sampled_from(["nd-ec2", "nd-ec2:3"]),
    "--run-bucket": st.just("a-bucket"),
    "--run-prefix": sometimes(st.just("runs/mine")),
    "--run": sometimes(st.text("abcXYZ019-", min_size=1, max_size=9).map(lambda text: f"r{text}")),
    "--secret": sometimes(st.just(SECRET_ARN)),
    "--attempts": sometimes(st.integers(1, 10).map(str)),
    "--tag": sometimes(st.just("team=nd")),
    "--shards": sometimes(st.integers(1, 16).map(str)),
    "--memory-mib": sometimes(st.integers(4, 30_000).map(str)),
    "--yes": st.just(True),
}
WRONG_SUBMIT: dict[str, st.SearchStrategy[Any]] = {
    "--queue": st.just(ABSENT),
    "--job-definition": st.just(ABSENT),
    "--run-bucket": bad_buckets | buckets,
    "--run-prefix": words,
    "--run": words | st.just("20260102T030405Z-beef"),
    "--attempts": bad_numbers,
    "--tag": words,
    "--shards": bad_numbers,
    "--memory-mib": bad_numbers,
    "--yes": st.just(False),
}
PLAN: dict[str, st.SearchStrategy[Any]] = {
    "--compute": sometimes(st.sampled_from(["ec2", "fargate"])),
    "--shards": sometimes(st.integers(1, 99).map(str)),
    "--json": flag,
}
WRONG_PLAN: dict[str, st.SearchStrategy[Any]] = {
    "--compute": words,
    "--shards": words | st.just("1.5"),
    "--json": words,
}


@st.composite
def batch_lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    command = draw(st.sampled_from(["status", "cancel", "logs", "resume", "plan", "submit", "submit", "submit"]))
    if command in OF_RUN:
        return command, draw(one_of_line(*OF_RUN[command]))
    right, wrong = (PLAN, WRONG_PLAN) if command == "plan" else (SUBMIT, WRONG_SUBMIT)
    ours = draw(st.booleans())
    line = draw(one_of_line(right, wrong if ours else {"--shards": right["--shards"]}))
    return command, line + draw(one_of_line(OF_DRIVER, {"--host": hosts} if ours else WRONG_DRIVER))


def _plan_of(job: Any, source: Any, compute: str, shards: int | None, cpus: int | None) -> Any:
    """Return a plan in place of one that was made from a volume."""
    shape = {"block_size": RUN.block_size, "blocks": 32, "shards": 4 if shards is None else shards}
    needs = {"child": CHILD, "report": REPORT, "child_disk_gib": 20, "report_disk_gib": 20}
    return SimpleNamespace(**shape, **needs, as_text=lambda: "a plan\n", as_json=lambda: {"shards": shards})


def run_batch(command: str, line: list[str], cloud: Cloud) -> None:
    """Run a command with an AWS that answers so."""
    with (
        answered(cloud),
        mock.patch.object(batch.arguments, "NeuroDataResource"),
        mock.patch.object(batch.arguments, "plan_of", _plan_of),
        mock.patch.object(batch_command.sys, "stdin", io.StringIO()),
    ):
        assert batch_command._RUN[command](line, {"BOSS_TOKEN": TOKEN}) == 0


def command_batch(case: tuple[str, list[str]], folder: Path) -> None:
    run_batch(*case, Cloud(ANSWERS, OBJECTS, {}))


# --- records of runs ----------------------------------------------------------------------------------------------

odd = json_values | numbers | words | plain


def record(values: Any) -> bytes:
    return json.dumps(values).encode()


RESOURCES = {
    "vcpus": st.floats(0.25, 16),
    "memory_mib": st.integers(4, 2**17),
    "timeout_s": st.integers(60, 10**6),
    "cpus": st.integers(1, 16),
    "pulls": st.none() | st.integers(1, 64),
}
resources = one_wrong(RESOURCES, {"cpus": RESOURCES["cpus"]})
bad_resources = one_wrong(RESOURCES, dict.fromkeys(RESOURCES, odd | st.just(ABSENT) | st.integers(-9, 9))) | odd
RECORD: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.just(value) for name, value in RUN.as_json().items()},
    "child": resources,
    "report": resources,
    "shards": st.integers(1, 9),
    "tags": st.dictionaries(names, names, max_size=2),
}
WRONG_RECORD: dict[str, st.SearchStrategy[Any]] = {
    **{name: odd | st.just(ABSENT) for name in RECORD},
    "child": bad_resources,
    "report": bad_resources,
    "box": odd | mutated_json([RUN.as_json()["box"]]),
    "block_size": odd | st.lists(st.integers(-2, 9), max_size=4),
    "shards": st.integers(-1, 20_000) | odd,
    "blocks": st.integers(-9, 2**70) | odd,
}


@st.composite
def records(draw: st.DrawFn) -> dict[str, bytes]:
    """The objects of a run, of which one is odd."""
    objects = dict(OBJECTS)
    objects["run.json"] = record(
        {"created": "2026", "region": "us-east-1", "run": draw(one_wrong(RECORD, WRONG_RECORD))}
    )
    match draw(st.sampled_from(["", "", "", "", "job", "name", "run.json", "missing"])):
        case "job":
            objects["jobs/001-report.json"] = draw(mutated_json([{"job_id": "b"}]).map(record) | st.binary(max_size=9))
        case "name":
            objects[f"jobs/{draw(words | st.just('002-report.json'))}".replace("\x00", "").replace("\ud800", "")] = (
                b'{"job_id": "c"}'
            )
        case "run.json":
            whole = {"created": "2026", "region": "us-east-1", "run": RUN.as_json()}
            objects["run.json"] = draw(mutated_json([whole]).map(record) | mutated_bytes([record(whole)]))
        case "missing":
            del objects["run.json"]
    return objects


def read_record(case: tuple[str, dict[str, bytes]], folder: Path) -> None:
    command, objects = case
    run_batch(command, [ADDRESS, *(["--yes"] if command == "resume" else [])], Cloud(ANSWERS, objects, {}))


# --- answers of Batch ---------------------------------------------------------------------------------------------

STATUSES = ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"]
FAILURES = [
    "ClientException",
    "ServerException",
    "AccessDeniedException",
    "ThrottlingException",
    "ResourceNotFoundException",
]


@st.composite
def aws_answers(draw: st.DrawFn) -> tuple[str, list[str], Cloud]:
    """A command, and an AWS of which one answer is odd."""
    command = draw(st.sampled_from(["status", "logs", "cancel", "resume", "submit"]))
    line = [ADDRESS]
    if command == "submit":
        line = draw(one_of_line(SUBMIT, {"--yes": SUBMIT["--yes"]})) + draw(one_of_line(OF_DRIVER, {"--host": hosts}))
    elif command == "resume":
        line += ["--yes", *(["--job-definition", "nd-ec2"] if draw(st.booleans()) else [])]
    answers, instead = {**ANSWERS}, {}
    jobs = json.loads(json.dumps(ANSWERS["describejobs"]))
    for job in jobs["jobs"]:
        job["status"] = draw(st.sampled_from(["SUCCEEDED", "FAILED", "FAILED"] if command == "resume" else STATUSES))
    answers["describejobs"] = jobs
    used = {
        "status": ["describejobs"],
        "logs": ["describejobs", "getlogevents"],
        "cancel": ["describejobs", "terminatejob"],
        "resume": [
            "describejobs",
            "describejobqueues",
            "describecomputeenvironments",
            "submitjob",
            "describejobdefinitions",
        ],
        "submit": [
            *("describejobdefinitions", "describejobqueues", "describecomputeenvironments"),
            *("submitjob", "registerjobdefinition", "terminatejob"),
        ],
    }[command]
    operation = draw(st.sampled_from(used))
    match draw(st.sampled_from(["", "", "json", "json", "json", "failure", "body"])):
        case "json":
            answers[operation] = draw(mutated_json([answers[operation]]))
        case "failure":
            failure = {"__type": draw(st.sampled_from(FAILURES)), "message": draw(words)}
            instead[operation] = (draw(st.sampled_from([400, 403, 404, 429, 500, 503])), record(failure))
        case "body":
            instead[operation] = (
                200,
                draw(mutated_bytes([record(answers[operation])]) | st.sampled_from([b"", b"[]", b"<html>"])),
            )
    return command, line, Cloud(answers, OBJECTS, instead)


def hear_answers(case: tuple[str, list[str], Cloud], folder: Path) -> None:
    run_batch(*case)


# --- prices --------------------------------------------------------------------------------------------------------


def price(values: Any, folder: Path) -> None:
    (folder / "prices.json").write_bytes(record(values))
    prices = read_prices(folder / "prices.json")
    for compute in ("EC2", "FARGATE"):
        least, most = prices.per_second(compute, 2, 4096, spot=True)
        assert 0 <= least <= most < float("inf")


PRICES = json.loads((Path(batch.__file__).parent / "prices.json").read_text())
numbered = st.floats(0, 1e6) | st.integers(0, 9)


@st.composite
def price_lists(draw: st.DrawFn) -> Any:
    values = json.loads(json.dumps(PRICES))
    values["s3"] = {name: draw(numbered) for name in values["s3"]}
    values["fargate"]["vcpu_hour"] = draw(numbered)
    return draw(mutated_json([values])) if draw(st.booleans()) else values


commands = st.sampled_from(["status", "cancel", "logs", "resume"])

TARGETS = [
    Target("batch's command lines", batch_lines(), quietly(command_batch), 4, results=0.3, places=8),
    Target("records of runs", st.tuples(commands, records()), quietly(read_record), 4, results=0.3, places=10),
    Target("answers of AWS Batch", aws_answers(), quietly(hear_answers), 4, results=0.25, places=6),
    Target("prices", price_lists(), price, 2, results=0.4, places=2),
]
