"""`nd-synapse batch` follows a run to its end, against a local BOSS and moto's Batch and S3."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batch.command import main
from batch.phases import PHASES
from tests.batch.fixtures import BUCKET, SECRET_ARN, client, define
from tests.batch.submitted import Place, Said
from tests.fixtures_s3 import S3Server

KINDS = tuple(
    f"{kind}-0123456789abcdef" for kind in ("statistics", "parts", "contacts-parts", "joined-parts", "objects-parts")
)
"""What says that a block is finished, phase by phase."""


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
