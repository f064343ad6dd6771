"""What is counted where tissue ends: at padding, and at blocks that failed."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from nd_synapse.detection.in_memory import detect_arrays
from tests.cases import Case
from tests.detection.in_process import InProcessPool
from tests.detection.test_density import SIZE_NM, Bright, broken
from tests.detection.test_padding import again_of, with_hole


def _in_padding(_folder: Path) -> str:
    """Count objects of one voxel, half of which lie in padding, with a pipeline that searches all of the box."""
    image = np.random.default_rng(4).integers(1, 100, (6, 120, 120)).astype(np.uint8)
    image[:, :52] = 0
    mask = np.zeros_like(image)
    mask[1::2, 2::10, 2::10] = 255
    found = detect_arrays(Bright(tissue_only=False), {"image": image, "mask": mask}, SIZE_NM)
    every = found.density.every
    return f"{len(found.table['id'])} objects, {every.synapses:g} in {every.um3:.3g} µm³ of tissue"


def _beside_failed(folder: Path) -> str:
    """Count rods along x of which the middle lies in a block that failed."""
    mask = np.zeros((4, 60, 90), np.bool_)
    mask[1:3, 5::10, 5:-5] = True
    with patch("nd_synapse.detection.on_disk.BlockPool", InProcessPool):
        found = broken(mask, folder, (4, 60, 30), (0, 0, 30))
    return f"{found.density.cut} of {len(found.table['id'])} cut"


def _verified(folder: Path) -> str:
    """Compute a part again beside a flat area in tissue that has the value of padding and crosses its window."""
    with pytest.MonkeyPatch.context() as patch:
        _, again = again_of(with_hole(0), folder, patch)
    return f"{sum(part.masks['All'].voxels for part in again)} voxels differ"


CASES: tuple[Case, ...] = (
    Case(
        "density-of-a-pipeline-that-searches-padding",
        "432 objects of one voxel, half of which lie in padding",
        "432 objects, 432 in 30.2 µm³ of tissue",
        "432 objects, 216 in 30.2 µm³ of tissue",
        _in_padding,
    ),
    Case(
        "brick-beside-a-failed-block",
        "six rods whose middle lies in a block that failed",
        "0 of 12 cut",
        "12 of 12 cut",
        _beside_failed,
    ),
    Case(
        "verify-beside-a-hole-in-tissue",
        "a flat area in tissue, of the value of padding, that no window has all of",
        "165 voxels differ",
        "0 voxels differ",
        _verified,
        slow=True,
    ),
)
