"""The doctor says what a report of a problem needs, and no secret."""

from __future__ import annotations

from importlib import metadata

import pytest

from nd_synapse.cli import doctor
from nd_synapse.console import commands
from tests.fixtures_boss import BossServer
from tests.fixtures_s3 import S3Server


def test_it_reaches_what_it_is_asked_for(
    boss_server: BossServer, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    s3_env.client().create_bucket(Bucket="doctor-results")
    monkeypatch.setenv("BOSS_TOKEN", boss_server.token)

    code = doctor.main(["--host", boss_server.url, "--bucket", "doctor-results"])

    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "the token sees" in shown
    assert "doctor-results can be listed; it is empty" in shown
    assert "BOSS_TOKEN" in shown
    assert boss_server.token not in shown


def test_what_is_not_well_is_said_in_its_place_and_ends_with_its_code(
    s3_env: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    code = doctor.main(["--bucket", "no-such-bucket-here"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 2
    assert lines[0].startswith("versions   nd-synapse ")
    assert any(line.startswith("bucket     NOT WELL: listing s3://no-such-bucket-here/") for line in lines)


def test_every_command_of_ours_has_its_line_in_the_help() -> None:
    ours = {
        p.name for p in metadata.entry_points(group=commands.ENTRY_POINTS) if p.dist and p.dist.name == "nd-synapse"
    }

    assert ours == set(commands._PURPOSES)
