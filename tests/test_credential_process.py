"""A program that gives credentials of AWS has a limit, and what is wrong with it is blamed on it."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

import pytest

from nd_synapse.aws import connection
from nd_synapse.aws.bucket import Bucket
from nd_synapse.errors import PermissionDeniedError
from tests.fixtures_s3 import S3Server

KEYS = {"Version": 1, "AccessKeyId": "testing", "SecretAccessKey": "never-to-be-shown", "SessionToken": "nor-this-one"}


@pytest.fixture
def configured(s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let profiles take their credentials from a program; return its file."""
    program = tmp_path / "program.py"
    command = f"credential_process = {shlex.join([sys.executable, str(program)])}\n"
    role = "role_arn = arn:aws:iam::123456789012:role/mine\nsource_profile = below\n"
    (tmp_path / "config").write_text(f"[profile plain]\n{command}[profile below]\n{command}[profile role]\n{role}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "plain")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return program


@pytest.mark.parametrize("profile", ["plain", "role"])
def test_what_it_writes_are_the_credentials(
    configured: Path, monkeypatch: pytest.MonkeyPatch, s3_env: S3Server, profile: str
) -> None:
    monkeypatch.setenv("AWS_PROFILE", profile)
    configured.write_text(f"print({json.dumps(KEYS)!r})")
    Bucket("mine", "Go on").create_if_missing()
    assert [one["Name"] for one in s3_env.client().list_buckets()["Buckets"]] == ["mine"]


def test_one_that_hangs_is_ended_also_below_a_role(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "role")
    monkeypatch.setattr(connection, "_PROGRAM_S", 0.3)
    configured.write_text("import time; time.sleep(1000)")
    started = time.monotonic()
    with pytest.raises(PermissionDeniedError, match=r"credential_process: the program did not end within 0.3 s"):
        Bucket("mine", "Go on").create_if_missing()
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("print('never-to-be-shown')", "the program wrote no credentials"),
        ("raise SystemExit('log in first')", "log in first"),
        (None, r"the program cannot be started \(No such file or directory\)"),
    ],
    ids=["no JSON", "fails", "missing"],
)
def test_one_that_gives_no_credentials_is_blamed(
    configured: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, found: str
) -> None:
    """It used to be blamed on the address of the service, or on a file."""
    if program is None:
        (configured.parent / "config").write_text("[profile plain]\ncredential_process = /no/such/program\n")
    else:
        configured.write_text(program)
    with pytest.raises(PermissionDeniedError, match=found) as caught:
        Bucket("mine", "Go on").create_if_missing()
    assert "never-to-be-shown" not in f"{caught.value} {caught.value.__cause__} {caught.value.__cause__.__context__}"  # type: ignore[union-attr] # there is a cause
