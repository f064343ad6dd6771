"""What users get wrong is one plain sentence with its exit code, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import driver
from tests.driver.runs import BYTES, LOCAL, SMALL, Run, drive, drive_small, files_of, where
from tests.faulty_boss import boss_error, faulty_boss
from tests.fixtures_boss import BossServer, fill, start_boss
from tests.small_disk import small_disk

# option and value that are wrong, after those of a right command line | exit code | what the sentence says
WRONG: dict[str, tuple[list[str], int, list[str]]] = {
    "unknown-option": (["--frobnicate"], 2, ["--frobnicate", "--help"]),
    "unreachable-host": (["--host", "http://127.0.0.1:9"], 69, ["127.0.0.1:9", "cannot be reached"]),
    "misspelt-collection": (["--col", "smal"], 2, ["smal", "small"]),
    "misspelt-experiment": (["--exp", "plian"], 2, ["plian", "plain"]),
    "misspelt-channel": (["--channels", "presynaptic=SYNAPSN"], 2, ["SYNAPSN", "SYNAPSIN"]),
    "unknown-role": (["--channels", "pre=SYNAPSIN"], 2, ["pre", "presynaptic"]),
    "ambiguous-channel": (["--exp", "twice"], 2, ["SYNAPSIN_a, SYNAPSIN_b", "--channels"]),
    "beyond-the-end": (["--x-range", "0,71"], 2, ["0,71", "x 0,70"]),
    "no-numbers": (["--z-range", "a,b"], 2, ["--z-range", "two whole numbers", "start,stop"]),
    "constant-channel": (["--exp", "flat"], 65, ["SYNAPSIN", "one value"]),
    "unknown-pipeline": (["--pipeline", "nomads"], 2, ["nomads", "nomads-unsupervised"]),
    "unknown-parameter": (["--param", "min_size=3"], 2, ["min_size", "min_voxels"]),
    "malformed-parameter": (["--param", "min_voxels=three"], 2, ["three", "whole number"]),
    "illegal-output-name": (["--out-exp", "not.legal"], 2, ["not.legal", "--out-exp"]),
    "missing-config": (["--config", "nowhere.cfg"], 2, ["nowhere.cfg"]),
}


class TestWrongInput:
    """What users get wrong: one plain sentence, the documented exit code, nothing lost, no token."""

    def check(self, run: Run, code: int, words: list[str], token: str) -> None:
        assert run.code == code, run.stderr
        (sentence,) = (line for line in run.stderr.splitlines() if " ERROR " in line)
        assert "Traceback" not in run.stderr
        assert not [word for word in words if word not in sentence], sentence
        assert token not in run.stderr

    @pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, id=name, marks=[pytest.mark.slow] if case[1] == 69 else [])
            for name, case in WRONG.items()
        ],
    )
    def test_each_mistake_is_one_sentence_and_its_exit_code(
        self, small_boss: BossServer, tmp_path: Path, case: tuple[list[str], int, list[str]]
    ) -> None:
        wrong, code, words = case
        self.check(drive_small(small_boss, tmp_path, *wrong, "--quiet"), code, words, small_boss.token)

    @pytest.mark.parametrize(
        ("token", "code", "words"),
        [("0123456789abcdef0123456789abcdef01234567", 77, ["token", "BOSS_TOKEN"]), ("", 2, ["--token-file"])],
        ids=["wrong", "none"],
    )
    def test_a_token_that_is_wrong_or_missing_is_named(
        self, small_boss: BossServer, tmp_path: Path, token: str, code: int, words: list[str]
    ) -> None:
        run = drive(small_boss, tmp_path, *where(small_boss, "small", "plain", SMALL), "--quiet", token=token)
        self.check(run, code, words, small_boss.token)

    def test_a_volume_that_is_not_named_is_missed(self, small_boss: BossServer, tmp_path: Path) -> None:
        run = drive(small_boss, tmp_path, "--col", "small", "--quiet")
        self.check(run, 2, ["--host", "--config"], small_boss.token)

    def test_output_experiment_of_another_voxel_size_is_refused_before_the_work(
        self, small_boss: BossServer, tmp_path: Path
    ) -> None:
        tiny = np.zeros((6, 60, 70), np.uint8)
        fill(small_boss.data, "collman_nomads", "coarse", {"anything": tiny}, (35.0, 50.0, 50.0))
        run = drive_small(small_boss, tmp_path, "--out-exp", "coarse", "--quiet")
        assert run.code == 65
        assert "--out-exp" in run.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("forbidden", "exp", "extra", "code"),
        [
            ("PSD95", "plain", [], 77),  # there is no other
            ("SYNAPSIN_a", "twice", [], 77),  # another would be taken in its place
            ("SYNAPSIN_a", "twice", ["--channels", "presynaptic=SYNAPSIN_b"], 0),
            ("SYNAPSIN_a", "twice", ["--channels", "presynaptic=SYNAPSIN_a"], 77),
        ],
    )
    def test_a_channel_that_the_token_may_not_read_is_not_replaced_in_silence(
        self, small_boss: BossServer, tmp_path: Path, forbidden: str, exp: str, extra: list[str], code: int
    ) -> None:
        with faulty_boss(small_boss.url) as between:
            between.add(f"GET .*/channel/{forbidden}", *[boss_error(403, 3001, "no right to read")] * 3)
            arguments = [*where(small_boss, "small", exp, SMALL), "--host", between.url, *LOCAL]
            run = drive(small_boss, tmp_path, *arguments, *extra, "--quiet")
        assert run.code == code, run.stderr
        assert code == 0 or f"the token may not read {forbidden}" in run.stderr

    @pytest.mark.slow
    def test_token_that_may_not_write_keeps_the_results(self, small_boss: BossServer, tmp_path: Path) -> None:
        """The mask is not in BOSS, everything else is done and the exit code says what failed."""
        tokens = json.loads((small_boss.data / "tokens.json").read_text())
        reader = "r" * 39 + "1"
        tokens["tokens"][reader] = {"user": "reader", "role": "none", "read": "all", "write": []}
        (small_boss.data / "tokens.json").write_text(json.dumps(tokens))
        with start_boss(small_boss.data) as server:
            arguments = where(server, "small", "plain", SMALL)
            run = drive(server, tmp_path, *arguments, "--out-exp", "elsewhere", "--no-plots", token=reader)
        assert run.code == 77, run.stderr
        assert set(BYTES) <= files_of(run.folder).keys()
        assert "may not" in run.manifest()["failures"][0]

    def test_full_disk_is_named_and_what_was_there_stays(self, small_boss: BossServer, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "64k") as disk:
            (disk / "kept.txt").write_text("kept")
            run = drive_small(small_boss, disk, "--quiet")
            assert run.code == 74, run.stderr
            assert "no space left" in run.stderr.lower()
            assert "--path" in run.stderr
            assert (disk / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize("command", ["upload", "verify"])
def test_a_path_that_no_file_system_takes_is_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ("x" * 300, str(tmp_path / "loop" / "a"), ""):
        words = ["--bucket", "abc"] if command == "upload" else ["--offline"]
        assert driver.main([command, path, *words]) in (2, 74)
        logged = capfd.readouterr().err
        assert logged.count("\n") == 1
        assert " ERROR " in logged
