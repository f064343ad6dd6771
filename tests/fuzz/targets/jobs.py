"""What says which job is to be done: command lines of ``driver.py``, the environment, neurodata.cfg, token files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

import driver
from nd_synapse import config, credentials
from nd_synapse.aws.bucket import check_bucket
from nd_synapse.cli import run_options
from nd_synapse.job import job, verify
from nd_synapse.job import upload as s3_upload
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Parameter
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
    sometimes,
    words,
)
from tests.fuzz.judge import Target, quietly
from tests.fuzz.targets.results_of_runs import run_files

# --- values of options --------------------------------------------------------------------------------------------


def range_text(start: int, extent: int, mark: str = ",") -> str:
    return f"{start}{mark}{start + extent}"


ranges = st.builds(range_text, st.integers(0, 10**6), st.integers(1, 10**4), st.sampled_from([",", ":"]))
bad_ranges = (
    st.builds(range_text, st.integers(0, 99), st.integers(-99, 0)) | mutated_text(["0,8"]) | words | numbers.map(str)
)
hosts = st.sampled_from(["api.bossdb.io", "http://127.0.0.1:8080", "https://[::1]:443"]) | names.map(
    lambda name: f"{name.strip('_-') or 'a'}.example".lower().replace("_", "")
)
bad_hosts = mutated_text(["http://a/b?c#d", "user:secret@host", "ftp://a", "api.bossdb.io:99999"]) | words
gib = st.floats(0.001, 1000).map(str) | counts.map(str)
bad_gib = st.sampled_from(["0", "-1", "nan", "inf", "1e9", "1,5", ""]) | words | numbers.map(str)
sizes = st.tuples(counts, counts, counts).map(lambda size: ",".join(map(str, size)))
bad_sizes = st.sampled_from(["0,1,1", "1,1", "1,2,3,4", "9999999999,1,1", "1, 2,3"]) | mutated_text(["8,64,64"]) | words
bad_numbers = st.sampled_from(["0", "-1", "1.5", "99999", "", "x"]) | words | numbers.map(str)
bad_names = words | st.just("e" * 260) | names.map(lambda name: f"{name}/")
buckets = st.text("abc019", min_size=3, max_size=12)
bad_buckets = st.sampled_from(["ab", "A-b", "a..b", "1.2.3.4", "a" * 64, "s3://bucket", "a/b"]) | words
addresses = st.builds(lambda bucket, name: f"s3://{bucket}/runs/{name}", buckets, names)
bad_addresses = st.sampled_from(["s3://b", "s3://abc/", "s3://abc//x", "s3://abc/a/../b", "http://abc/x"]) | words
roles = st.sampled_from(["presynaptic=SYNAPSIN,postsynaptic=PSD95", "presynaptic=vglut1", "inhibitory="])
bad_roles = st.sampled_from(["presynaptic", "=a", "a=b,a=c", ","]) | mutated_text(["a=b,c=d"])
flag = st.booleans()


def given_parameters(declared: tuple[Parameter, ...]) -> st.SearchStrategy[Any]:
    """Draw a parameter of a pipeline, perhaps none, as the command line has it."""
    plain = [one for one in declared if one.default is not None and "{" not in str(one.default)]
    if not plain:
        return st.just(ABSENT)
    return sometimes(st.sampled_from([f"{one.name}={one.default}" for one in plain]))


# --- the command line ---------------------------------------------------------------------------------------------

RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "--host": hosts,
    "--col": names,
    "--exp": names,
    "--z-range": ranges,
    "--y-range": ranges,
    "--x-range": ranges,
    "--channels": sometimes(roles),
    "--feature-channels": sometimes(st.just("PSD95,SYNAPSIN")),
    "--cpus": sometimes(counts.map(str)),
    "--pulls": sometimes(counts.map(str)),
    "--memory": sometimes(gib),
    "--cache": sometimes(gib),
    "--path": sometimes(names),
    "--bucket": sometimes(buckets),
    "--acl": sometimes(st.sampled_from(["private", "public-read"])),
    "--out-col": sometimes(names),
    "--out-exp": sometimes(names),
    "--token": sometimes(st.just(TOKEN)),
    **dict.fromkeys(("--dry-run", "--overwrite", "--no-push", "--no-upload", "--no-plots", "--verbose"), flag),
}
WRONG: dict[str, st.SearchStrategy[Any]] = {
    "--host": bad_hosts,
    "--col": bad_names,
    "--exp": bad_names | st.just(ABSENT),
    "--z-range": bad_ranges,
    "--y-range": bad_ranges,
    "--x-range": bad_ranges | st.just(ABSENT),
    "--channels": bad_roles,
    "--feature-channels": st.sampled_from(["a,a", "a,,b", ""]) | words,
    "--cpus": bad_numbers,
    "--pulls": bad_numbers,
    "--memory": bad_gib,
    "--cache": bad_gib,
    "--path": words,
    "--out-col": words,
    "--token": words,
}
WHOLE: dict[str, st.SearchStrategy[Any]] = {"--block-size": sometimes(sizes), "--fresh": flag}
PART: dict[str, st.SearchStrategy[Any]] = {
    "--shared": addresses,
    "--block-size": sizes,
    "--phase": st.sampled_from(run_options.PHASES),
    "--shards": st.integers(8, 99).map(str),
    "--shard": sometimes(st.integers(0, 7).map(str)),
}
WRONG_PART: dict[str, st.SearchStrategy[Any]] = {
    "--shared": st.just(ABSENT),
    "--block-size": bad_sizes | st.just(ABSENT),
    "--phase": words | st.just(ABSENT),
    "--shards": bad_numbers | st.just(ABSENT),
    "--shard": bad_numbers,
}
ENVIRONMENT: dict[str, st.SearchStrategy[Any]] = {
    "BOSS_TOKEN": st.just(TOKEN),
    run_options.INDEX_VARIABLE: sometimes(st.integers(0, 7).map(str)),
    job.BUCKET_VARIABLE: sometimes(buckets),
}
WRONG_ENVIRONMENT: dict[str, st.SearchStrategy[Any]] = {
    "BOSS_TOKEN": words | st.just(ABSENT),
    run_options.INDEX_VARIABLE: words | numbers.map(str),
    job.BUCKET_VARIABLE: words,
}


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """A command line and an environment, of which one thing is wrong in half of the cases."""
    pipeline = draw(st.sampled_from([*registry.names(), "tests.pipelines.variants:bright"]))
    odd = {"--pipeline": bad_names, "--param": words | mutated_text(["min_voxels=30"])}
    right = {**RIGHT, "--pipeline": st.just(pipeline), "--param": given_parameters(registry.parameters(pipeline))}
    parted = draw(st.booleans())
    group, bad_group = (
        (PART, WRONG_PART) if parted else (WHOLE, {"--block-size": bad_sizes, "--shard": counts.map(str)})
    )
    what = draw(st.sampled_from(["line", "line", "line", "part", "environment", "words"]))
    line = draw(one_of_line(right, {**WRONG, **odd} if what == "line" else {"--host": hosts}))
    line += draw(one_of_line(group, bad_group if what == "part" else dict(list(group.items())[:1])))
    environment = draw(
        one_wrong(ENVIRONMENT, WRONG_ENVIRONMENT if what == "environment" else {"BOSS_TOKEN": st.just(TOKEN)})
    )
    if what == "words":
        # an option that is misspelt or none, with a token, in one word or in two; or a word too much
        option = draw(
            st.sampled_from(["--token", "--token-file", "--tok", "--tokn", "-t", "--quiet", "--list-pipelines"])
        )
        more = [[option, TOKEN], [f"{option}={TOKEN}"], [f"{option}{TOKEN}"], [TOKEN], [draw(words)], [option]]
        place = draw(st.integers(0, len(line)))
        line[place:place] = draw(st.sampled_from(more))
    return line, environment


def read_command_line(case: tuple[list[str], dict[str, str]], folder: Path) -> None:
    line, environment = case
    requested = run_options.job_from(driver._options(line), environment)
    folder.ResultFolder.named(requested.path, requested.results_key)
    json.dumps(requested.requested())
    assert TOKEN not in repr(requested)
    assert TOKEN not in json.dumps(requested.requested())


# --- upload and verify --------------------------------------------------------------------------------------------

UPLOAD = {"folder": st.just("whole"), "--bucket": buckets, "--acl": sometimes(st.just("private")), "--quiet": flag}
WRONG_UPLOAD = {
    "folder": st.sampled_from(["", "empty", "nowhere", "a file"]) | words,
    "--bucket": bad_buckets | st.just(ABSENT),
    "--acl": words,
    "--quiet": st.just("--verbose"),
}


def _make_folders(folder: Path) -> None:
    """Make what command lines name."""
    for name in ("whole", "empty"):
        (folder / name).mkdir(exist_ok=True)
    for name, body in run_files("nomads-unsupervised").items():
        (folder / "whole" / name).write_bytes(body)
    (folder / "a file").write_bytes(b"")


def _in(folder: Path, line: list[str]) -> list[str]:
    """Return a command line whose first word names something in a folder, if that can be."""
    first, *others = line or [""]
    return line if first.startswith(("-", "/", ".")) or not line else [f"{folder}/{first}", *others]


def upload(line: list[str], folder: Path) -> None:
    _make_folders(folder)

    def sent(root: Path, bucket: str, prefix: str, acl: str | None = None) -> list[str]:
        check_bucket(bucket, acl)
        return list(s3_upload._keys(root, prefix))

    with mock.patch.object(upload, "upload_folder", sent):
        driver._upload(_in(folder, line))


VERIFY = {
    "folder": st.just("whole"),
    "--host": sometimes(hosts),
    "--token": sometimes(st.just(TOKEN)),
    "--bucket": sometimes(buckets),
    "--sample": sometimes(counts.map(str)),
    "--seed": sometimes(st.integers(-9, 9).map(str)),
    "--pipeline": sometimes(st.just("tests.pipelines.variants:bright")),
    "--offline": flag,
    "--verbose": flag,
}
WRONG_VERIFY = {
    "folder": st.just(ABSENT) | st.just("--folder"),
    "--token": words | st.just("a b"),
    "--sample": bad_numbers,
    "--seed": words,
    "--verbose": st.sampled_from(["--quiet", "--tokn", TOKEN, "--token-file=nowhere", f"--token{TOKEN}"]),
    "--offline": words,
}


def ask_to_verify(case: tuple[list[str], dict[str, str]], folder: Path) -> None:
    line, environment = case
    _make_folders(folder)

    def checked(request: verify.Request) -> list[verify.Check]:
        assert TOKEN not in repr(request)
        return []

    with mock.patch.object(verify, "verify", checked):
        assert verify.main(_in(folder, line), environment) == 0


# --- neurodata.cfg and tokens -------------------------------------------------------------------------------------

CONFIG: dict[str, st.SearchStrategy[Any]] = {
    "[Default]": st.just(""),
    "token": st.just(TOKEN),
    "host": hosts,
    "[shared]": st.just(""),
    "collection": names,
    "experiment": names,
    "[Parallel]": st.just(""),
    "channels": sometimes(st.lists(names, max_size=3).map(", ".join)),
    "x_range": ranges.map(lambda text: text.replace(":", ",")),
    "y_range": ranges.map(lambda text: text.replace(":", ",")),
    "z_range": ranges.map(lambda text: text.replace(":", ",")),
    "resolution": sometimes(st.just("0")),
}
WRONG_CONFIG: dict[str, st.SearchStrategy[Any]] = {
    "[Default]": words | st.just(ABSENT),
    "token": words | st.just(ABSENT),
    "host": bad_hosts,
    "[shared]": st.just(ABSENT) | st.just("[Default]"),
    "collection": words | st.just(ABSENT),
    "experiment": words | st.just(ABSENT),
    "[Parallel]": words | st.just(ABSENT),
    "channels": words,
    "x_range": bad_ranges | st.just(ABSENT),
    "z_range": bad_ranges,
    "resolution": words | numbers.map(str),
}
SAMPLE_CONFIG = (
    f"[Default]\ntoken = {TOKEN}\nhost = api.bossdb.io\n"
    "[shared]\ncollection = collman\nexperiment = M247514\n"
    "[Parallel]\nchannels = PSD95, SYNAPSIN\nx_range = 0,100\ny_range = 0,100\nz_range = 0,5\nresolution = 0\n"
)


def config_of(fields: dict[str, str]) -> bytes:
    """Return a neurodata.cfg: what has a bracket is a line, all others are a key and what it says."""
    lines = [f"{name}{value}" if name.startswith("[") else f"{name} = {value}" for name, value in fields.items()]
    return "\n".join(lines).encode("utf-8", "replace")


def read_config(body: bytes, folder: Path) -> None:
    path = folder / "neurodata.cfg"
    path.write_bytes(body)
    config.read_neurodata_config(path)
    get_boss_config(path, environ={})


def read_token(body: bytes, folder: Path) -> None:
    path = folder / "token"
    path.write_bytes(body)
    path.chmod(0o600)
    token = credentials.find_token(None, path, {}, None)
    assert token.reveal() not in repr(token)


visible = st.text([chr(code) for code in range(33, 127)], min_size=8, max_size=60).map(str.encode)

TARGETS = [
    Target("command line", command_lines(), quietly(read_command_line), 10, results=0.4, places=12),
    Target("upload's command line", one_of_line(UPLOAD, WRONG_UPLOAD), quietly(upload), 3, results=0.4, places=5),
    Target(
        "verify's command line",
        st.tuples(one_of_line(VERIFY, WRONG_VERIFY), one_wrong(ENVIRONMENT, WRONG_ENVIRONMENT)),
        quietly(ask_to_verify),
        4,
        results=0.4,
        places=2,
    ),
    Target(
        "neurodata.cfg",
        one_wrong(CONFIG, WRONG_CONFIG).map(config_of)
        | one_wrong(CONFIG, WRONG_CONFIG).map(config_of)
        | mutated_bytes([SAMPLE_CONFIG.encode()]),
        read_config,
        6,
        results=0.3,
        places=8,
    ),
    Target(
        "token file",
        mutated_bytes([TOKEN.encode(), b"public\n"]) | visible | visible.map(lambda token: token + b"\r\n"),
        read_token,
        3,
        results=0.4,
        places=1,
    ),
]
