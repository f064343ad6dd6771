"""What is sent to AWS Batch for a run, checked as botocore checks it before it sends anything."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from batch.phases import ARRAYS, PHASES, Phase
from batch.requests import Resources, Run, check_place, definition_with_secret, request_of
from batch.retry import COMPUTE, Compute, retry_strategy
from nd_synapse.cli.run_options import job_from, parser
from nd_synapse.errors import UsageError
from tests.batch.examples import a_run

TOKEN = "b055b055b055b055b055b055b055b055b055b055"


@cache
def model() -> Any:
    """Return what botocore knows of AWS Batch."""
    return get_session().get_service_model("batch")


def complaints(operation: str, request: dict[str, Any]) -> str:
    """Return what botocore has to say against a request."""
    shape = model().operation_model(operation).input_shape
    assert set(request) <= set(shape.members), "a name that Batch does not know"
    report = ParamValidator().validate(request, shape)
    return str(report.generate_report())


def words_after(command: list[str], option: str) -> str:
    """Return the value of an option."""
    return command[command.index(option) + 1]


@pytest.mark.parametrize("compute", COMPUTE)
@pytest.mark.parametrize("shards", [1, 2, 10_000])
def test_every_request_of_a_run_is_one_that_batch_takes(compute: Compute, shards: int) -> None:
    run = a_run(compute=compute, shards=shards, blocks=32_000, tags={"project": "cleft"})
    for phase in run.phases:
        request = request_of(run, phase, after="1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")
        assert complaints("SubmitJob", request) == ""
        assert request["retryStrategy"] == retry_strategy(compute, 5)
        assert request["tags"] == {"project": "cleft", "nd-synapse-run": run.run_id}
        assert request["propagateTags"] is True
        assert len(request["jobName"]) <= 128


def test_a_run_is_four_arrays_and_two_jobs_each_after_the_one_before() -> None:
    run = a_run()
    assert run.phases == ("statistics", "detection", "contacts", "join", "objects", "report")
    assert ARRAYS == ("statistics", "detection", "contacts", "objects", "push")
    after_each: list[str | None] = [None, *"abcde"]
    requests = [request_of(run, phase, after) for phase, after in zip(run.phases, after_each, strict=True)]  # type: ignore[arg-type] # names of jobs
    sizes = [request.get("arrayProperties", {}).get("size") for request in requests]
    assert sizes == [4, 4, 4, None, 4, None]
    after = [request.get("dependsOn") for request in requests]
    assert after == [None, *([{"jobId": job}] for job in "abcde")]
    times = [request["timeout"]["attemptDurationSeconds"] for request in requests]
    assert times == [7200, 7200, 7200, 3600, 7200, 3600]
    commands = [request["containerOverrides"]["command"] for request in requests]
    assert [words_after(command, "--phase") for command in commands] == list(run.phases)
    assert [words_after(command, "--cpus") for command in commands] == ["4", "4", "4", "2", "4", "2"]
    # a job that is no array learns from the sums of so many, too
    assert {words_after(command, "--shards") for command in commands} == {"4"}


def test_only_a_run_that_pushes_has_an_array_for_it() -> None:
    run = a_run(pushes=True)
    assert run.phases == ("statistics", "detection", "contacts", "join", "objects", "push", "report")
    assert request_of(run, "push", "a")["arrayProperties"] == {"size": 4}
    assert a_run(pushes=True, shards=1).phases == ("report",)


def test_an_array_of_one_is_no_array() -> None:
    """Batch refuses it; the job of the report does all then, and keeps what it finished in the same place."""
    run = a_run(shards=1)
    assert run.phases == ("report",)
    request = request_of(run, "report")
    assert "arrayProperties" not in request
    assert "dependsOn" not in request
    assert words_after(request["containerOverrides"]["command"], "--shared") == run.address


@pytest.mark.parametrize("phase", PHASES)
def test_driver_takes_the_command_and_means_what_the_run_means(phase: Phase) -> None:
    ranges = ("--z-range", "0,32", "--y-range", "0,256", "--x-range", "0,512")
    run = a_run(options=(*a_run().options, *ranges))
    command = request_of(run, phase)["containerOverrides"]["command"]
    assert command[:2] == ["python3", "driver.py"]
    environment = {"BOSS_TOKEN": TOKEN, "AWS_BATCH_JOB_ARRAY_INDEX": "3"}
    job = job_from(parser().parse_args(command[2:]), environment)
    assert (job.box, job.block_size, job.shared) == (run.box, run.block_size, run.address)
    if phase == "report":
        assert job.part is None
    else:
        assert job.part is not None
        assert (job.part.phase, job.part.index, job.part.count) == (phase, 3 if phase in ARRAYS else 0, 4)


def test_the_users_own_cores_and_pulls_stay() -> None:
    run = a_run(options=("--cpus=3", "--pulls", "2"))
    command = request_of(run, "detection")["containerOverrides"]["command"]
    assert [word for word in command if word.startswith(("--cpus", "--pulls"))] == ["--cpus=3", "--pulls"]


def test_a_command_that_batch_refuses_for_its_length_is_refused() -> None:
    run = a_run(options=("--param", f"query={'x' * 9000}"))
    with pytest.raises(UsageError, match="takes 8,192"):
        request_of(run, "report")


@pytest.mark.parametrize("name", ["", "-run", "a run", "a" * 81, "run/1", "läufe"])
def test_names_that_no_job_can_have_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits and hyphens"):
        check_place(name, "runs")


@pytest.mark.parametrize("prefix", ["", "/runs", "runs/", "runs//1", "runs/a b"])
def test_prefixes_that_are_no_names_joined_by_slashes_are_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="joined by slashes"):
        check_place("run", prefix)


def test_parts_of_a_core_are_written_as_batch_reads_them() -> None:
    run = a_run(compute="FARGATE", child=Resources(0.25, 512, 600, 1))
    needs = request_of(run, "statistics")["containerOverrides"]["resourceRequirements"]
    assert needs == [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "512"}]


@given(
    shards=st.integers(1, 10_000),
    attempts=st.integers(1, 10),
    vcpus=st.sampled_from([0.25, 0.5, 1, 2, 16, 96]),
    memory=st.integers(4, 10**6),
    words=st.lists(st.text("abc-=,", min_size=1).filter(lambda word: not word.startswith("--t")), max_size=5),
)
def test_for_any_run_its_record_gives_it_back(
    shards: int, attempts: int, vcpus: float, memory: int, words: list[str]
) -> None:
    child = Resources(vcpus, memory, 60, 2, None)
    run = a_run(shards=shards, attempts=attempts, child=child, options=tuple(words), tags={"a": "b"})
    assert Run.from_json(json.loads(json.dumps(run.as_json()))) == run


def test_a_definition_is_registered_anew_with_another_secret_and_nothing_else() -> None:
    definition = {
        "jobDefinitionArn": "arn:aws:batch:us-east-1:1:job-definition/nd:3",
        "jobDefinitionName": "nd",
        "revision": 3,
        "status": "ACTIVE",
        "type": "container",
        "platformCapabilities": ["FARGATE"],
        "timeout": {"attemptDurationSeconds": 600},
        "containerProperties": {
            "image": "nd-synapse:1",
            "secrets": [{"name": "BOSS_TOKEN", "valueFrom": "old"}, {"name": "OTHER", "valueFrom": "kept"}],
        },
    }
    before = json.dumps(definition)
    arn = "arn:aws:secretsmanager:us-east-1:1:secret:mine"
    request = definition_with_secret(definition, arn)
    assert complaints("RegisterJobDefinition", request) == ""
    assert request["platformCapabilities"] == ["FARGATE"]
    assert request["containerProperties"]["secrets"] == [
        {"name": "OTHER", "valueFrom": "kept"},
        {"name": "BOSS_TOKEN", "valueFrom": arn},
    ]
    assert not {"jobDefinitionArn", "revision", "status"} & set(request)
    assert json.dumps(definition) == before
