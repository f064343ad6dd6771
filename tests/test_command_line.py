"""Options are read strictly, or refused with their name and a remedy; helps fit on a screen."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch.arguments import parser_of, requested_run
from nd_synapse.cli import evaluate_options, multicore, run_options, upload, verify
from nd_synapse.cli.run import options_of
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
    return job_from(options_of(line), {"BOSS_TOKEN": TOKEN, **environ})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cpus", "two"], "--cpus: it is not a whole number from 1 to 1,024. Give a number from 1 to 1024"),
        *((["--cpus", text], f"--cpus: {text.strip()} is not a whole number") for text in ("0", "+2", " 2")),
        *((["--cpus", text], "--cpus: it is not a whole number") for text in ("1_0", "9" * 5000)),
        (["--pulls", "\N{ARABIC-INDIC DIGIT THREE}"], "--pulls: it is not a whole number"),
        (["--shards", "none"], "--shards: it is not a whole number from 1 to 1,000,000"),
        (["--shard=-1"], "--shard: -1 is not a whole number from 0 to 999,999"),
        *((["--memory", text], "is no size in GiB above 0") for text in ("1_0", "+2", "nan")),
        (["--cache", "1e-320"], "--cache: it is no size in GiB above 0"),
        (["--z-range", "-1,4"], "--z-range needs a value without negative numbers"),
        (["--block-size", "-1,2,3"], "--block-size needs a value without negative numbers"),
        (["--z-range=-1,4"], "--z-range: -1,4 is not two whole numbers from 0 to 999999999"),
        (["--z-range", "0,1_0"], "--z-range: it is not two whole numbers"),
        (["--block-size", ""], "--block-size: it is not three whole numbers"),
        (["--channels", ""], "--channels: it is not of the form ROLE=NAME"),
        (["--feature-channels", ""], "--feature-channels: a name is empty"),
        (["--path", ""], "--path: it is empty. Name a file or folder; the working folder is ."),
        (["--path", "a\0b"], "--path: no file or folder can have this name"),
        (["--path", "a\ud800"], "--path: no file or folder can have this name"),
        (["--config", ""], "--config: it is empty"),
        (["--blok-size", "1,1,1"], "unrecognized option --blok-size; the closest is --block-size"),
        (["--tokn", TOKEN], "unrecognized option --tokn; the closest is --token"),
        (["--frobnicate", "--zz"], "unrecognized options --frobnicate --zz."),
        (
            ["--phase", TOKEN],
            "invalid choice; choose from 'statistics', 'detection', 'contacts', 'join', 'objects', 'push', 'report'",
        ),
        (["--quiet=" + TOKEN], "it takes no value"),
        ([TOKEN], "it has a word that belongs to no option; a volume is given by --source URI"),
        (["--pipeline", "nomads-unsupervized"], "there is no such pipeline; there are nomads-unsupervised, "),
    ],
)
def test_an_invalid_option_is_refused_by_its_name_and_with_a_remedy(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        requested(*words)
    assert message in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_misspelt_option_of_batch_is_compared_with_those_of_both_parsers() -> None:
    for option, meant in (("--shard-s", "--shards"), ("--blocksize", "--block-size")):
        with pytest.raises(UsageError, match=f"the closest is {meant}"):
            requested_run("plan", [option, "2"], {})


PARSERS = {
    "run": run_options.parser("nd-synapse run"),
    "verify": verify.parser("nd-synapse verify"),
    "upload": upload.parser("nd-synapse upload"),
    "evaluate": evaluate_options.parser(),
    "multicore": multicore.parser("nd-synapse multicore"),
    "batch submit": parser_of("submit"),
    "batch logs": parser_of("logs"),
}


@pytest.mark.parametrize("command", PARSERS)
def test_a_help_fits_on_a_screen_and_the_whole_one_has_every_option(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    parser = PARSERS[command]
    assert parser.format_help().count("\n") <= 45
    assert max(map(len, parser.format_help().splitlines())) <= 100
    whole = parser.format_help(short=False)
    assert set(parser.option_names) <= set(re.findall(r"--?[a-z][a-z-]*", whole))
    assert ("--help-all" in whole) == bool(parser.rare)
    for hidden in parser.rare:
        assert f"  {hidden} " not in parser.format_help()


def test_valid_options_are_taken() -> None:
    job = requested("--cpus", "2", "--memory", "1.5", "--cache", ".5", "--pulls", "1024", "--path", ".")
    assert (job.cpus, job.memory_bytes, job.cache_bytes, job.pulls) == (2, 3 * 2**29, 2**29, 1024)
    assert parse_gib("--memory", "1e-3") == 2**30 // 1000
    assert parse_range("a", "0:16") == parse_range("a", "0,16") == (0, 16)
    assert parse_int("a", 7, 0, 9) == parse_int("a", "7", 0, 9) == 7
    assert parse_path("a", Path("b")) == parse_path("a", "b") == Path("b")


def test_an_invalid_index_of_batch_and_one_of_the_user_have_different_messages() -> None:
    parts = ["--shared", "s3://b/p", "--block-size", "1,4,4", "--phase", "statistics", "--shards", "3"]
    with pytest.raises(UsageError, match="Leave it to the scheduler, or give --shard"):
        requested(*parts, AWS_BATCH_JOB_ARRAY_INDEX="-1")
    with pytest.raises(UsageError, match=r"--shard: .* Give a number from 0") as caught:
        requested(*parts, "--shard=-1")
    assert "AWS" not in str(caught.value)
    part = requested(*parts, AWS_BATCH_JOB_ARRAY_INDEX="2").part
    assert part is not None
    assert part.index == 2
    with pytest.raises(UsageError, match="no scheduler gives this part its number"):
        requested(*parts)


@pytest.mark.parametrize(
    "value", ["-1,4", "0,100000000000000000000", "0,1_0", "0,+4", "0,\N{ARABIC-INDIC DIGIT THREE}"]
)
def test_an_invalid_range_of_a_file_is_reported_with_the_file(tmp_path: Path, value: str) -> None:
    path = tmp_path / "neurodata.cfg"
    path.write_text(f"[Parallel]\nz_range = {value}\n")
    with pytest.raises(UsageError, match=r"z_range in \[Parallel\] of .*neurodata.cfg: .*Give start,stop"):
        read_neurodata_config(path)
    path.write_text("[Parallel]\nz_range = 0, 16\n")
    assert read_neurodata_config(path).z_range == (0, 16)


def test_a_configuration_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it is a folder\. Name the file in it"):
        read_neurodata_config(tmp_path)


class TestDryRun:
    """A dry run refuses what the job would refuse, before any request."""

    JOB = Job(
        host="http://127.0.0.1:9",
        token=Token(TOKEN),
        collection="c",
        experiment="e",
        box=Box((0, 4), (0, 4), (0, 4)),
    )

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"bucket": "BAD_"}, "no bucket has such a name"),
            ({"bucket": "bbb", "acl": "zzz"}, "S3 has no such canned ACL"),
            ({"acl": "zzz"}, "S3 has no such canned ACL"),
        ],
    )
    def test_a_bucket_or_an_acl_that_cannot_be_is_refused(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            steps.dry_run(replace(self.JOB, **fields))

    def test_a_path_that_is_a_file_is_refused_with_the_code_of_the_job(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(StorageError, match=r"creating the result folder .*Not a directory.* Give a --path"):
            steps.dry_run(replace(self.JOB, path=file))
        assert list(tmp_path.iterdir()) == [file]
