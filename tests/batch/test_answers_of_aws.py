"""Jobs at work, refusals and silence, from an AWS that answers as scripted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from batch import client as batch_client
from batch import submission
from batch.client import BatchClient
from batch.phases import Phase
from batch.requests import request_of
from batch.runs import Records, Submitted
from batch.status import CANCELLED
from nd_synapse.errors import NDSynapseError, PermissionDeniedError, UnavailableError, UnknownNameError, UsageError
from tests.batch.examples import a_run
from tests.batch.fixtures import Script, scripted
from tests.batch.submitted import Place, Said
from tests.fixtures_s3 import S3Server


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt instead of four: the waits between them are botocore's, not ours."""
    once = {"retries": {"mode": "standard", "total_max_attempts": 1}}
    monkeypatch.setattr(batch_client, "_READING", batch_client._READING.merge(Config(**once)))


@pytest.fixture
def script(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Let S3 be moto's, and all else answer as the test wishes."""
    script = Script()
    with scripted(script) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        yield script


@pytest.fixture
def recorded(place: Place) -> list[Submitted]:
    """A run of which three jobs were submitted."""
    records = Records(place.address)
    records.claim(replace(a_run(), prefix=f"runs/{place.name}"), "us-east-1", "then")
    phases: tuple[Phase, ...] = ("statistics", "detection", "report")
    jobs = [Submitted(1, phase, f"job-{phase}") for phase in phases]
    for job in jobs:
        records.add(job)
    return jobs


def answered(**states: str) -> tuple[int, dict[str, Any]]:
    """Answer that jobs are in these states."""
    return 200, {"jobs": [{"jobId": f"job-{phase}", "status": state} for phase, state in states.items()]}


class TestScripted:
    """What moto cannot show: jobs at work, refusals, silence."""

    def test_cancel_ends_what_waits_before_what_it_waits_for(
        self, script: Script, recorded: list[Submitted], command: Callable[..., Said], place: Place
    ) -> None:
        script.answers["describejobs"] = answered(statistics="SUCCEEDED", detection="RUNNING", report="PENDING")
        said = command("cancel", place.address)
        assert said.code == 0, said.err
        assert script.of("terminatejob") == [
            {"jobId": "job-report", "reason": CANCELLED},
            {"jobId": "job-detection", "reason": CANCELLED},
        ]
        assert said.out.endswith(f"nd-synapse batch resume {place.address}\n")

    @pytest.mark.slow
    def test_cancel_ends_what_batch_does_not_list_yet(
        self, script: Script, recorded: list[Submitted], command: Callable[..., Said], place: Place
    ) -> None:
        """A job that was submitted a moment ago is not described, and would run on."""
        script.answers["describejobs"] = answered(statistics="SUBMITTED")
        assert command("cancel", place.address).code == 0
        assert [body["jobId"] for body in script.of("terminatejob")] == [
            *("job-report", "job-detection", "job-statistics")
        ]

    def test_cancel_passes_over_what_batch_has_forgotten(
        self, script: Script, recorded: list[Submitted], command: Callable[..., Said], place: Place
    ) -> None:
        script.answers["describejobs"] = (200, {"jobs": []})
        script.answers["terminatejob"] = (400, {"code": "ClientException", "message": "Job does not exist"})
        said = command("cancel", place.address)
        assert (said.code, said.out) == (0, "all had ended\n")

    def test_resume_of_a_run_at_work_is_refused(
        self, script: Script, recorded: list[Submitted], command: Callable[..., Said], place: Place
    ) -> None:
        script.answers["describejobs"] = answered(statistics="SUCCEEDED", detection="RUNNABLE", report="PENDING")
        said = command("resume", place.address, "--yes")
        assert said.code == 2
        assert "detection, report" in said.err
        assert script.of("submitjob") == []

    @pytest.mark.slow
    def test_a_run_that_cannot_be_submitted_as_a_whole_is_not_submitted_in_parts(
        self, script: Script, recorded: list[Submitted], place: Place
    ) -> None:
        """The second job is refused, since its note is there already: the first is ended."""
        script.answers["submitjob"] = (200, {"jobId": "new", "jobName": "n", "jobArn": "a"})
        run, region, _ = Records(place.address).read()
        Records(place.address).add(Submitted(2, "detection", "of somebody else"))
        with pytest.raises(UsageError, match="somebody else"):
            submission.submit(run, run.phases, 2, BatchClient(region), Records(place.address))
        assert [body["jobId"] for body in script.of("terminatejob")] == ["new", "new"]

    def test_logs_are_those_of_children_that_failed(
        self, script: Script, recorded: list[Submitted], command: Callable[..., Said], place: Place
    ) -> None:
        container = {"logStreamName": "nd/default/7", "logConfiguration": {"logDriver": "awslogs"}}
        container["logConfiguration"]["options"] = {"awslogs-group": "/nd"}  # type: ignore[index] # a dictionary in a dictionary
        children = [
            {"jobId": f"job-detection:{i}", "status": state, "arrayProperties": {"index": i}, "container": container}
            for i, state in enumerate(["SUCCEEDED", "FAILED"])
        ]
        script.answers["describejobs"] = (200, {"jobs": children})
        script.answers["getlogevents"] = (200, {"events": [{"message": "one\n"}, {"message": "two"}]})
        said = command("logs", place.address, "--phase", "detection", "--lines", "2")
        assert said.out == "detection 1: failed, log nd/default/7\n  one\n  two\n"
        assert script.of("getlogevents") == [
            {"logGroupName": "/nd", "logStreamName": "nd/default/7", "limit": 2, "startFromHead": False}
        ]

    @pytest.mark.slow
    def test_nothing_that_aws_says_steers_the_terminal(
        self, script: Script, recorded: list[Submitted], command: Callable[..., Said], place: Place
    ) -> None:
        """Containers write what they like, and so does anyone who ends a job."""
        job = {
            "jobId": "job-report",
            "status": "FAILED",
            "statusReason": "ended\n\x1b]0;title\x07",
            "container": {"logStreamName": "nd/\x1b[2J", "logConfiguration": {"options": {"awslogs-group": "/nd"}}},
        }
        script.answers["describejobs"] = (200, {"jobs": [job]})
        script.answers["getlogevents"] = (200, {"events": [{"message": "a\tb\x1b[31m\r\nstatus  all is well\x9b\n"}]})
        said = command("logs", place.address, "--phase", "report")
        assert said.out.splitlines() == [
            *("report: failed, log nd/\\x1b[2J", "  a\tb\\x1b[31m\\r", "  status  all is well\\x9b")
        ]
        assert "  ended\\n\\x1b]0;title\\x07\n" in command("status", place.address).out
        script.answers["describejobs"] = (400, {"code": "ClientException", "message": "no \x1b[31m\nsuch"})
        said = command("cancel", place.address)
        assert (said.code, "\x1b" in said.err, len(said.err.splitlines())) == (2, False, 1)

    def test_children_are_described_a_hundred_at_a_time(self, script: Script) -> None:
        script.answers["describejobs"] = (200, {"jobs": []})
        BatchClient("us-east-1").describe([f"array:{index}" for index in range(250)])
        assert [len(body["jobs"]) for body in script.of("describejobs")] == [100, 100, 50]

    @pytest.mark.usefixtures("hurried")
    def test_an_error_response_of_aws_is_named_with_its_code(self, script: Script) -> None:
        script.answers["describejobs"] = (403, {"code": "AccessDeniedException", "message": "as the test wishes"})
        with pytest.raises(PermissionDeniedError, match=r"AccessDeniedException \(as the test wishes\)"):
            BatchClient("us-east-1").describe(["a-job"])

    @pytest.mark.parametrize("status", [429, 500])
    def test_a_submission_is_sent_once(self, script: Script, status: int) -> None:
        """Sent again after an answer that was lost, it would be a second job."""
        script.answers["submitjob"] = (status, {"code": "ServerException", "message": "as the test wishes"})
        with pytest.raises(UnavailableError):
            BatchClient("us-east-1").submit(request_of(a_run(), "report"))
        assert len(script.of("submitjob")) == 1

    @pytest.mark.usefixtures("hurried", "aws")
    def test_an_aws_that_is_not_there_is_unavailable(self, monkeypatch: pytest.MonkeyPatch, s3_nowhere: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_nowhere)
        with pytest.raises(UnavailableError, match="Could not connect"):
            BatchClient("us-east-1").describe(["a-job"])

    @pytest.mark.usefixtures("aws")
    def test_a_region_that_cannot_be_is_a_usage_error(self) -> None:
        with pytest.raises(UsageError):
            BatchClient("no where").describe(["a-job"])

    def test_a_log_that_is_not_there_is_an_unknown_name(self, script: Script) -> None:
        answer = {"code": "ResourceNotFoundException", "message": "The specified log stream does not exist."}
        script.answers["getlogevents"] = (400, answer)
        with pytest.raises(UnknownNameError, match="log stream"):
            list(BatchClient("us-east-1").log_lines("/nd", "gone", 5))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDeniedException", PermissionDeniedError),
        (403, "UnrecognizedClientException", PermissionDeniedError),
        (400, "ExpiredTokenException", PermissionDeniedError),
        (429, "TooManyRequestsException", UnavailableError),
        (400, "ThrottlingException", UnavailableError),
        (500, "ServerException", UnavailableError),
        (503, "ServiceUnavailable", UnavailableError),
        (400, "ResourceNotFoundException", UnknownNameError),
        (400, "ClientException", UsageError),
    ],
)
def test_each_answer_of_aws_has_one_class(status: int, code: str, kind: type[NDSynapseError]) -> None:
    answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    found, words, remedy = batch_client._meaning(ClientError(answer, "DescribeJobs"))
    assert found is kind
    assert code in words
    assert remedy
