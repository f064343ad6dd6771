"""Command lines, environments, neurodata.cfg, token files: valid ones are taken, odd ones end in an error of ours."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse import credentials
from nd_synapse.cli import evaluate_options, run_options
from nd_synapse.cli.array_index import INDEX_VARIABLES
from nd_synapse.cli.run import options_of
from nd_synapse.config import read_neurodata_config
from nd_synapse.job import job
from nd_synapse.job.folder import ResultFolder
from nd_synapse.pipeline import registry
from nd_synapse.values import parse_assignments
from NeuroDataResource import get_boss_config
from tests.fuzz.cases import (
    ABSENT,
    TOKEN,
    counts,
    mutated_bytes,
    mutated_text,
    names,
    numbers,
    one_of_line,
    one_wrong,
    result_or_error,
    sometimes,
    words,
)

Options = Mapping[str, st.SearchStrategy[Any]]


def range_text(start: int, extent: int, mark: str = ",") -> str:
    return f"{start}{mark}{start + extent}"


ranges = st.builds(range_text, st.integers(0, 10**6), st.integers(1, 10**4), st.sampled_from([",", ":"]))
bad_ranges = (
    st.builds(range_text, st.integers(0, 99), st.integers(-99, 0)) | mutated_text(["0,8"]) | words | numbers.map(str)
)
hosts = st.sampled_from(["api.bossdb.io", "http://127.0.0.1:8080", "https://[::1]:443"])
bad_hosts = mutated_text(["http://a/b?c#d", "user:secret@host", "ftp://a", "api.bossdb.io:99999"]) | words
gib = st.floats(0.001, 1000).map(str) | counts.map(str)
bad_gib = st.sampled_from(["0", "-1", "nan", "inf", "1e9", "1,5", ""]) | words | numbers.map(str)
sizes = st.tuples(counts, counts, counts).map(lambda size: ",".join(map(str, size)))
bad_sizes = st.sampled_from(["0,1,1", "1,1", "1,2,3,4", "9999999999,1,1", "1, 2,3"]) | mutated_text(["8,64,64"]) | words
bad_numbers = st.sampled_from(["0", "-1", "1.5", "99999", "", "x"]) | words | numbers.map(str)
bad_names = words | st.just("e" * 260) | names.map(lambda name: f"{name}/")
buckets = st.text("abc019", min_size=3, max_size=12)
bad_roles = st.sampled_from(["presynaptic", "=a", "a=b,a=c", ","]) | mutated_text(["a=b,c=d"])
lengths = st.lists(st.floats(1, 999).map(str), min_size=3, max_size=3).map(",".join)
bad_lengths = st.sampled_from(["70", "0,1,1", "-1,1,1", "nan,1,1", "1,2,3,4", "1e999,1,1"]) | words
flag = st.booleans()
misspelt = st.sampled_from([[TOKEN], ["--tokn", TOKEN], [f"--tok={TOKEN}"], [f"--token{TOKEN}"], [f"--quiet={TOKEN}"]])
"""A token that no option takes."""

RANGES: Options = {f"--{axis}-range": ranges for axis in "zyx"}
RUN: Options = {
    "--host": hosts,
    "--col": names,
    "--exp": names,
    **RANGES,
    "--pipeline": sometimes(st.sampled_from([*registry.names(), "tests.pipelines.variants:bright"])),
    "--channels": sometimes(st.sampled_from(["presynaptic=SYNAPSIN,postsynaptic=PSD95", "inhibitory="])),
    "--feature-channels": sometimes(st.just("PSD95,SYNAPSIN")),
    "--cpus": sometimes(counts.map(str)),
    "--pulls": sometimes(counts.map(str)),
    "--memory": sometimes(gib),
    "--cache": sometimes(gib),
    "--block-size": sizes,
    "--path": sometimes(names),
    "--bucket": sometimes(buckets),
    "--acl": sometimes(st.sampled_from(["private", "public-read"])),
    "--token": sometimes(st.just(TOKEN)),
    **dict.fromkeys(("--dry-run", "--overwrite", "--no-push", "--no-upload", "--no-plots", "--verbose"), flag),
}
WRONG_RUN: Options = {
    "--host": bad_hosts,
    "--col": bad_names,
    "--exp": bad_names | st.just(ABSENT),
    **{f"--{axis}-range": bad_ranges | st.just(ABSENT) for axis in "zyx"},
    "--pipeline": bad_names,
    "--channels": bad_roles,
    "--feature-channels": st.sampled_from(["a,a", "a,,b", ""]) | words,
    "--cpus": bad_numbers,
    "--pulls": bad_numbers,
    "--memory": bad_gib,
    "--cache": bad_gib,
    "--block-size": bad_sizes,
    "--path": words,
    "--token": words,
}
PART: Options = {
    "--shared": st.builds(lambda bucket, name: f"s3://{bucket}/runs/{name}", buckets, names) | names,
    "--phase": st.sampled_from(run_options.PHASES),
    "--shards": st.integers(8, 99).map(str),
    "--shard": sometimes(st.integers(0, 7).map(str)),
}
WRONG_PART: Options = {
    "--shared": st.sampled_from(["s3://b", "s3://abc/", "s3://abc/a/../b", "http://abc/x"]) | words | st.just(ABSENT),
    "--phase": words | st.just(ABSENT),
    "--shards": bad_numbers | st.just(ABSENT),
    "--shard": bad_numbers,
}
ENVIRONMENT: Options = {
    "BOSS_TOKEN": st.just(TOKEN),
    INDEX_VARIABLES[0]: st.integers(0, 7).map(str),
    job.BUCKET_VARIABLE: sometimes(buckets),
}
WRONG_ENVIRONMENT: Options = {
    "BOSS_TOKEN": words | st.just(ABSENT),
    INDEX_VARIABLES[0]: words | numbers.map(str),
    job.BUCKET_VARIABLE: words,
}


@contextmanager
def help_allowed() -> Iterator[None]:
    """Let a command line that asks for help end with 0."""
    with redirect_stdout(io.StringIO()):
        try:
            yield
        except SystemExit as end:
            if end.code != 0:
                raise


def read_run(line: list[str], environ: dict[str, str]) -> None:
    requested = run_options.job_from(options_of(line), environ)
    ResultFolder.named(requested.path, requested.results_key)
    assert TOKEN not in repr(requested) + json.dumps(requested.requested())


@pytest.mark.slow
@given(one_of_line(RUN, {}), one_of_line(PART, {}) | st.just([]), one_wrong(ENVIRONMENT, {}))
def test_any_valid_run_is_a_job(line: list[str], part: list[str], environ: dict[str, str]) -> None:
    read_run(line + part, environ)


@given(
    one_of_line(RUN, WRONG_RUN),
    one_of_line(PART, WRONG_PART) | st.just([]),
    one_wrong(ENVIRONMENT, WRONG_ENVIRONMENT),
    misspelt | st.just([]),
)
def test_any_run_is_a_job_or_an_error(
    line: list[str], part: list[str], environ: dict[str, str], more: list[str]
) -> None:
    with result_or_error(), help_allowed():
        read_run(line + part + more, environ)


EVALUATED: Options = {
    "--param": sometimes(st.just("min_voxels=3")),
    "--threads": sometimes(st.integers(1, 8).map(str)),
    "--types": sometimes(st.just("a,b")),
    "--seed": sometimes(st.integers(0, 9).map(str)),
    "--json": flag,
}
IMAGES: Options = {
    **EVALUATED,
    "--images": names,
    "--truth": names,
    "--voxel-size-nm": lengths,
    "--max-distance-nm": sometimes(st.just("300")),
}
WRONG_IMAGES: Options = {
    "--images": st.just(ABSENT),
    "--truth": st.just(ABSENT),
    "--voxel-size-nm": bad_lengths | st.just(ABSENT),
    "--max-distance-nm": words,
    "--param": words,
    "--threads": bad_numbers,
    "--seed": bad_numbers,
    "--json": st.sampled_from(["--overlap=x", "--detections", "--synaptograms=a.npz"]) | words,
}


@given(one_of_line(IMAGES, {}), one_of_line(IMAGES, WRONG_IMAGES))
def test_any_evaluation_is_a_request_or_an_error(valid: list[str], line: list[str]) -> None:
    evaluate_options.request_of(evaluate_options.parser().parse_args(valid))
    with result_or_error(), help_allowed():
        evaluate_options.request_of(evaluate_options.parser().parse_args(line))


CONFIG: Options = {
    "[Default]": st.just(""),
    "token": st.just(TOKEN),
    "host": hosts,
    "[shared]": st.just(""),
    "collection": names,
    "experiment": names,
    "[Parallel]": st.just(""),
    "channels": sometimes(st.lists(names, max_size=3).map(", ".join)),
    "x_range": ranges,
    "y_range": ranges,
    "z_range": ranges,
    "resolution": sometimes(st.just("0")),
}
WRONG_CONFIG: Options = {
    **{name: words | st.just(ABSENT) for name in CONFIG},
    "host": bad_hosts,
    "[shared]": st.just(ABSENT) | st.just("[Default]"),
    "x_range": bad_ranges,
    "z_range": bad_ranges,
    "resolution": words | numbers.map(str),
}


def config_of(fields: dict[str, str]) -> bytes:
    """Return a neurodata.cfg: sections are lines, all others are a key and its value."""
    lines = [f"{name}{value}" if name.startswith("[") else f"{name} = {value}" for name, value in fields.items()]
    return "\n".join(lines).encode("utf-8", "replace")


configs = one_wrong(CONFIG, {}).map(config_of)


@given(configs, one_wrong(CONFIG, WRONG_CONFIG).map(config_of) | configs.flatmap(lambda body: mutated_bytes([body])))
def test_any_neurodata_cfg_is_read_or_an_error(tmp_path: Path, valid: bytes, body: bytes) -> None:
    path = tmp_path / "neurodata.cfg"
    path.write_bytes(valid)
    assert read_neurodata_config(path).z_range is not None
    path.write_bytes(body)
    with result_or_error():
        read_neurodata_config(path)
        get_boss_config(path, environ={})


@given(mutated_bytes([TOKEN.encode(), b"public\n", b"\xef\xbb\xbf" + TOKEN.encode() + b"\r\n"]))
def test_any_token_file_is_a_token_or_an_error(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(body)
    with result_or_error():
        token = credentials.read_token_file(path)
        assert token.reveal() == "public" or token.reveal() not in repr(token)


@given(words.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=40))
def test_any_file_of_a_parameter_is_text_or_an_error(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "query.json"
    path.write_bytes(body)
    with result_or_error():
        assert parse_assignments([f"query=@{path}"]) == {"query": body.decode()}
