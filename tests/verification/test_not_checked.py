"""What cannot be checked is printed, and no code and no host that run.json alone names is trusted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from requests import PreparedRequest
from requests.adapters import HTTPAdapter

import driver
from nd_synapse.credentials import Token
from nd_synapse.errors import DataError, StorageError, UnavailableError, UsageError
from nd_synapse.files import masks
from nd_synapse.job.manifest import read_run_file
from nd_synapse.job.verify import Request, verify
from tests.fixtures_boss import BossServer
from tests.verification.checked import OWN, checks, command, rewritten

SECRET = "f0e1d2c3b4a5968778695a4b"


class TestNotChecked:
    """A check that cannot be made is printed, and does not prevent the others."""

    @pytest.mark.parametrize(("damaged", "code"), [(False, UsageError.exit_code), (True, DataError.exit_code)])
    def test_boss_that_refuses_leaves_the_other_checks(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        damaged: bool,
        code: int,
    ) -> None:
        """What is wrong decides the exit code before what could not be checked."""
        monkeypatch.setenv("BOSS_TOKEN", "public")
        if damaged:
            (folder / "NDVIS_links.csv").write_text("All,http://elsewhere\n")
        ended, lines = command(capsys, str(folder), "--host", "ftp://nowhere", "--bucket", "Not_A_Bucket")
        marks = ["BAD" if damaged else "ok", "ok", "??", "??", "??"]
        assert [line.split()[:2] for line in lines] == [
            [mark, name] for mark, name in zip(marks, ["files", "labels", "BOSS", "S3", "sample"], strict=True)
        ]
        assert ended == code

    def test_a_file_that_cannot_be_read_leaves_the_other_checks(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(masks, "map_pickle", refused)
        found = checks(folder, boss, sample=1)
        assert found["files"].good
        assert isinstance(found["BOSS"].error, StorageError)

    @pytest.mark.parametrize(
        ("token", "host", "given", "is_sent"),
        [
            (SECRET, "https://boss.example", None, False),
            (SECRET, "http://api.bossdb.io", None, False),
            (SECRET, "api.bossdb.io:444", None, False),
            (SECRET, "https://boss.example", "boss.example", True),
            (SECRET, "api.bossdb.io", None, True),
            (SECRET, "http://localhost:1", None, True),
            ("public", "https://boss.example", None, True),
        ],
    )
    def test_a_secret_token_goes_to_no_host_that_run_json_alone_names(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str, host: str, given: str | None, is_sent: bool
    ) -> None:
        rewritten(folder, {"host": host})
        sent = []

        def send(_: HTTPAdapter, request: PreparedRequest, **__: object) -> None:
            sent.append(request.url)
            raise UnavailableError("BOSS", "no answer", "Wait")

        monkeypatch.setattr(HTTPAdapter, "send", send)
        found = {c.name: c for c in verify(Request(folder=folder, token=Token(token), host=given))}
        assert bool(sent) == is_sent
        for name in ("BOSS", "sample"):
            assert isinstance(found[name].error, UnavailableError if is_sent else UsageError)
            assert is_sent or "add --host" in found[name].found


class TestRunFile:
    """run.json of another version, or damaged."""

    def test_a_folder_without_one_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no run\.json"):
            read_run_file(tmp_path)

    @pytest.mark.parametrize("name", ["mine_none:find", "json:find", "nothing", "nomads-classifier", OWN])
    def test_a_pipeline_that_is_not_there_or_not_of_the_run_is_the_users_mistake(self, folder: Path, name: str) -> None:
        with pytest.raises(UsageError, match=name) as refused:
            checks(folder, pipeline=name)
        assert refused.value.exit_code == 2

    def test_a_function_in_the_working_folder_is_found(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine_alone.py").write_text("def find(data_dict): raise SystemExit('called')\n")
        rewritten(folder, {"pipeline": "mine_alone-find"})
        monkeypatch.setattr(sys, "path", sys.path[:])
        monkeypatch.chdir(tmp_path)
        assert driver.main(["verify", str(folder), "--offline", "--pipeline", "mine_alone:find"]) == 0

    @pytest.mark.parametrize("name", ["antigravity-fly_id", "antigravity:fly_id"])
    def test_code_that_a_run_json_names_is_not_imported(self, folder: Path, boss: BossServer, name: str) -> None:
        """A function of one's own is named on the command line, or not run."""
        rewritten(folder, {"pipeline": name})
        found = checks(folder, boss, sample=1)["sample"]
        assert f"nothing was computed again: {name} is not an installed pipeline" in found.found
        assert "antigravity" not in sys.modules
