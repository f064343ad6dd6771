"""`plan` and `submit`: a run is a job a phase, and its commands leave what one job leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from unittest import mock

import pytest

from batch import actions as batch_actions
from batch.phases import PHASES
from batch.requests import request_of
from batch.runs import Records
from tests.batch.fixtures import BUCKET, SECRET_ARN, client, define
from tests.batch.submitted import Place, Said
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer

LIMIT_S = 120


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


@pytest.mark.slow
def test_the_commands_of_an_array_leave_what_one_job_leaves(
    command: Callable[..., Said],
    requested: list[str],
    volume: BossServer,
    place: Place,
    tmp_path: Path,
) -> None:
    """Each container's command is run here as Batch would run it; the result folders in S3 are the same bytes."""
    assert command(*place.submit, "--shards", "2", *requested).code == 0
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
    assert "statistics  2 succeeded; 6 of 6 blocks, 2 of 2 shards complete" in said.out
    assert "detection   2 succeeded; 6 of 6 blocks, 2 of 2 shards complete" in said.out
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
