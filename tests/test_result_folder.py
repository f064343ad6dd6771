"""The result folder: its names, what may lie in it, its lock, and what is cleared."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from pathlib import Path

import pytest

from nd_synapse.errors import StorageError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.job.deliverables import deliverables
from nd_synapse.job.folder import ResultFolder, locked
from nd_synapse.job.job import mask_names, results_key
from nd_synapse.job.leftovers import clear_results, refuse_foreign, refuse_other_volume
from nd_synapse.job.manifest import write_run_json
from nd_synapse.job.results import write_links

BOX = Box(z=(3, 6), y=(100, 110), x=(7, 12))


@pytest.fixture
def folder(tmp_path: Path) -> ResultFolder:
    return ResultFolder(tmp_path, "key")


def test_the_results_key_is_the_historical_one() -> None:
    box = Box(z=(2, 10), y=(0, 1024), x=(30, 1344))
    key = "nomads-unsupervised_collman_M247514_z_2_10_y_0_1024_x_30_1344"
    assert results_key("nomads-unsupervised", ("collman", "M247514"), box) == key


def test_the_first_mask_is_named_for_its_pipeline_and_the_others_for_themselves() -> None:
    names = mask_names("nomads-unsupervised", ["All", "Gaba"])
    assert names == {"All": "nomads-unsupervised-predictions", "Gaba": "Gaba"}


@pytest.mark.parametrize("names", [("All", "p-predictions"), ("All", "P-Predictions"), ("All", "all"), ("a", "B", "b")])
def test_masks_whose_files_or_channels_would_be_one_are_refused(names: tuple[str, ...]) -> None:
    """Some file systems, and the database behind BOSS, know no case."""
    with pytest.raises(UsageError, match="two of them would be called"):
        mask_names("p", names)


@pytest.mark.parametrize("key", ["", ".", "..", "../up", "a/b", "/a", "a\\b", "a\nb", "a\x00b", ".hidden"])
def test_a_key_that_would_leave_the_path_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match="it would lie elsewhere"):
        ResultFolder(tmp_path, key)
    assert not list(tmp_path.iterdir())


def test_hidden_files_and_links_are_no_deliverables(folder: ResultFolder, tmp_path: Path) -> None:
    (folder.work / "block.npy").write_bytes(b"")
    (folder.root / ".synapses.csv.1.part").write_bytes(b"")
    (folder.root / "report" / ".cache").mkdir(parents=True)
    (folder.root / "report" / ".cache" / "font").write_bytes(b"")
    (folder.root / "report" / "index.html").write_bytes(b"")
    (folder.root / "linked").symlink_to(tmp_path)
    (folder.root / "link").symlink_to(folder.root / "report" / "index.html")
    write_links(folder.root, {})
    assert deliverables(folder.root) == [folder.root / "NDVIS_links.csv", folder.root / "report" / "index.html"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ENOENT"):
        deliverables(tmp_path / "nowhere")


def test_building_the_folder_again_keeps_what_is_there(folder: ResultFolder) -> None:
    (folder.work / "block.npy").write_bytes(b"done")
    write_links(folder.root, {"All": "x"})
    again = ResultFolder(folder.root.parent, "key")
    assert (again.work / "block.npy").read_bytes() == b"done"
    assert deliverables(again.root) == [folder.root / "NDVIS_links.csv"]


def test_clearing_removes_scratch_and_half_written_files_and_nothing_else(folder: ResultFolder) -> None:
    write_links(folder.root, {"All": "x"})
    (folder.work / "blocks").mkdir()
    (folder.root / ".synapses.csv.1.part").write_bytes(b"half")
    folder.clear_work()
    folder.clear_work()
    assert list(folder.root.iterdir()) == [folder.root / "NDVIS_links.csv"]


@pytest.mark.parametrize(("path", "key", "code"), [("file", "key", "ENOTDIR"), ("", "k" * 256, "ENAMETOOLONG")])
def test_a_folder_that_cannot_be_created_is_a_storage_error(tmp_path: Path, path: str, key: str, code: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=code) as caught:
        ResultFolder(tmp_path / path, key)
    assert caught.value.exit_code == 74


def test_a_folder_of_another_experiment_with_the_same_key_is_refused(tmp_path: Path) -> None:
    key = results_key("p", ("a_b", "c"), BOX)
    assert key == results_key("p", ("a", "b_c"), BOX)
    folder = ResultFolder(tmp_path, key)
    refuse_other_volume(folder.root, ("a", "b_c"))
    write_run_json(folder.root, {"asked": {"collection": "a_b", "experiment": "c"}, "files": {}})
    refuse_other_volume(folder.root, ("a_b", "c"))
    with pytest.raises(UsageError, match="it has those of a_b/c"):
        refuse_other_volume(folder.root, ("a", "b_c"))
    (folder.root / "run.json").write_text("{")
    refuse_other_volume(folder.root, ("a", "b_c"))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_folder_that_cannot_be_locked_is_named(
    folder: ResultFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A network file system without locks, or one whose server of locks is away."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    before = list(Path("/proc/self/fd").iterdir())
    with pytest.raises(StorageError, match=r"cannot be locked: .* a file system with locks"), locked(folder.root):
        pytest.fail("it is locked")
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_folder_that_went_away_before_it_was_locked_is_named(folder: ResultFolder) -> None:
    shutil.rmtree(folder.root)
    with pytest.raises(StorageError, match="ENOENT"), locked(folder.root):
        pytest.fail("it is locked")


class TestWhatIsNotOfARun:
    """The folder of a run is its alone; what a user puts into it is neither removed nor delivered."""

    MASKS = ("nomads-unsupervised-predictions", "inhibitory")

    @pytest.mark.parametrize(
        "name", ["notes.txt", "rois/a.roi", "figures/mine.svg", "figures/deeper/a.png", "other.pkl", "my PyMeda_a.html"]
    )
    def test_a_file_of_somebody_is_refused_and_stays(self, folder: ResultFolder, name: str) -> None:
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text("mine")
        with pytest.raises(UsageError, match=re.escape(f"it has files that no run left there: {name}")):
            refuse_foreign(folder.root, self.MASKS)
        clear_results(folder.root, self.MASKS)
        assert (folder.root / name).read_text() == "mine"

    @pytest.mark.parametrize("name", ["run.json", "figures", "job.log", "synapses.csv", "anything"])
    @pytest.mark.parametrize("leads_to", ["file", "folder", "nowhere"])
    def test_a_symbolic_link_is_refused_whatever_its_name(
        self, folder: ResultFolder, tmp_path: Path, name: str, leads_to: str
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        (folder.root / name).symlink_to(tmp_path / leads_to)
        with pytest.raises(UsageError, match=f"it has files that no run left there: {name}"):
            refuse_foreign(folder.root, self.MASKS)

    @pytest.mark.parametrize("ended", [True, False])
    def test_what_a_run_left_is_removed_whether_it_ended_or_not(self, folder: ResultFolder, ended: bool) -> None:
        names = [f"{mask}{suffix}" for mask in self.MASKS for suffix in (".pkl", ".ome.tiff")]
        names += ["synapses.csv", "synapses.parquet", "NDVIS_links.csv", "PyMeda_a-b.html", "figures/a.png"]
        names += [f"synapses.annotations/{name}" for name in ("info", "by_id/0.shard", "spatial10/0.shard")]
        for name in (*names, "job.log"):
            (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.root / name).touch()
        if ended:
            (folder.root / "of-then.pkl").touch()
            files = {key: {"bytes": 0, "sha256": ""} for key in [*names, "of-then.pkl"]}
            write_run_json(folder.root, {"asked": {"collection": "c", "experiment": "e"}, "files": files})
        refuse_foreign(folder.root, self.MASKS)
        clear_results(folder.root, self.MASKS)
        assert [path.name for path in deliverables(folder.root)] == ["job.log"]

    def test_folders_that_a_killed_run_had_emptied_are_removed_too(self, folder: ResultFolder) -> None:
        """A folder of labels is not renamed to one that is there, unless that is empty."""
        inner = [folder.root / name for name in ("synapses.ome.zarr/0/c", "synapses.annotations/by_id", "figures")]
        for path in inner:
            path.mkdir(parents=True)
        clear_results(folder.root, self.MASKS)
        assert [path.name for path in folder.root.iterdir()] == [".work"]

    def test_a_scratch_folder_that_is_a_symbolic_link_is_refused(self, tmp_path: Path) -> None:
        """Removing it would leave what it leads to, and the same command would go on from nothing."""
        (tmp_path / "key").mkdir()
        (tmp_path / "disk").mkdir()
        (tmp_path / "key" / ".work").symlink_to(tmp_path / "disk")
        with pytest.raises(UsageError, match=r"\.work: it is a symbolic link"):
            ResultFolder(tmp_path, "key")
