"""The demonstration removes what demonstrations wrote, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import UsageError
from local_boss.demo import main, make_room


def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A home folder given by mistake must survive."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.txt").write_text("years")
    assert main(["--path", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["results", "thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert main(["--path", str(tmp_path / "file")]) == 74
    assert (tmp_path / "file").read_text() == "text"


def test_an_earlier_demonstration_is_removed_and_what_stands_beside_it_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    make_room(folder)
    for name in ("boss", "results", "notes"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("text")
    make_room(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".nd-synapse-demo", "notes"]


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    make_room(tmp_path / "demo")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("text")
    (tmp_path / "demo" / "results").symlink_to(tmp_path / "elsewhere")
    assert main(["--path", str(tmp_path / "demo")]) == 74
    assert (tmp_path / "elsewhere" / "file").exists()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    make_room(tmp_path)
    with pytest.raises(UsageError):
        make_room(tmp_path.parent)
