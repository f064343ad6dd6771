"""`nd-synapse batch`, against a local BOSS and moto's Batch and S3, or an AWS that answers as scripted."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from batch import actions as batch_actions
from batch import client as batch_client
from batch import submission
from batch.arguments import for_container
from batch.client import BatchClient
from batch.command import main
from batch.phases import PHASES, Phase
from batch.requests import Run, request_of
from batch.runs import Records, Submitted
from batch.status import CANCELLED
from nd_synapse import logs
from nd_synapse.errors import NDSynapseError, PermissionDeniedError, UnavailableError, UnknownNameError, UsageError
from tests.batch.examples import a_run, keys_of
from tests.batch.fixtures import BUCKET, SECRET_ARN, Script, account, aws, client, define, scripted, volume
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer
from tests.fixtures_s3 import S3Server

__all__ = ["account", "aws", "volume"]

LIMIT_S = 120
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str


KINDS = tuple(
    f"{kind}-0123456789abcdef" for kind in ("statistics", "parts", "contacts-parts", "joined-parts", "objects-parts")
)
"""What says that a block is finished, phase by phase."""


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Said]]:
    """Run a command in this process, and give signals and logs back as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.delenv("RESULTS_BUCKET", raising=False)

    def run(*words: str) -> Said:
        capsys.readouterr()
        # a command takes the token out of the environment
        with mock.patch.dict(os.environ):
            code = main(words)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    yield run
    logs.apply(None)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt instead of four: the waits between them are botocore's, not ours."""
    once = {"retries": {"mode": "standard", "total_max_attempts": 1}}
    monkeypatch.setattr(batch_client, "_READING", batch_client._READING.merge(Config(**once)))


@pytest.fixture
def requested(volume: BossServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of driver.py for the small volume, its token in the environment."""
    monkeypatch.setenv("BOSS_TOKEN", volume.token)
    ranges = ["--z-range", "0,8", "--y-range", "0,60", "--x-range", "0,70"]
    return ["--host", volume.url, "--col", "lab", "--exp", "slice", *ranges, "--block-size", "8,32,32", "--no-push"]


@dataclass(frozen=True)
class Place:
    """A run that nobody else has, and what is in its place."""

    name: str
    server: S3Server

    @property
    def address(self) -> str:
        """Return its address."""
        return f"s3://{BUCKET}/runs/{self.name}"

    @property
    def submit(self) -> list[str]:
        """Return the command that submits it, without what it is to do."""
        words = ["submit", "--queue", "nd", "--job-definition", "nd", "--run-bucket", BUCKET, "--run", self.name]
        return [*words, "--yes"]

    def objects(self, start: str = "") -> list[str]:
        """Return what is there that begins so."""
        prefix = f"runs/{self.name}/"
        found = client(self.server, "s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}{start}").get("Contents", [])
        return [entry["Key"].removeprefix(prefix) for entry in found]

    def text(self, key: str) -> str:
        """Return what an object holds."""
        answer = client(self.server, "s3").get_object(Bucket=BUCKET, Key=f"runs/{self.name}/{key}")
        return str(answer["Body"].read().decode())

    def job(self, phase: Phase, number: int = 1) -> str:
        """Return the id of a job that the record has."""
        return str(json.loads(self.text(f"jobs/{number:03}-{phase}.json"))["job_id"])

    def described(self, *ids: str) -> list[dict[str, Any]]:
        """Return what Batch says of jobs."""
        return list(client(self.server, "batch").describe_jobs(jobs=list(ids))["jobs"])

    def run(self) -> Run:
        """Return the run of the record."""
        return Records(self.address).read()[0]

    def finish(self, kind: str, blocks: slice) -> None:
        """Commit blocks as children do."""
        for key in keys_of(self.run())[blocks]:
            client(self.server, "s3").put_object(Bucket=BUCKET, Key=f"runs/{self.name}/{kind}/{key}.npz", Body=b"")


@pytest.fixture
def place(aws: S3Server) -> Place:
    return Place(f"run-{next(_numbers)}", aws)


class TestPlan:
    """`plan`."""

    def test_the_plan_is_printed_and_nothing_is_submitted(
        self, command: Callable[..., Said], requested: list[str]
    ) -> None:
        """It needs no AWS at all."""
        said = command("plan", *requested)
        assert said.code == 0, said.err
        assert "blocks" in said.out
        assert "USD" in said.out

    @pytest.mark.parametrize("compute", ["ec2", "fargate"])
    def test_the_plan_is_json_too(self, command: Callable[..., Said], requested: list[str], compute: str) -> None:
        said = command("plan", "--json", "--compute", compute, "--shards", "3", *requested)
        plan = json.loads(said.out)
        assert (plan["shards"], plan["compute"], plan["blocks"]) == (3, compute.upper(), 6)


class TestSubmit:
    """`submit`, against moto."""

    def test_a_run_is_a_job_a_phase(self, command: Callable[..., Said], requested: list[str], place: Place) -> None:
        said = command(*place.submit, "--shards", "3", "--tag", "project=cleft", *requested)
        assert said.code == 0, said.err
        assert said.out.splitlines()[-1] == f"nd-synapse batch status {place.address}"
        assert sorted(place.objects()) == [
            *(f"jobs/001-{phase}.json" for phase in sorted({*PHASES} - {"push"})),
            "run.json",
        ]
        (report,) = place.described(place.job("report"))
        assert report["dependsOn"] == [{"jobId": place.job("objects")}]
        assert report["tags"] == {"project": "cleft", "nd-synapse-run": place.name}
        assert len(place.described(*(f"{place.job('statistics')}:{index}" for index in range(3)))) == 3

    def test_a_run_that_one_machine_does_in_minutes_is_one_job(
        self, command: Callable[..., Said], requested: list[str], place: Place
    ) -> None:
        said = command(*place.submit, *requested)
        assert said.code == 0, said.err
        assert sorted(place.objects()) == ["jobs/001-report.json", "run.json"]

    @pytest.mark.slow
    def test_the_token_is_nowhere(
        self, command: Callable[..., Said], requested: list[str], volume: BossServer, tmp_path: Path, place: Place
    ) -> None:
        """Not in the record, a description, a definition, or what is printed; its file is not named either."""
        file = tmp_path / "boss_token"
        file.write_text(volume.token)
        file.chmod(0o600)
        said = command(*place.submit, "--shards", "2", "--verbose", "--token-file", str(file), *requested)
        assert said.code == 0, said.err
        bodies = [place.text(key) for key in place.objects()]
        jobs = place.described(*(place.job(phase) for phase in place.run().phases))
        definitions = client(place.server, "batch").describe_job_definitions()
        everything = "".join([said.out, said.err, *bodies, json.dumps([jobs, definitions], default=str)])
        assert volume.token not in everything
        assert "boss_token" not in everything.replace("BOSS_TOKEN", "")

    @pytest.mark.parametrize("form", ["--token {}", "--token={}"])
    def test_a_token_on_the_command_line_is_refused(
        self, command: Callable[..., Said], requested: list[str], volume: BossServer, form: str, place: Place
    ) -> None:
        said = command(*place.submit, *requested, *form.format(volume.token).split())
        assert said.code == 2
        assert "Secrets Manager" in said.err
        assert volume.token not in said.out + said.err
        assert place.objects() == []

    @pytest.mark.slow
    def test_a_name_that_is_taken_is_refused_before_anything_is_submitted(
        self, command: Callable[..., Said], requested: list[str], place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also in the same second, when all that the two records say is the same."""
        monkeypatch.setattr(batch_actions, "datetime", mock.Mock(now=lambda zone: datetime(2026, 1, 2, tzinfo=zone)))
        command(*place.submit, *requested)
        first = place.job("report")
        said = command(*place.submit, *requested)
        assert said.code == 2
        assert f"resume {place.address}" in said.err
        assert place.job("report") == first

    @pytest.mark.slow
    def test_a_record_of_which_nothing_was_submitted_is_taken_over_by_the_same_command(
        self, command: Callable[..., Said], requested: list[str], place: Place
    ) -> None:
        """As it is when a submission ended between the two."""
        command(*place.submit, *requested)
        client(place.server, "s3").delete_object(Bucket=BUCKET, Key=f"runs/{place.name}/jobs/001-report.json")
        assert command(*place.submit, *requested, "--attempts", "2").code == 2, "it asks for something else"
        said = command(*place.submit, *requested)
        assert said.code == 0, said.err
        assert sorted(place.objects()) == ["jobs/001-report.json", "run.json"]

    @pytest.mark.slow
    def test_another_secret_makes_another_revision_of_the_definition(
        self, command: Callable[..., Said], requested: list[str], place: Place
    ) -> None:
        define(client(place.server, "batch"), "bare")
        words = [*place.submit, *requested, "--job-definition", "bare"]
        refused = command(*words)
        assert refused.code == 2
        assert "has no secret BOSS_TOKEN" in refused.err
        said = command(*words, "--secret", SECRET_ARN)
        assert said.code == 0, said.err
        known = client(place.server, "batch").describe_job_definitions(jobDefinitions=[place.run().job_definition])
        (definition,) = known["jobDefinitions"]
        assert definition["revision"] == 2
        assert definition["containerProperties"]["secrets"] == [{"name": "BOSS_TOKEN", "valueFrom": SECRET_ARN}]

    def test_a_definition_with_the_token_in_plain_sight_is_refused(
        self, command: Callable[..., Said], requested: list[str], place: Place
    ) -> None:
        define(client(place.server, "batch"), "open", environment=[{"name": "BOSS_TOKEN", "value": "b055" * 10}])
        said = command(*place.submit, *requested, "--job-definition", "open", "--secret", SECRET_ARN)
        assert said.code == 2
        assert "in its environment" in said.err
        assert "b055" * 10 not in said.err

    @pytest.mark.parametrize(
        ("words", "code", "found"),
        [
            (["--job-definition", "none"], 2, "none that is active"),
            (["--queue", "none"], 2, "job queue none: there is none"),
            (["--run-bucket", "no-such-bucket"], 2, "NoSuchBucket"),
            pytest.param(["--tag", "project"], 2, "NAME=VALUE", marks=pytest.mark.slow),
            (["--shards", "7"], 2, "7 shards of 6 blocks"),
        ],
    )
    def test_a_mistake_is_one_message_and_leaves_nothing(
        self, command: Callable[..., Said], requested: list[str], words: list[str], code: int, found: str, place: Place
    ) -> None:
        said = command(*place.submit, *requested, *words)
        assert said.code == code
        assert found in said.err
        assert "Traceback" not in said.err
        assert place.objects() == []

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            (["--attempts", "0"], "--attempts: 0 is not a whole number from 1 to 10. Give a number from 1 to 10"),
            (["--memory-mib=-1"], "--memory-mib: -1 is not a whole number from 512"),
            (["--run", "a/../b"], "letters, digits and hyphens"),
            (["--run", ""], "letters, digits and hyphens"),
            (["--run-prefix", "../.."], "it is not names joined by slashes"),
            (["--bucket", "BAD_"], "no bucket has such a name"),
            (["--acl", "zzz"], "S3 has no such canned ACL"),
            (["--no-upload"], "nothing would be left of it"),
        ],
    )
    def test_what_can_be_known_without_aws_is_refused_before_it_is_asked(
        self,
        command: Callable[..., Said],
        requested: list[str],
        words: list[str],
        found: str,
        place: Place,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("batch.actions.BatchClient", lambda: pytest.fail("AWS was asked"))
        said = command(*place.submit, *requested, *words)
        assert said.code == 2
        assert found in said.err

    @pytest.mark.slow
    def test_without_yes_and_a_terminal_nothing_is_submitted(
        self, command: Callable[..., Said], requested: list[str], place: Place
    ) -> None:
        said = command(*[word for word in place.submit if word != "--yes"], *requested)
        assert said.code == 2
        assert "Give --yes" in said.err
        assert "USD" in said.out, "the cost is printed before the question"
        assert place.objects() == []


class TestFollow:
    """`status`, `logs`, `cancel` and `resume`, against moto."""

    @pytest.fixture(autouse=True)
    def submitted(self, command: Callable[..., Said], requested: list[str], place: Place) -> None:
        """Submit a run of 6 blocks in 3 shards."""
        assert command(*place.submit, "--shards", "3", *requested).code == 0

    @pytest.mark.slow
    def test_status_counts_what_is_committed(self, command: Callable[..., Said], place: Place) -> None:
        place.finish("statistics-0123456789abcdef", slice(6))
        place.finish("parts-0123456789abcdef", slice(3))
        said = command("status", place.address)
        assert said.code == 0, said.err
        assert "statistics  3 succeeded; 6 of 6 blocks, 3 of 3 shards complete" in said.out
        assert "detection   3 succeeded; 3 of 6 blocks, 1 of 3 shards complete" in said.out
        assert "report      1 succeeded" in said.out

    def test_cancel_of_a_run_that_ended_says_so(self, command: Callable[..., Said], place: Place) -> None:
        assert command("cancel", place.address).out == "all had ended\n"

    @pytest.mark.slow
    def test_resume_submits_the_arrays_that_lack_blocks_and_the_report(
        self, command: Callable[..., Said], place: Place
    ) -> None:
        for kind in KINDS:
            place.finish(kind, slice(5 if kind.startswith("parts") else 6))
        said = command("resume", place.address, "--yes")
        assert said.code == 0, said.err
        assert place.objects("jobs/002") == [
            "jobs/002-detection.json",
            "jobs/002-report.json",
        ]
        (report,) = place.described(place.job("report", 2))
        assert report["dependsOn"] == [{"jobId": place.job("detection", 2)}]
        assert "detection   3 succeeded" in command("status", place.address).out

    @pytest.mark.slow
    def test_resume_of_a_complete_run_submits_nothing(self, command: Callable[..., Said], place: Place) -> None:
        for kind in KINDS:
            place.finish(kind, slice(6))
        assert command("resume", place.address, "--yes").out == "nothing is missing\n"

    @pytest.mark.slow
    def test_resume_can_leave_what_is_missing_to_the_report(self, command: Callable[..., Said], place: Place) -> None:
        said = command("resume", place.address, "--report-only", "--yes", "--memory-mib", "64000")
        assert said.code == 0, said.err
        assert place.objects("jobs/002") == ["jobs/002-report.json"]

    @pytest.mark.slow
    def test_resume_can_take_a_mended_image(self, command: Callable[..., Said], place: Place) -> None:
        batch = client(place.server, "batch")
        define(batch, "mended", secrets=[{"name": "BOSS_TOKEN", "valueFrom": SECRET_ARN}])
        place.finish("statistics-0123456789abcdef", slice(6))
        said = command("resume", place.address, "--yes", "--job-definition", "mended")
        assert said.code == 0, said.err
        assert len(place.objects("jobs/002")) == len(PHASES) - 1, "its code may use nothing of what is finished"
        (report,) = place.described(place.job("report", 2))
        assert "job-definition/mended:" in report["jobDefinition"]

    def test_logs_of_a_job_that_wrote_none_are_an_error(self, command: Callable[..., Said], place: Place) -> None:
        said = command("logs", place.address, "--phase", "detection")
        assert said.code == 2
        assert "--shard" in said.err


@pytest.mark.slow
def test_the_commands_of_an_array_leave_what_one_job_leaves(
    command: Callable[..., Said],
    requested: list[str],
    volume: BossServer,
    place: Place,
    tmp_path: Path,
) -> None:
    """Each container's command is run here as Batch would run it; the result folders in S3 are the same bytes."""
    assert command(*place.submit, "--shards", "3", *requested).code == 0
    run, _, _ = Records(place.address).read()

    def contained(words: list[str], name: str, **environment: str) -> None:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / words[1]), *words[2:], "--path", str(tmp_path / name)],
            cwd=tmp_path,
            env={**os.environ, "BOSS_TOKEN": volume.token, **environment},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    for phase in run.phases:
        words = request_of(run, phase)["containerOverrides"]["command"]
        for index in range(run.children(phase)):
            contained(words, f"{phase}-{index}", AWS_BATCH_JOB_ARRAY_INDEX=str(index))
    said = command("status", place.address)
    assert "statistics  3 succeeded; 6 of 6 blocks, 3 of 3 shards complete" in said.out
    assert "detection   3 succeeded; 6 of 6 blocks, 3 of 3 shards complete" in said.out
    assert command("resume", place.address, "--yes").out == "nothing is missing\n"
    client(place.server, "s3").create_bucket(Bucket="one-job")
    contained(["python3", "driver.py", *requested, "--bucket", "one-job"], "single")
    (key,) = {name.partition("/")[0] for name in place.server.keys("one-job")}
    s3 = client(place.server, "s3")
    for name in ("synapses.csv", "nomads-unsupervised-predictions.ome.tiff"):
        parts, whole = (
            s3.get_object(Bucket=bucket, Key=f"{key}/{name}")["Body"].read() for bucket in (BUCKET, "one-job")
        )
        assert parts == whole, name


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
        container["logConfiguration"]["options"] = {"awslogs-group": "/nd"}  # type: ignore[index]
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


def a_definition(**others: Any) -> dict[str, Any]:
    """Return a job definition as Batch describes it."""
    container = {"secrets": [{"name": "BOSS_TOKEN", "valueFrom": SECRET_ARN}]}
    return {"jobDefinitionName": "nd", "revision": 1, "containerProperties": container, **others}


class TestDefinitions:
    """What is looked at in a job definition, from plain values."""

    def test_one_that_is_not_of_a_single_container_is_refused(self) -> None:
        definition = {"jobDefinitionName": "many", "type": "multinode", "nodeProperties": {}}
        with pytest.raises(UsageError, match="job definition many: it is not for a single container"):
            submission.check_definition(definition, None)

    @pytest.mark.parametrize(
        ("storage", "disk_gib", "is_refused"),
        [(None, 20, False), (None, 21, True), ({"sizeInGiB": 100}, 100, False), ({"sizeInGiB": 100}, 101, True)],
    )
    def test_one_of_fargate_has_the_disk_that_is_needed(
        self, storage: dict[str, int] | None, disk_gib: int, is_refused: bool
    ) -> None:
        definition = a_definition(platformCapabilities=["FARGATE"])
        if storage is not None:
            definition["containerProperties"]["ephemeralStorage"] = storage
        if not is_refused:
            submission.check_disk(definition, disk_gib)
            return
        with pytest.raises(UsageError, match=f"FargateGiB={disk_gib}"):
            submission.check_disk(definition, disk_gib)

    def test_machines_of_ec2_have_what_disk_they_have(self) -> None:
        submission.check_disk(a_definition(platformCapabilities=["EC2"]), 5000)

    STACK = a_definition(tags={"nd-synapse-bucket": "mine", "nd-synapse-results": "probabilistic_ own_"})

    @pytest.mark.parametrize(
        ("bucket", "prefix", "results", "found"),
        [
            ("other", "runs", None, "--run-bucket other"),
            ("mine", "runs", ("other", "own_a"), "--bucket other"),
            ("mine", "elsewhere", None, "--run-prefix elsewhere"),
            ("mine", "runs2", None, "--run-prefix runs2"),
            ("mine", "runs", ("mine", "another_a"), "OwnPipelinePrefix"),
        ],
    )
    def test_what_the_stack_gives_no_right_to_is_refused(
        self, bucket: str, prefix: str, results: tuple[str, str] | None, found: str
    ) -> None:
        with pytest.raises(UsageError, match=found):
            submission.check_rights(self.STACK, bucket, prefix, results)
        submission.check_rights(a_definition(), bucket, prefix, results)

    @pytest.mark.parametrize(
        ("out", "found"), [(("others", "p_x"), "may write to mine only"), (("mine", "lab"), "under")]
    )
    def test_a_place_beside_the_results_needs_the_same_rights(self, out: tuple[str, str], found: str) -> None:
        with pytest.raises(UsageError, match=found):
            submission.check_rights(self.STACK, "mine", "runs", None, out)

    @pytest.mark.parametrize("prefix", ["runs", "/runs/", "runs/of/mine"])
    @pytest.mark.parametrize("results", [None, ("mine", "own_a"), ("mine", "probabilistic_a")])
    def test_what_the_stack_gives_a_right_to_is_not(self, prefix: str, results: tuple[str, str] | None) -> None:
        submission.check_rights(self.STACK, "mine", prefix, results)

    def test_a_run_goes_on_with_a_definition_of_the_same_kind_alone(self) -> None:
        submission.check_other(a_definition(), a_run())
        with pytest.raises(UsageError, match="it is for FARGATE"):
            submission.check_other(a_definition(platformCapabilities=["FARGATE"]), a_run())


class TestWords:
    """What of the user's words reaches a container."""

    @pytest.mark.parametrize(
        "words",
        [
            *(["--fresh"], ["--dry-run"], ["--path", "x"], ["--path=x"], ["--shared", "s3://abc/d"], ["--shard=1"]),
            *(["--phase", "report"], ["--config", "neurodata.cfg"], ["--list-pipelines"], ["--source", "a.zarr"]),
        ],
    )
    def test_options_that_mean_nothing_in_a_container_are_refused(self, words: list[str]) -> None:
        with pytest.raises(UsageError, match="on AWS Batch") as caught:
            for_container(["--col", "lab", *words], None)
        assert words[0].partition("=")[0] in str(caught.value)

    def test_options_that_are_of_use_here_alone_are_left_out(self) -> None:
        words = ["--token-file", "t", "--block-size=8,8,8", "--quiet", "--token-file=t", "--exp", "slice"]
        assert for_container(words, None) == ("--quiet", "--exp", "slice")

    def test_a_volume_in_a_bucket_is_read_by_the_containers(self) -> None:
        words = ["--source", "s3://lab/a.zarr", "--resolution=1"]
        assert for_container(words, None) == ("--source", "s3://lab/a.zarr", "--resolution", "1")

    def test_a_parameter_from_a_file_travels_as_its_text(self, tmp_path: Path) -> None:
        (tmp_path / "fold").write_text("4.5")
        assert for_container(["--param", f"fold=@{tmp_path / 'fold'}"], None) == ("--param", "fold=4.5")

    @pytest.mark.parametrize("words", [("--bucket", "mine"), ("--bucket=mine",), ("--no-upload",)])
    def test_where_results_go_is_the_users_choice(self, words: tuple[str, ...]) -> None:
        assert [word for word in for_container(words, "other") if "other" in word] == []
        assert for_container((), "other") == ("--bucket", "other")


class TestMissing:
    """What is submitted again, from plain values."""

    KEYS = frozenset(keys_of(a_run()))

    @pytest.mark.parametrize(
        ("statistics", "detection", "report", "wanted"),
        [
            (32, 32, "SUCCEEDED", []),
            (32, 32, "FAILED", ["report"]),
            (32, 32, None, ["report"]),
            (32, 31, "SUCCEEDED", ["detection", "report"]),
            (31, 32, "FAILED", ["statistics", "report"]),
            (0, 0, None, ["statistics", "detection", "report"]),
        ],
    )
    def test_phases_that_lack_blocks_are_done_again_and_the_report_after_them(
        self, statistics: int, detection: int, report: str | None, wanted: list[str]
    ) -> None:
        keys = sorted(self.KEYS)
        states: dict[Phase, str] = {} if report is None else {"report": report}
        finished: dict[Phase, set[str]] = {"statistics": set(keys[:statistics]), "detection": set(keys[:detection])}
        finished |= {"contacts": set(keys), "join": set(keys), "objects": set(keys)}
        assert submission.missing_phases(a_run(), states, finished) == wanted

    def test_what_failed_is_done_again_though_its_blocks_are_there(self) -> None:
        """An objects child may have left its objects, which are counted, and not yet their features."""
        finished = {phase: set(self.KEYS) for phase, traits in PHASES.items() if traits.finishes}
        states: dict[Phase, str] = {"join": "SUCCEEDED", "objects": "FAILED", "report": "FAILED"}
        assert submission.missing_phases(a_run(), states, finished) == ["objects", "report"]

    def test_a_push_that_failed_is_done_again(self) -> None:
        finished = {phase: set(self.KEYS) for phase, traits in PHASES.items() if traits.finishes}
        run = a_run(pushes=True)
        assert submission.missing_phases(run, {"push": "FAILED"}, finished) == ["push", "report"]
        assert submission.missing_phases(run, {"push": "SUCCEEDED", "report": "SUCCEEDED"}, finished) == []

    def test_what_is_not_counted_yet_is_done_in_the_order_of_the_phases(self) -> None:
        finished: dict[Phase, set[str]] = {"statistics": set(self.KEYS), "detection": set(self.KEYS)}
        assert submission.missing_phases(a_run(), {}, finished) == ["contacts", "join", "objects", "report"]

    def test_a_run_without_arrays_has_its_report_alone(self) -> None:
        run = a_run(shards=1)
        assert submission.missing_phases(run, {"report": "FAILED"}, {}) == ["report"]
        assert submission.missing_phases(run, {"report": "SUCCEEDED"}, {}) == []


def test_every_command_has_help(command: Callable[..., Said], capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], *([name, "--help"] for name in ("plan", "submit", "status", "logs", "cancel", "resume"))):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        assert "usage: nd-synapse batch" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["start"], ["status"], ["plan", "--colour"], ["submit", "--queue"]])
def test_a_wrong_command_line_is_one_message(command: Callable[..., Said], words: list[str]) -> None:
    said = command(*words)
    assert said.code == 2
    assert "--help" in said.err


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("name", "address", "found"),
    [
        ("status", "a-run", "s3://bucket/prefix"),
        ("cancel", "s3://A/b", "no bucket has such a name"),
        ("logs", f"s3://{BUCKET}/runs/other", "has no run.json"),
        ("status", f"s3://{BUCKET}/runs/other/", "runs/other: it has no run.json"),
        ("resume", "s3://no-such-bucket/runs/a-run", "has no run.json"),
    ],
)
def test_a_run_that_does_not_exist_is_refused(
    command: Callable[..., Said], name: str, address: str, found: str
) -> None:
    said = command(name, address)
    assert said.code == 2
    assert found in said.err


@pytest.mark.slow
def test_a_record_that_is_none_of_ours_is_refused(aws: S3Server, command: Callable[..., Said]) -> None:
    client(aws, "s3").put_object(Bucket=BUCKET, Key="runs/odd/run.json", Body=b'{"run": {}}')
    said = command("status", f"s3://{BUCKET}/runs/odd")
    assert said.code == 65
    assert "no record of this version" in said.err
