"""The pipeline `nomads-2018`: the program published as NOMADS unsupervised in 2018, voxel for voxel.

It detects by one marker, and is there to compare with earlier results. The published feature is described as the local
covariance of two markers, but ``E[a + b] - E[a] + E[b]`` is ``2 E[b]``: one marker, smoothed over 3 x 3 x 3 voxels,
decides alone. Otsu's threshold on 256 bins between the smallest and the largest value; objects of more than 30 voxels.

Otsu, N. (1979). A threshold selection method from gray-level histograms. IEEE Trans. Syst. Man Cybern. 9(1), 62-66.
doi:10.1109/TSMC.1979.4310076
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.pipeline.contract import (
    Chosen,
    Detected,
    Finding,
    Objects,
    Parameter,
    Pipeline,
    Place,
    Summary,
    check_parameters,
)
from nd_synapse.pipeline.roles import Role

__all__ = ["LARGEST_DROPPED", "ROLES", "Nomads2018", "box_sums", "otsu_bin"]

ROLES = (
    Role("presynaptic", ("synapsin", "syn1", "bassoon", "vglut1", "vglut"), "a marker of the pre-synaptic side"),
    Role(
        "postsynaptic",
        ("psd95", "psd", "glun1", "nr1", "glur"),
        "a marker of the post-synaptic side",
        but_not=("cnr1", "mglur"),
    ),
)

LARGEST_DROPPED = 30
"""Objects of up to so many voxels are dropped."""

_BINS = 256


@dataclass(frozen=True, slots=True)
class Nomads2018(Pipeline):
    """Detects what one smoothed marker separates by Otsu's threshold."""

    marker: str = "presynaptic"

    # it stays as published, and so takes the edge of padding for an edge of tissue
    tissue_only = False
    name = "nomads-2018"
    help = "one marker, smoothed, above Otsu's threshold: the program published in 2018"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "marker", "presynaptic", "", "side of the marker that detects", choices=tuple(role.name for role in ROLES)
        ),
    )

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_parameters(self)

    @property
    def roles(self) -> tuple[Role, ...]:
        """The marker that detects."""
        return tuple(role for role in ROLES if role.name == self.marker)

    @property
    def working_bytes(self) -> int:
        """Sums of 32 bits, and the copy that counting takes."""
        return 16

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return the reach of a 3 x 3 x 3 sum."""
        del voxel_size_nm
        return (1, 1, 1)

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Count the box sums."""
        del place
        return {self.marker: np.bincount(box_sums(_to_uint8(arrays[self.marker])).ravel()).astype(np.int64)}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Find the threshold."""
        threshold = _threshold(summary[self.marker])
        if threshold is None:
            raise DataError(
                f"detecting synapses in channel {channels[self.marker]!r} ({self.marker})",
                "its voxels in the box have one value, or nearly so",
                "Choose another channel with --channels or another box",
            )
        return {f"threshold:{self.marker}": threshold, f"threshold_intensity:{self.marker}": threshold / 27}

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels whose box sum exceeds the threshold."""
        del place
        return Detected({"All": box_sums(_to_uint8(arrays[self.marker])) > finding[f"threshold:{self.marker}"]})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Keep the objects of more than 30 voxels."""
        del finding
        return Chosen({"All": objects["voxels"] > LARGEST_DROPPED})


def box_sums(voxels: NDArray[Any]) -> NDArray[Any]:
    """Sum the 3 x 3 x 3 neighbours of each inner voxel: uint8 (z, y, x) to uint16, uint16 to uint32, 2 less an axis."""
    wide: NDArray[np.uint16 | np.uint32] = voxels.astype(np.uint16 if voxels.dtype == np.uint8 else np.uint32)
    x = wide[:, :, :-2] + wide[:, :, 1:-1]
    x += wide[:, :, 2:]
    y = x[:, :-2] + x[:, 1:-1]
    y += x[:, 2:]
    sums = y[:-2] + y[1:-1]
    sums += y[2:]
    return sums


def otsu_bin(counts: NDArray[np.int64]) -> int:
    """Return the first bin k with the largest variance between ``counts[:k + 1]`` and ``counts[k + 1:]`` (Otsu 1979).

    `counts` has the shape (bins,), and at least two bins are not empty.
    """
    weights = counts.astype(np.float64)
    below = np.cumsum(weights)
    moment = np.cumsum(weights * np.arange(len(weights)))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment / below - (moment[-1] - moment) / above) ** 2
    return int(np.argmax(np.nan_to_num(between[:-1], nan=0.0)))


def _to_uint8(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale to uint8 by the type's maximum, truncated as in the published program; same shape."""
    if voxels.dtype == np.uint8:
        return voxels.view(np.uint8)
    top = np.iinfo(voxels.dtype).max
    scale: NDArray[np.uint8] = (np.arange(top + 1) / top * 255).astype(np.uint8)
    scaled: NDArray[np.uint8] = scale[voxels]
    return scaled


def _threshold(counts: NDArray[np.int64]) -> int | None:
    """Return the largest box sum that is background, None where all sums are equal."""
    present = np.flatnonzero(counts)
    low, high = int(present[0]), int(present[-1])
    if low == high:
        return None
    values = np.arange(low, len(counts)) - low
    histogram = np.zeros(_BINS, np.int64)
    np.add.at(histogram, np.minimum(values * _BINS // (high - low), _BINS - 1), counts[low:])
    # the threshold is the centre of the bin, as a whole sum: low + (k + 1/2) (high - low) / 256, rounded down
    return low + (2 * otsu_bin(histogram) + 1) * (high - low) // (2 * _BINS)
