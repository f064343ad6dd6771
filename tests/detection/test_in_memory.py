"""A detection on arrays in memory: what it keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.blocks.store import MemoryStore
from nd_synapse.detection import in_memory
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Objects, Pipeline, Place
from nd_synapse.pipeline.roles import Role


def test_a_result_holds_its_labels_and_nothing_else_of_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks are returned as arrays; the blocks that they were put together from would be held a second time."""
    stores: list[MemoryStore] = []

    class Kept(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            stores.append(self)

    monkeypatch.setattr(in_memory, "MemoryStore", Kept)
    rng = np.random.default_rng(1)
    voxels = rng.integers(0, 40, (4, 40, 40), np.uint8)
    voxels[1:3, 10:13, 10:13] = 250
    pipeline = registry.build("nomads-unsupervised", {})
    found = in_memory.detect_arrays(
        pipeline, {"synapsin": voxels, "psd95": voxels}, (70.0, 100.0, 100.0), block_size=(4, 16, 16)
    )
    (store,) = stores
    assert {kind.split("-")[0] for kind in store.kinds("")} == {"labels", "numbers"}
    assert np.array_equal(np.asarray(found.labels) != 0, found.masks["All"] != 0)


@dataclass(frozen=True)
class Large(Pipeline):
    """Its second mask would hold objects that its first has not."""

    name = "large"
    roles = (Role("marker", ("psd95",), "any marker"),)
    masks = ("All", "Every")

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        return Detected({"All": arrays["marker"] > 0})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        return Chosen({"All": objects["voxels"] > 1, "Every": objects["voxels"] > 0})


@pytest.mark.parametrize("size", [(4, 40, 40), (2, 8, 8)])
def test_a_further_mask_holds_only_what_the_first_has(size: tuple[int, int, int]) -> None:
    """Table and masks are of the same objects, as `verify` wants when it asks which are cut off."""
    voxels = np.zeros((4, 40, 40), np.uint8)
    voxels[1:3, 6:10, 6:10] = voxels[2, 30, 31] = 9
    found = in_memory.detect_arrays(Large(), {"psd95": voxels}, (70.0, 100.0, 100.0), block_size=size)
    assert len(found.table["id"]) == 1
    for mask in found.masks.values():
        assert np.count_nonzero(mask) == 32
