"""A detection on arrays in memory: what it keeps."""

import numpy as np
import pytest

from nd_synapse.blocks.store import MemoryStore
from nd_synapse.detection import in_memory
from nd_synapse.pipeline import registry


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
    assert {kind.split("-")[0] for kind in store.kinds("")} == {"labels"}
    assert np.array_equal(np.asarray(found.labels) != 0, found.masks["All"] != 0)
