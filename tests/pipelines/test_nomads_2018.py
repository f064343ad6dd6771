"""The pipeline nomads-2018: what its definition says, and its earlier spelling."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import UsageError
from nd_synapse.job.job import mask_names
from nd_synapse.pipeline import registry
from pipelines.nomads_2018 import Nomads2018, box_sums, otsu_bin
from tests.pipelines.variants import VOXEL_SIZE_NM, volume


@given(
    st.tuples(*[st.integers(1, 6)] * 3),
    st.sampled_from([np.uint8, np.uint16]),
    st.sampled_from(["random", "top", "zero"]),
)
def test_for_any_voxels_the_box_sums_are_exact(shape: tuple[int, int, int], dtype: type, kind: str) -> None:
    top = np.iinfo(dtype).max
    kinds: dict[str, NDArray[Any]] = {
        "random": np.random.default_rng(0).integers(0, top + 1, shape),
        "top": np.full(shape, top),
        "zero": np.zeros(shape),
    }
    voxels: NDArray[Any] = kinds[kind].astype(dtype)
    expected = ndimage.convolve(voxels.astype(np.int64), np.ones((3, 3, 3), np.int64), mode="reflect")
    assert np.array_equal(box_sums(np.pad(voxels, 1, mode="symmetric")), expected)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30).filter(lambda counts: sum(c > 0 for c in counts) > 1))
def test_for_any_histogram_otsu_maximises_the_variance_between_classes(counts: list[int]) -> None:
    values = np.repeat(np.arange(len(counts)), counts).astype(float)

    def between(k: int) -> float:
        low, high = values[values <= k], values[values > k]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    best = max(between(k) for k in range(len(counts) - 1))
    assert between(otsu_bin(np.array(counts, np.int64))) == pytest.approx(best)


def test_objects_of_more_than_thirty_voxels_are_kept() -> None:
    assert Nomads2018().select({"voxels": np.array([1, 30, 31])}, {}).masks["All"].tolist() == [False, False, True]


def test_a_threshold_of_zero_is_a_threshold() -> None:
    """Sparse dim data: every voxel that is not 0 is foreground."""
    sparse = ((np.random.default_rng(0).random((6, 60, 60)) < 0.002) * 10).astype(np.uint8)
    found = detect_arrays(Nomads2018(), {"SYNAPSIN": sparse}, VOXEL_SIZE_NM)
    assert found.finding["threshold:presynaptic"] == 0


@pytest.mark.parametrize("marker", ["presynaptic", "postsynaptic"])
def test_the_earlier_spelling_finds_the_same_under_the_earlier_name(marker: str) -> None:
    earlier = registry.build("nomads-unsupervised", {"evidence": "one-channel", "marker": marker})
    assert mask_names(earlier.name, earlier.masks) == {"All": "nomads-unsupervised-predictions"}
    assert earlier.settings["evidence"] == "one-channel"
    assert registry.is_ours(earlier)
    assert pickle.loads(pickle.dumps(earlier)) == earlier
    again = {name: str(value) for name, value in earlier.settings.items()}
    assert registry.build("nomads-unsupervised", again) == earlier, "verify builds it from run.json"
    channels = volume(earlier, (6, 60, 70), np.uint16, "spots")
    one, other = (
        detect_arrays(p, channels, VOXEL_SIZE_NM) for p in (earlier, registry.build("nomads-2018", {"marker": marker}))
    )
    assert np.array_equal(one.masks["All"], other.masks["All"])
    assert one.finding == other.finding
    assert len(one.table["id"]) > 0


@pytest.mark.parametrize(
    "given_parameters", [{"evidence": "one-channel", "min_voxels": "5"}, {"marker": "postsynaptic"}], ids=str
)
def test_a_parameter_without_effect_is_refused(given_parameters: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="more than 30 voxels"):
        registry.build("nomads-unsupervised", given_parameters)
