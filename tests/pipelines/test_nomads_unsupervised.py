"""The pipeline nomads-unsupervised: what its definition says, at its edges too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.roles import Role, find_channels
from pipelines.local_contrast import bin_of
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.pipelines.variants import VOXEL_SIZE_NM

ROLES = NomadsUnsupervised.roles


def mask(pre: NDArray[Any], post: NDArray[Any], **parameters: Any) -> NDArray[np.bool_]:
    channels = {"synapsin": pre, "psd95": post}
    return detect_arrays(NomadsUnsupervised(**parameters), channels, VOXEL_SIZE_NM).masks["All"] > 0


def spots(*places: tuple[int, int, int], shape: tuple[int, int, int] = (7, 40, 40)) -> NDArray[np.uint8]:
    voxels = np.random.default_rng(len(places)).poisson(10, shape).astype(np.uint8)
    for z, y, x in places:
        voxels[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 150
    return voxels


def test_both_markers_are_needed() -> None:
    """A punctum of one marker alone is no synapse; the historical feature would take it."""
    shared, pre_only, post_only = (3, 10, 10), (3, 10, 30), (3, 30, 10)
    detected = mask(spots(shared, pre_only), spots(shared, post_only))
    assert detected[shared]
    assert not detected[pre_only]
    assert not detected[post_only]


def test_a_few_bright_outliers_do_not_lift_the_threshold() -> None:
    """Otsu alone would find the outlier and lose the synapses."""
    places = [(3, y, x) for y in (8, 20, 32) for x in (8, 20, 32)]
    dim = spots(*places, shape=(7, 200, 200))
    bright = dim.copy()
    bright[3:5, 150:153, 150:153] = 255
    for voxels in (dim, bright):
        detected = mask(voxels, voxels)
        assert all(detected[place] for place in places)


def test_uint16_keeps_its_full_depth() -> None:
    """Twelve-bit data in sixteen bits are not reduced to sixteen grey values."""
    place = (3, 10, 10)
    fine = np.full((7, 40, 40), 3000, np.uint16) + np.random.default_rng(0).integers(
        0, 20, (7, 40, 40), dtype=np.uint16
    )
    fine[2:5, 9:12, 9:12] += 90
    detected = mask(fine, fine)
    assert detected[place]
    assert np.count_nonzero(detected) < 200


@pytest.mark.parametrize("name", ["nomads-unsupervised", "nomads-2018"])
@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_channel_is_named(value: int, name: str) -> None:
    channels = {"synapsin": np.full((3, 8, 8), value, np.uint8), "psd95": spots((1, 4, 4), shape=(3, 8, 8))}
    with pytest.raises(DataError, match=r"'synapsin'.*one value"):
        detect_arrays(registry.build(name, {}), channels, VOXEL_SIZE_NM)


def test_sizes_are_limited_in_cubic_micrometres_and_in_voxels() -> None:
    voxels = np.array([1, 2, 5, 40])
    objects = {"voxels": voxels, "volume_um3": voxels * 0.0007, "max_evidence": np.full(4, bin_of(2.0))}
    finding = {"strictness": 2.0}
    assert NomadsUnsupervised(min_volume_um3=0.0014).select(objects, finding).masks["All"].tolist() == [
        False,
        True,
        True,
        True,
    ]
    chosen = NomadsUnsupervised(min_voxels=6).select(objects, finding)
    assert chosen.masks["All"].tolist() == [False, False, False, True]


CHANNELS = {
    "by-marker": (["LY", "PSD95", "SYNAPSIN"], {}, {"presynaptic": "SYNAPSIN", "postsynaptic": "PSD95"}),
    "case-and-hyphen": (["Psd-95", "synapsin_1"], {}, {"presynaptic": "synapsin_1", "postsynaptic": "Psd-95"}),
    "best-marker-first": (
        ["VGlut1", "Synapsin", "PSD95", "GluN1"],
        {},
        {"presynaptic": "Synapsin", "postsynaptic": "PSD95"},
    ),
    "chosen": (["a", "b", "PSD95"], {"presynaptic": "b"}, {"presynaptic": "b", "postsynaptic": "PSD95"}),
}


@pytest.mark.parametrize("case", CHANNELS.values(), ids=CHANNELS)
def test_channels_are_found_by_their_markers(case: tuple[list[str], dict[str, str], dict[str, str]]) -> None:
    channels, chosen, expected = case
    assert find_channels(ROLES, channels, chosen) == expected


@pytest.mark.parametrize(
    ("channels", "chosen", "error", "words"),
    [
        (["SYNAPSIN", "LY"], {}, UnknownNameError, "postsynaptic"),
        (["SYNAPSIN_1", "SYNAPSIN_2", "PSD95"], {}, UsageError, "SYNAPSIN_1, SYNAPSIN_2"),
        (["SYNAPSIN", "PSD95"], {"presynaptic": "SYNAPSN"}, UnknownNameError, "SYNAPSIN, PSD95"),
        (["SYNAPSIN", "PSD95"], {"pre": "SYNAPSIN"}, UnknownNameError, "postsynaptic, presynaptic"),
    ],
    ids=["missing", "ambiguous", "misspelt", "no-role"],
)
def test_channels_that_cannot_be_decided_are_listed(
    channels: list[str], chosen: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        find_channels(ROLES, channels, chosen)


def test_two_roles_may_not_be_the_same_by_accident() -> None:
    """A marker of one role is no marker of another."""
    seen: set[str] = set()
    for role in ROLES:
        assert isinstance(role, Role)
        assert not seen & set(role.markers)
        seen |= set(role.markers)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e308"])
def test_a_threshold_that_is_no_number_to_compute_with_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"strictness={text}"):
        registry.build("nomads-unsupervised", {"strictness": text})


def test_a_whole_number_beyond_sixty_three_bits_is_refused() -> None:
    with pytest.raises(UsageError, match="the largest value is"):
        registry.build("nomads-unsupervised", {"min_voxels": "9" * 20})
