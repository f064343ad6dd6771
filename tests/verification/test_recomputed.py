"""What is computed again is what the run computed, wherever it lies and whatever failed near it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.files import masks
from nd_synapse.geometry import Box, Frame
from nd_synapse.job.recompute import Differences, Known, recompute
from nd_synapse.pipeline.contract import Detected, Pipeline, Place
from tests.fixtures_boss import BossServer
from tests.verification.checked import BOX, STEM, VOXEL_SIZE_NM, checks, rewritten


class TestFailedBlocks:
    """What a run could not compute is 0 there, and not compared."""

    def fail(self, folder: Path, block: Box) -> None:
        """Make a folder that of a run in which a block failed."""
        path = folder / f"{STEM}.pkl"
        mask = masks.map_pickle(path, BOX.shape)
        offset, without = mask.offset, np.array(mask)  # type: ignore[attr-defined] # a memory map has an offset
        without[block.slices(BOX.start)] = 0
        body = path.read_bytes()
        path.write_bytes(body[:offset] + without.tobytes() + body[offset + without.size :])
        rewritten(folder, failed_blocks=[{"box": str(block)}])

    def test_objects_that_reach_a_failed_block_are_not_compared_and_all_others_are(
        self, folder: Path, boss: BossServer
    ) -> None:
        # the middle of the long object
        self.fail(folder, Box((8, 12), (100, 140), (140, 180)))
        found = checks(folder, boss, sample=8)["sample"]
        assert found.good
        assert "6 of 6 parts computed again: 0 voxels differ of" in found.found

    def test_nothing_is_computed_again_near_failed_blocks(self, folder: Path, boss: BossServer) -> None:
        self.fail(folder, BOX)
        found = checks(folder, boss, sample=8)["sample"]
        assert (found.good, found.error) == (None, None)
        assert found.found.startswith("nothing was computed again: of 0 parts")

    def test_nothing_is_computed_again_where_no_window_is_small_enough(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nd_synapse.job.recompute._MOST_VOXELS", 1000)
        found = checks(folder, boss, sample=8)["sample"]
        assert found.good is None
        assert "of 8 parts away from failed blocks, 0 voxels differ of 0" in found.found


def test_differences_add_up_and_name_the_first() -> None:
    box = Box((1, 2), (2, 3), (3, 6))
    one, other = np.array([[[1, 2, 3]]]), np.array([[[1, 0, 0]]])
    both = Differences.between(one, one, box) + Differences.between(one, other, box, other == one)
    left_out = "1 not compared: their objects are too large, or reach failed blocks"
    assert str(both) == f"2 voxels differ of 5, the first at z, y, x (1, 2, 4); {left_out}"


class Lattice(Pipeline):
    """Finds every fifth voxel of the box along each axis: what it finds follows from the place alone."""

    name = "lattice"
    help = "a lattice"

    def detect(self, arrays: Any, finding: Any, place: Place) -> Detected:
        """Mark the lattice."""
        assert place.volume == (60, 300, 300)
        z, y, x = (np.arange(start, start + n) % 5 == 0 for start, n in zip(place.start, place.shape, strict=True))
        return Detected({"All": z[:, None, None] & y[:, None] & x})


class Zeros:
    """A volume of zeros."""

    frame = Frame("frame", Box((0, 99), (0, 999), (0, 999)), VOXEL_SIZE_NM)

    def get_cutout(self, _: str, *ranges: tuple[int, int]) -> NDArray[np.uint8]:
        """Return zeros."""
        return np.zeros([stop - start for start, stop in ranges], np.uint8)


def test_a_pipeline_computes_a_window_as_at_its_place_in_the_box() -> None:
    box = Box((3, 63), (7, 307), (1, 301))
    z, y, x = (np.arange(n) % 5 == 0 for n in box.shape)
    mask = np.multiply(z[:, None, None] & y[:, None] & x, 255, dtype=np.uint8)
    known = Known(source=Zeros(), pipeline=Lattice(), roles={"any": "a"}, finding={}, box=box)  # type: ignore[arg-type] # it asks a source for voxels alone
    found = recompute(known, {"All": mask}, Box((32, 48), (256, 307), (256, 301))).masks["All"]
    assert (found.voxels, found.undecided) == (0, 0)
