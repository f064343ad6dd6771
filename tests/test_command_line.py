"""What is written on a command line is a value of ours, or is refused with the option, what it is, and what helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import driver
from nd_synapse.cli.run_options import job_from
from nd_synapse.config import read_neurodata_config
from nd_synapse.credentials import Token
from nd_synapse.errors import StorageError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.job import steps
from nd_synapse.job.job import Job
from nd_synapse.values import parse_gib, parse_int, parse_path, parse_range

TOKEN = "0123456789abcdef" * 2
RIGHT = {"--host": "a.b", "--col": "c", "--exp": "e", "--z-range": "0,4", "--y-range": "0,4", "--x-range": "0,4"}


def requested(*words: str, **environ: str) -> Job:
    """The job of a command line; what is given comes after what is right."""
    line = [*(word for pair in RIGHT.items() for word in pair), *words]
    return job_from(driver._options(line), {"BOSS_TOKEN": TOKEN, **environ})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cpus", "two"], "--cpus two: it is not a whole number from 1 to 1,024. Give a number from 1 to 1024"),
        (["--cpus", "0"], "--cpus 0: it is not within the limits. Give a number from 1 to 1024"),
        (["--pulls", "1e3"], "--pulls 1e3: it is not a whole number from 1 to 1,024"),
        (["--pulls", "\N{ARABIC-INDIC DIGIT THREE}"], "it is not a whole number"),
        (["--cpus", "1_0"], "--cpus 1_0: it is not a whole number"),
        (["--cpus", "+2"], "--cpus +2: it is not a whole number"),
        (["--cpus", " 2"], "--cpus  2: it is not a whole number"),
        (["--cpus", "9" * 5000], "it is not a whole number"),
        (["--shards", "none"], "--shards none: it is not a whole number from 1 to 1,000,000"),
        (["--shard=-1"], "--shard -1: it is not a whole number from 0 to 999,999"),
        (["--memory", "1_0"], "--memory 1_0: it is no size in GiB"),
        (["--memory", "+2"], "--memory +2: it is no size in GiB"),
        (["--memory", "nan"], "--memory nan: it is no size in GiB"),
        (["--cache", "1e-320"], "--cache 1e-320: it is no size in GiB above 0"),
        (["--z-range", "-1,4"], "--z-range has no value; one that begins with - is written --z-range=VALUE, and no"),
        (["--block-size", "-1,2,3"], "is written --block-size=VALUE, and no number in it is negative"),
        (["--z-range=-1,4"], "--z-range -1,4: it is not two whole numbers from 0 to 999999999"),
        (["--z-range", "0,1_0"], "--z-range 0,1_0: it is not two whole numbers"),
        (["--block-size", ""], "--block-size '': it is not three whole numbers"),
        (["--channels", ""], "it is not of the form name=value"),
        (["--feature-channels", ""], "--feature-channels '': a name is empty"),
        (["--path", ""], "--path '': it is empty. Name it; the working folder is ."),
        (["--path", "a\0b"], r"--path 'a\x00b': no file or folder can have this name"),
        (["--path", "a\ud800"], "no file or folder can have this name"),
        (["--config", ""], "--config '': it is empty"),
    ],
)
def test_what_no_option_can_mean_is_refused_with_what_it_can(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        requested(*words)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_an_option_can_mean_is_taken() -> None:
    job = requested("--cpus", "2", "--memory", "1.5", "--cache", ".5", "--pulls", "1024", "--path", ".")
    assert (job.cpus, job.memory_bytes, job.cache_bytes, job.pulls) == (2, 3 * 2**29, 2**29, 1024)
    assert parse_gib("--memory", "1e-3") == 2**30 // 1000
    assert parse_range("a", "0:16", "") == parse_range("a", "0,16", "") == (0, 16)
    assert parse_int("a", 7, 0, 9) == parse_int("a", "7", 0, 9) == 7
    assert parse_path("a", Path("b")) == parse_path("a", "b") == Path("b")


def test_the_part_that_batch_names_is_blamed_on_batch_and_the_users_on_the_user() -> None:
    parts = ["--shared", "s3://b/p", "--block-size", "1,4,4", "--phase", "statistics", "--shards", "3"]
    with pytest.raises(UsageError, match="Leave it to AWS Batch, or give --shard"):
        requested(*parts, AWS_BATCH_JOB_ARRAY_INDEX="-1")
    with pytest.raises(UsageError, match=r"--shard -1: .* Give a number from 0") as caught:
        requested(*parts, "--shard=-1")
    assert "AWS" not in str(caught.value)
    part = requested(*parts, AWS_BATCH_JOB_ARRAY_INDEX="2").part
    assert part is not None
    assert part.index == 2


@pytest.mark.parametrize(
    "value", ["-1,4", "0,100000000000000000000", "0,1_0", "0,+4", "0,\N{ARABIC-INDIC DIGIT THREE}"]
)
def test_a_range_that_is_none_is_blamed_on_the_file_that_has_it(tmp_path: Path, value: str) -> None:
    path = tmp_path / "neurodata.cfg"
    path.write_text(f"[Parallel]\nz_range = {value}\n")
    with pytest.raises(UsageError, match=r"z_range = .* in \[Parallel\] of .*neurodata.cfg: .*Write z_range"):
        read_neurodata_config(path)
    path.write_text("[Parallel]\nz_range = 0, 16\n")
    assert read_neurodata_config(path).z_range == (0, 16)


def test_a_configuration_that_is_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it is a folder\. Name the file in it"):
        read_neurodata_config(tmp_path)


class TestDryRun:
    """A forecast refuses what the job would be refused for, before anybody is asked."""

    JOB = Job(
        host="http://127.0.0.1:9",
        token=Token(TOKEN),
        collection="c",
        experiment="e",
        box=Box((0, 4), (0, 4), (0, 4)),
    )

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"bucket": "BAD_"}, "no bucket has such a name"),
            ({"bucket": "bbb", "acl": "zzz"}, "S3 has no such canned ACL"),
            ({"acl": "zzz"}, "S3 has no such canned ACL"),
        ],
    )
    def test_a_bucket_or_an_acl_that_cannot_be_is_refused(self, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            steps.dry_run(replace(self.JOB, **fields))

    def test_a_path_that_is_a_file_is_refused_with_the_code_of_the_job(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(StorageError, match=r"creating the result folder .*Not a directory.* Give a --path"):
            steps.dry_run(replace(self.JOB, path=file))
        assert list(tmp_path.iterdir()) == [file]
