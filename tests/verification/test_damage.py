"""Each damage is found by the check that looks for it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nd_synapse.errors import DataError
from nd_synapse.job.deliverables import checksums
from nd_synapse.job.verify import Check
from tests.fixtures_boss import BossServer
from tests.verification.checked import STEM, checks, command, rewritten


def change_table(folder: Path, change: Callable[[list[str], list[list[str]]], None]) -> None:
    """Change the table, and its checksum in run.json."""
    path = folder / "synapses.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    change(header, rows)
    path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
    content = json.loads((folder / "run.json").read_text())
    rewritten(folder, files={**content["files"], path.name: checksums(folder)[path.name]})


class TestDamaged:
    """Each damage is found by the check that looks for it, and costs the command its exit code."""

    def test_changed_missing_and_foreign_files_and_links_are_named(self, folder: Path, tmp_path: Path) -> None:
        (folder / "NDVIS_links.csv").write_text("All,http://elsewhere\n")
        (folder / "synapses.csv").unlink()
        (folder / "notes.txt").write_text("mine")
        (folder / "linked").symlink_to(tmp_path)
        expected = "missing: synapses.csv; changed: NDVIS_links.csv; not of this run: notes.txt; symbolic links: linked"
        assert checks(folder)["files"] == Check("files", expected, good=False)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("heading", "more", "found"),
        [
            ("sum_PSD95", +12, "row 5: its sum_PSD95 is "),
            ("contrast_PSD95", 1e-9, "row 5: its contrast_PSD95 is "),
            ("score", 1.0, "row 5: its score is "),
            ("stop_x", +1, "row 5: no such object was found at "),
        ],
    )
    def test_a_cell_that_was_changed_is_found_by_the_sample(
        self, folder: Path, boss: BossServer, heading: str, more: float, found: str
    ) -> None:
        def change(header: list[str], rows: list[list[str]]) -> None:
            column = header.index(heading)
            rows[4][column] = str(type(more)(rows[4][column]) + more)

        change_table(folder, change)
        made = checks(folder, boss, sample=8)
        assert made["files"].good
        assert made["sample"].good is False
        assert found in made["sample"].found
        assert " 0 voxels differ" in made["sample"].found

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda header, rows: rows.pop(4), "synapses.csv has no row of the object at z "),
            (lambda header, rows: rows.append(rows[4]), "no such object was found at z "),
            (
                lambda header, rows: header.__setitem__(header.index("score"), "opinion"),
                "the columns opinion, score are not both in it",
            ),
            (lambda header, rows: rows[4].pop(), "synapses.csv: line 6 has"),
            (lambda header, rows: header.clear(), "synapses.csv: it has no header"),
            (lambda header, rows: rows[4].__setitem__(1, "x"), "is damaged, cut short, or not what its name says"),
        ],
        ids=["row missing", "row twice", "column", "cell missing", "no header", "no number"],
    )
    def test_a_table_of_another_shape_is_found_by_the_sample(
        self, folder: Path, boss: BossServer, change: Callable[[list[str], list[list[str]]], None], found: str
    ) -> None:
        change_table(folder, change)
        sample = checks(folder, boss, sample=8)["sample"]
        assert sample.good is False
        assert found in sample.found

    @pytest.mark.parametrize("how", ["missing", "pipe", "other"])
    @pytest.mark.parametrize("name", [f"{STEM}.pkl", "synapses.csv"])
    def test_a_file_that_is_none_of_ours_is_not_waited_for_or_run(
        self, folder: Path, boss: BossServer, name: str, how: str
    ) -> None:
        (folder / name).unlink()
        if how == "pipe":
            os.mkfifo(folder / name)
        elif how == "other":
            (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
        found = checks(folder, boss, sample=1)
        assert found["files"].good is False
        assert found["sample"].good is False
        assert name in found["sample"].found

    def test_a_voxel_that_somebody_changed_in_boss_is_found(self, folder: Path, boss: BossServer) -> None:
        remote = boss.remote()
        channel = remote.get_channel(f"{folder.name}_All", "collman_nomads", "nomads_predictions")
        place = ([7, 8], [6, 7], [2, 3])
        before = remote.get_cutout(channel, 0, *place, parallel=False)
        remote.create_cutout(channel, 0, *place, np.full((1, 1, 1), 9, np.uint8))
        found = checks(folder, boss, sample=0)["BOSS"]
        remote.create_cutout_to_black(channel, 0, *place)
        remote.create_cutout(channel, 0, *place, before)
        assert not found.good
        assert "1 voxels differ" in found.found
        assert "(2, 6, 7)" in found.found

    def test_masks_of_other_parameters_are_found_by_the_sample(self, folder: Path, boss: BossServer) -> None:
        content = json.loads((folder / "run.json").read_text())
        rewritten(folder, {"parameters": {**content["asked"]["parameters"], "min_voxels": 90}})
        found = checks(folder, boss, sample=2)["sample"]
        assert not found.good
        assert " 0 voxels differ" not in found.found

    @pytest.mark.parametrize(
        ("requested", "changes", "found"),
        [
            ({}, {"finding": {}}, "KeyError"),
            ({}, {"roles": {"presynaptic": "SYNAPSIN"}}, "KeyError"),
            ({}, {"roles": {"presynaptic": "SYNAPSIN", "postsynaptic": "nope"}}, "nope"),
            ({}, {"masks": {"Other": STEM}}, "masks Other in run.json"),
            ({"parameters": {"nothing": "1"}}, {}, "parameter"),
            ({"parameters": {"min_voxels": "x"}}, {}, "min_voxels=x"),
        ],
        ids=["finding", "role", "channel", "masks", "parameter", "value"],
    )
    def test_a_run_of_another_version_is_no_defect(
        self, folder: Path, boss: BossServer, requested: dict[str, Any], changes: dict[str, Any], found: str
    ) -> None:
        rewritten(folder, requested, **changes)
        sample = checks(folder, boss, sample=1)["sample"]
        assert sample.good is False
        assert found in sample.found

    def test_a_name_with_line_ends_forges_no_line(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "a\nok   files   all is well\x1b[31m").write_text("")
        (folder / os.fsdecode(b"\xff.txt")).write_text("")
        code, lines = command(capsys, str(folder), "--offline")
        assert code == DataError.exit_code
        assert lines[0] == "BAD  files   not of this run: a\\nok   files   all is well\\x1b[31m, \\udcff.txt"
        assert len(lines) == 2

    def test_a_mask_that_was_to_be_pushed_and_is_not_there_is_wrong(self, folder: Path, boss: BossServer) -> None:
        rewritten(folder, in_boss={"All": "failed: no"})
        found = checks(folder, boss, sample=0)["BOSS"]
        assert (found.good, found.found) == (False, "All was to be pushed, and is not there: failed: no")
