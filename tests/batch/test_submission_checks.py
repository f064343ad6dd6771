"""What is looked at before anything is submitted, and what is submitted again, from plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch import submission
from batch.arguments import for_container
from batch.phases import PHASES, Phase
from nd_synapse.errors import UsageError
from tests.batch.examples import a_run, keys_of
from tests.batch.fixtures import SECRET_ARN


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
