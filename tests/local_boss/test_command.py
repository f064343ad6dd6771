"""The commands of the local BOSS as a user meets them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import requests

from nd_synapse.cli import demo
from nd_synapse.cli.boss import main
from nd_synapse.errors import UsageError
from nd_synapse.local_boss import tokens
from tests.fixtures_boss import REPOSITORY, BossServer

COMMAND = [sys.executable, "-m", "nd_synapse", "boss"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, cwd=REPOSITORY)


def test_serve_prints_its_url_and_nothing_else(tmp_path: Path) -> None:
    """Neither the token nor any request is printed or logged."""
    command = [*COMMAND, "serve", "--data", str(tmp_path / "new" / "folder")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    token = tokens.writing_token(tmp_path / "new" / "folder")
    headers = {"Authorization": f"Token {token}"}
    assert requests.get(f"{url}/v1/collection//", headers=headers, timeout=5).json() == {"collections": []}
    assert requests.get(f"{url}/v1/collection//", headers={"Authorization": "Token x"}, timeout=5).status_code == 401
    process.terminate()
    output, log = process.communicate(timeout=10)
    assert (output, log, process.returncode) == ("", "", 0)


def test_token_prints_the_token_that_may_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is made where it is missing, and is that of `serve` from then on."""
    assert main(["token", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed == f"{tokens.writing_token(tmp_path)}\n"
    assert len(printed.strip()) == 40
    assert main(["token", "--data", str(tmp_path / "misspelt")]) == 74


def test_verbose_logs_requests_without_the_token(tmp_path: Path) -> None:
    command = [*COMMAND, "serve", "--data", str(tmp_path), "--verbose"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    token = tokens.writing_token(tmp_path)
    requests.get(f"{url}/v1/collection//", headers={"Authorization": f"Token {token}"}, timeout=5)
    process.terminate()
    _, log = process.communicate(timeout=10)
    assert "/v1/collection//" in log
    assert token not in log


def test_only_the_loopback_interface_is_bound(boss_server: BossServer) -> None:
    port = int(boss_server.host.rpartition(":")[2])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", port), timeout=2)


def test_a_port_that_is_taken_is_a_plain_sentence(boss_server: BossServer, tmp_path: Path) -> None:
    port = boss_server.host.rpartition(":")[2]
    done = run("serve", "--data", str(tmp_path), "--port", port)
    assert done.returncode == 2
    assert f" ERROR address 127.0.0.1:{port}: " in done.stderr
    assert "Traceback" not in done.stderr


BAD_TOKENS = {
    "no JSON": "{ 'secret-abc' }",
    "a list": '["secret-abc"]',
    "no tokens": '{"secret-abc": {}}',
    "no rights": '{"tokens": {"secret-abc": "all"}}',
    "no user": '{"tokens": {"secret-abc": {"role": "admin"}}}',
    "an unknown role": '{"tokens": {"secret-abc": {"user": "u", "role": "king"}}}',
    "rights that are no list": '{"tokens": {"secret-abc": {"user": "u", "read": "some"}}}',
    "a right of another name": '{"tokens": {"secret-abc": {"user": "u", "rights": {"write": "all"}}}}',
    "rights that are no table": '{"tokens": {"secret-abc": {"user": "u", "rights": ["read"]}}}',
    "a right that is no list": '{"tokens": {"secret-abc": {"user": "u", "rights": {"read": "some"}}}}',
}


@pytest.mark.parametrize("text", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_malformed_token_file_is_an_error_without_the_token(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens.json").write_text(text)
    with pytest.raises(UsageError, match=r"tokens\.json") as caught:
        tokens.load(tmp_path)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


ADMIN = {"user": "ana", "role": "admin"}
UNSAFE_TOKENS: dict[str, tuple[dict[str, object], str]] = {
    "an empty token": ({"": ADMIN}, "token number 1 has fewer than 8 characters. Give it a long"),
    "a token of blanks": ({" " * 20: ADMIN}, "token number 1 has fewer than 8 characters"),
    "a short token": ({"secret-0123": ADMIN, "secret7": ADMIN}, "token number 2 has fewer than 8 characters"),
    "the user of those without a token": (
        {"secret-0123": {"user": "anonymous"}},
        "token number 1 is of the user 'anonymous', and who sends no token owns what that user makes. Give that user",
    ),
    "the user of ingest": (
        {"secret-0123": {"user": "local"}},
        "of the user 'local', and that user owns all that ingest",
    ),
    "the user of a token that everybody knows": ({"secret-0123": {"user": "public"}}, "of the user 'public'"),
    "a known token that may write": ({"public": {"user": "public", "write": ["lab"]}}, "it may do more than read"),
    "a known token that may fill": (
        {"public": {"user": "public", "rights": {"add_volumetric_data": "all"}}},
        "it may do more than read",
    ),
    "a known token with a role": ({"public": {"user": "public", "role": "admin"}}, "it may do more than read"),
    "a known token of a user": ({"public": {"user": "ana"}}, "it may do more than read"),
}


@pytest.mark.parametrize(("entries", "found"), UNSAFE_TOKENS.values(), ids=UNSAFE_TOKENS.keys())
def test_a_token_that_lets_in_more_than_was_meant_is_refused(
    tmp_path: Path, entries: dict[str, object], found: str
) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": entries}))
    with pytest.raises(UsageError) as caught:
        tokens.load(tmp_path)
    assert found in str(caught.value)
    assert str(tmp_path / "tokens.json") in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_known_token_may_read_what_it_was_given(tmp_path: Path) -> None:
    entry = {"user": "public", "role": "none", "read": ["lab"], "write": []}
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": {"public": entry}}))
    assert tokens.load(tmp_path)["public"].may("read", "lab", "pilot")


@pytest.mark.parametrize(("mode", "times"), [(0o640, 1), (0o602, 1), (0o600, 0)])
def test_tokens_that_others_may_read_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, times: int
) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"tokens": {"secret-0123": ADMIN}}))
    path.chmod(mode)
    assert tokens.writing_token(tmp_path) == "secret-0123"
    tokens.load(tmp_path)
    warning = f"token file {path}: others than its owner may use it (mode {mode:03o}). chmod 600 it."
    assert [record.getMessage() for record in caplog.records] == [warning] * times


@pytest.mark.slow
def test_a_data_folder_that_cannot_be_is_a_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for data in [tmp_path / "file", tmp_path / "file" / "below"]:
        done = run("serve", "--data", str(data))
        assert done.returncode == 74
        assert "Traceback" not in done.stderr


def test_a_catalog_that_is_no_database_is_a_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_text("this is no database, whatever its name says" * 100)
    done = run("serve", "--data", str(tmp_path))
    assert done.returncode == 74
    assert "Traceback" not in done.stderr


def test_no_token_that_may_do_everything_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": {"a-token-of-a-user": {"user": "u"}}}))
    with pytest.raises(UsageError, match="admin"):
        tokens.writing_token(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "wait_s"), [("ingest", 0.2), ("sample", 0.0)])
def test_ctrl_c_ends_a_command_in_one_line(tmp_path: Path, command: str, wait_s: float) -> None:
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).integers(0, 255, (32, 2048, 2048), np.uint8))
    names = ["--col", "c", "--exp", "e", "--chan", "h", "--voxel-size-nm", "70,100,100", str(tmp_path / "stack.npy")]
    words = names if command == "ingest" else []
    data = tmp_path / "data"
    process = subprocess.Popen(
        [*COMMAND, command, "--data", str(data), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    deadline = time.monotonic() + 30
    while not (data / "catalog.sqlite").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(wait_s)
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=30)
    assert process.returncode == 75, said
    assert output == ""
    (line,) = [line for line in said.splitlines() if "slices stored" not in line]
    assert line.endswith(" ERROR the command: it was stopped by a signal. What was stored by then stays.")


def test_help_names_the_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("serve", "ingest", "sample"))
    assert run().returncode == 2


TOKEN = "0123456789abcdef0123456789abcdef01234567"
STACK = ["--col", "c", "--exp", "e", "--chan", "h", "--voxel-size-nm", "70,100,100"]
MISPLACED = {
    "for a command": ["boss", TOKEN],
    "with an option that is none": ["boss", "serve", "--data", "DATA", "--token", TOKEN],
    "joined to a flag": ["boss", "serve", "--data", "DATA", f"--strict={TOKEN}"],
    "as a port": ["boss", "serve", "--data", "DATA", "--port", TOKEN],
    "as a type": ["boss", "ingest", "--data", "DATA", *STACK, "--type", TOKEN, "stack.npy"],
    "as a voxel size": ["boss", "ingest", "--data", "DATA", "--voxel-size-nm", TOKEN, "stack.npy"],
    "as a shape": ["boss", "sample", "--data", "DATA", "--shape", TOKEN],
    "alone in the demonstration": ["demo", TOKEN],
}


@pytest.mark.parametrize("words", MISPLACED.values(), ids=MISPLACED.keys())
def test_a_token_in_a_wrong_place_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    command, *rest = words
    run_here = {"boss": main, "demo": demo.main}[command]
    assert run_here([str(tmp_path / "data") if word == "DATA" else word for word in rest]) == 2
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_token_as_a_host_is_not_repeated(tmp_path: Path) -> None:
    """In a process: `serve` sets signal handlers before it binds its address."""
    done = run("serve", "--data", str(tmp_path), "--host", TOKEN)
    assert done.returncode == 2, done.stderr
    assert TOKEN not in done.stdout + done.stderr
