"""A block that fails is empty and is tried again; a pipeline that fails everywhere ends with its reason."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Place
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.detection.arrays import ROLES, VOXEL_SIZE_NM, Arrays, same
from tests.detection.hostile import SHAPE, SIZE, Fragile, background, dense


class Mended(Fragile):
    """The same after it was mended: its settings, and so its fingerprint, are the same."""

    def detect(self, arrays: Any, finding: Finding, place: Place) -> Detected:
        return NomadsUnsupervised.detect(self, arrays, finding, place)


@pytest.mark.slow
def test_a_failed_block_is_empty_and_the_next_run_tries_it_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    voxels = dense()
    voxels[5, 20, 20] = 254
    source = Arrays(pre=voxels, post=dense())

    def plan(pipeline: NomadsUnsupervised, folder: str) -> Plan:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Plan(source, source.box, pipeline, ROLES, ("pre",), VOXEL_SIZE_NM, SIZE, tmp_path / folder)

    with caplog.at_level(logging.DEBUG):
        found = detect(plan(Fragile(), "a"), 2)
    failed_block = Box((4, 8), (16, 32), (16, 32))
    assert [(failed.box, failed.step) for failed in found.failed_blocks] == [(failed_block, "detect")]
    assert "a voxel that I cannot stand" in found.failed_blocks[0].reason
    assert "ValueError" in found.failed_blocks[0].traceback
    assert not found.masks["All"][failed_block.slices()].any()
    assert np.asarray(found.masks["All"]).any()
    line = r"detect: block z 0:4 y 0:16 x 0:16 pull_s=\d+\.\d+ compute_s=\d+\.\d+ write_s=\d+\.\d+ peak_mib=\d+"
    assert re.search(line, caplog.text)
    mended = detect(plan(Mended(), "a"), 2)
    assert mended.resumed["detect"] == 26
    assert not mended.failed_blocks
    same(mended, detect(plan(Mended(), "b"), 1))


def test_a_pipeline_that_fails_everywhere_ends_with_the_first_reason(tmp_path: Path) -> None:
    class Hopeless(NomadsUnsupervised):
        def summarise(self, arrays: Any, place: Place) -> Any:
            raise ValueError("nothing works")

    source = Arrays(pre=dense(), post=dense())
    with pytest.raises(DataError, match="failed on every block, on the first with ValueError: nothing works"):
        detect(Plan(source, source.box, Hopeless(), ROLES, ("pre",), VOXEL_SIZE_NM, SIZE, tmp_path), 1)


class Joined(Fragile):
    """Takes objects of a certain size: a block that failed decides about objects that reach into its neighbours."""

    def select(self, objects: Any, finding: Finding) -> Chosen:
        return Chosen({"All": objects["voxels"] >= 25})


class JoinedMended(Joined):
    """The same after it was mended."""

    def detect(self, arrays: Any, finding: Finding, place: Place) -> Detected:
        return NomadsUnsupervised.detect(self, arrays, finding, place)


@pytest.mark.slow
def test_a_mended_block_changes_the_masks_around_it(tmp_path: Path) -> None:
    """An object is large enough only together with its part in the block that failed."""
    voxels = background()
    voxels[5:7, 20:22, 10:22] = 220
    voxels[6, 20, 20] = 254
    source = Arrays(pre=voxels, post=voxels)

    def run(pipeline: NomadsUnsupervised, folder: str) -> Any:
        (tmp_path / folder).mkdir(exist_ok=True)
        return detect(Plan(source, source.box, pipeline, ROLES, ("pre",), VOXEL_SIZE_NM, SIZE, tmp_path / folder), 1)

    assert run(Joined(), "a").failed_blocks
    same(run(JoinedMended(), "a"), run(JoinedMended(), "b"))


def test_a_pipeline_that_detects_another_shape_is_refused(tmp_path: Path) -> None:
    class Wrong(NomadsUnsupervised):
        def detect(self, arrays: Any, finding: Finding, place: Place) -> Detected:
            found = NomadsUnsupervised.detect(self, arrays, finding, place)
            return Detected({name: voxels[:, 1:] for name, voxels in found.sets.items()})

    source = Arrays(pre=dense(), post=dense())
    plan = Plan(source, source.box, Wrong(), ROLES, ("pre",), VOXEL_SIZE_NM, SHAPE, tmp_path)
    with pytest.raises(DataError, match="was detected in a block of"):
        detect(plan, 1)
