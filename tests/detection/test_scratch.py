"""What an earlier run left on disk is used as far as it is whole, and never taken for what it is not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nd_synapse.blocks.scratch import locked
from nd_synapse.blocks.store import Store
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.passes import Passes
from nd_synapse.errors import NDSynapseError
from nd_synapse.job import folder as result_folder
from nd_synapse.job.folder import ResultFolder
from tests.detection.arrays import Arrays, plan, same
from tests.detection.in_process import InProcessPool
from tests.detection.parts import Watching
from tests.pipelines.variants import built, volume

SHAPE = (4, 15, 20)
SIZE = (2, 6, 7)


def spots(seed: int) -> Arrays:
    """Return a volume with synapses in most blocks."""
    return Arrays(**volume(built("nomads-unsupervised"), SHAPE, np.uint8, "spots", seed))


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)


def run(source: Arrays, folder: Path, monkeypatch: pytest.MonkeyPatch, killed_after: str = "") -> Detection:
    """Detect in a folder; be killed after a pass."""
    folder.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        if killed_after:
            method = getattr(Passes, killed_after)

            def dying(*arguments: Any, **named: Any) -> Any:
                method(*arguments, **named)
                raise Killed

            patch.setattr(Passes, killed_after, dying)
        return detect(plan(source, folder, SIZE), 2)


def zeroed(path: Path) -> None:
    """Let the last third of a file be zeros, as a file may be after a power cut."""
    body = path.read_bytes()
    path.write_bytes(body[: -len(body) // 3] + bytes(len(body) // 3 + 1)[: len(body) - len(body[: -len(body) // 3])])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flipped(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-5] ^= 255
    path.write_bytes(bytes(body))


def retyped(path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, np.load(path).astype(np.int64))
    else:
        path.write_bytes(b"[]")


DAMAGE: list[Callable[[Path], object]] = [
    *(zeroed, cut, flipped, retyped, Path.unlink),
    lambda path: path.write_bytes(b""),
]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE, ids=["zeroed", "cut", "flipped", "retyped", "removed", "emptied"])
@pytest.mark.parametrize(
    ("kind", "killed_after"), [("tiles-", "learn"), ("masks-", "write_masks")], ids=["tiles", "masks"]
)
def test_damaged_arrays_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, killed_after: str, damage: Callable[[Path], object]
) -> None:
    """A plain array has no check sum of its own: zeros in it would be voxels."""
    source = spots(3)
    clean = run(source, tmp_path / "clean", monkeypatch)
    with pytest.raises(Killed):
        run(source, tmp_path / "b", monkeypatch, killed_after)
    found = [path for path in sorted((tmp_path / "b").glob(f"{kind}*/*.npy")) if path.stem[0].isdigit()]
    damage(found[len(found) // 2])
    same(run(source, tmp_path / "b", monkeypatch), clean)


def test_a_tile_that_was_pulled_and_not_counted_is_pulled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing shows whether it is what BOSS holds: the volume may have changed since."""
    source = Watching(**spots(3).data)
    source.requested = []
    clean = run(source, tmp_path / "clean", monkeypatch)
    with pytest.raises(Killed):
        run(source, tmp_path / "b", monkeypatch, "learn")
    (statistics,) = (tmp_path / "b").glob("statistics-*")
    lost = sorted(statistics.glob("*.npz"))[3]
    lost.unlink()
    source.requested.clear()
    same(run(source, tmp_path / "b", monkeypatch), clean)
    # of the others some are asked for, to be compared
    assert [box for box in source.requested if "_".join(map(str, box.start)) == lost.stem]


@pytest.mark.slow
def test_other_damage_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum of a compressed file shows it, and its block is computed again."""
    source = spots(3)
    clean = run(source, tmp_path / "clean", monkeypatch)
    chance = random.Random(4)
    for number in range(10):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            run(source, folder, monkeypatch, chance.choice(["learn", "find", "measure", "write_masks"]))
        files = [path for path in sorted(folder.glob("*/*")) if path.suffix in (".npy", ".npz")]
        chance.choice(DAMAGE)(chance.choice(files))
        same(run(source, folder, monkeypatch), clean)


def test_files_that_traded_their_contents_cost_their_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is whole, and of another block."""
    source = spots(3)
    clean = run(source, tmp_path / "clean", monkeypatch)
    with pytest.raises(Killed):
        run(source, tmp_path / "b", monkeypatch, "write_masks")
    for kind in ("statistics-", "faces-", "labels-", "parts-", "overviews-"):
        one, other, *_ = sorted((tmp_path / "b").glob(f"{kind}*/*.npz"), key=lambda path: -path.stat().st_size)
        bodies = one.read_bytes(), other.read_bytes()
        assert bodies[0] != bodies[1]
        other.write_bytes(bodies[0])
        one.write_bytes(bodies[1])
    same(run(source, tmp_path / "b", monkeypatch), clean)


def test_a_mask_that_contradicts_its_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes them differ, neither is delivered."""
    monkeypatch.setattr("nd_synapse.detection.blocks.np.count_nonzero", lambda mask: int((mask != 0).sum()) + 1)
    with pytest.raises(NDSynapseError, match=r"it has .* voxels, the objects"):
        run(spots(3), tmp_path / "b", monkeypatch)


def removals(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Let a process be killed at the n-th file, or folder, that it removes or renames."""
    counted = itertools.count(1)
    for name in ("unlink", "rmdir", "rename"):
        original = getattr(__import__("os"), name)

        def counting(*arguments: Any, original: Any = original, **named: Any) -> Any:
            if next(counted) > last:
                raise Killed
            return original(*arguments, **named)

        monkeypatch.setattr(f"os.{name}", counting)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["the scratch folder", "the volume"])
def test_killed_at_any_removal_the_same_command_ends_with_the_right_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """What a run removes, when it is done or starts over, is trusted by no later one, however little is gone."""
    before, after = spots(3), spots(4)
    wanted = run(after, tmp_path / "clean", monkeypatch)
    assert len(wanted.table["id"]) > 0
    for last in itertools.chain(range(8), itertools.count(8, 151)):
        folder = ResultFolder(tmp_path, f"results-{last}")
        with result_folder.locked(folder.root):
            run(after if change == "the scratch folder" else before, folder.work, monkeypatch)
            try:
                with monkeypatch.context() as patch:
                    removals(patch, last)
                    if change == "the scratch folder":
                        folder.clear_work()
                    else:
                        run(after, folder.work, patch)
            except Killed:
                pass
            else:
                break
        again = ResultFolder(tmp_path, f"results-{last}")
        with result_folder.locked(again.root):
            same(run(after, again.work, monkeypatch), wanted)
            again.clear_work()
            assert not list(again.root.iterdir())
    assert last > (3 if change == "the scratch folder" else 30)


def test_what_a_killed_process_was_removing_is_gone_after_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("parts-a", "0_0_0", {"a": np.zeros(3)})
    (tmp_path / ".gone-1-0").mkdir()
    (tmp_path / ".gone-1-0" / "file").touch()
    with locked(store.root):
        assert [path.name for path in tmp_path.iterdir()] == ["parts-a"]
    store.save("parts-a", "0_0_0", {"a": np.zeros(3)})
    (tmp_path / ".gone-1-0").mkdir()
    store.keep_only({"parts-a"})
    assert [path.name for path in tmp_path.iterdir()] == ["parts-a"]
