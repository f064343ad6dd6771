"""The pipeline `nomads-unsupervised`: two markers in, one mask of synapses out, no training.

It tells no types of synapses apart, and it is not a detector of single markers: for that see its mode `one-channel`.

Method, mode ``both`` (the default). Each marker is summed over 3 x 3 x 3 voxels, which makes a pre-synaptic and a
post-synaptic punctum that lie beside each other overlap. A voxel is detected where *both* sums exceed their marker's
threshold, so neither marker alone can make a synapse. A threshold is Otsu's (1979), on the whole volume's histogram
with the brightest thousandth of the voxels counted as if they had the value that bounds them: a few very bright
objects, such as lipofuscin, then cannot lift it. Objects smaller than `min_volume_um3` are dropped; its default is
the volume that nine of ten synaptic clefts exceed in an electron-microscopy annotation (Collman et al. 2015).

Method, mode ``one-channel``. What the program published as NOMADS unsupervised in 2018 computes. Its feature is
meant as the local covariance of two markers, but ``E[a + b] - E[a] + E[b]`` is ``2 E[b]``: one marker, smoothed over
3 x 3 x 3 voxels, decides alone. Otsu's threshold on 256 bins between the smallest and the largest value; objects of
more than 30 voxels are kept. It is here for comparison with earlier results, voxel for voxel.

All arithmetic is on integers, so that blocks cannot show: a box sum of integers is exact, and so is its histogram.

References
----------
Otsu, N. (1979). A threshold selection method from gray-level histograms. IEEE Trans. Syst. Man Cybern. 9(1), 62-66.
doi:10.1109/TSMC.1979.4310076

Collman, F. et al. (2015). Mapping synapses by conjugate light-electron array tomography. J. Neurosci. 35(14),
5792-5807. doi:10.1523/JNEUROSCI.4274-14.2015
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from errors import DataError, UsageError
from pipelines.channels import Role
from pipelines.contract import Chosen, Detected, Finding, Objects, Parameter, Pipeline, Place, Summary

__all__ = ["NomadsUnsupervised", "box_sums", "otsu_bin"]

_BINS = 256
_HISTORICAL_VOXELS = 30
_OUTLIERS_PER_MILLE = 1


def box_sums(voxels: NDArray[Any]) -> NDArray[Any]:
    """Sum the 3 x 3 x 3 neighbourhood of every voxel that has one.

    Parameters
    ----------
    voxels : ndarray of uint8 or uint16, shape (z, y, x)
        Each extent at least 3.

    Returns
    -------
    ndarray of uint16 (from uint8) or uint32 (from uint16), shape (z - 2, y - 2, x - 2)
        Exact sums; 27 * 255 fits 16 bits, 27 * 65535 fits 32.
    """
    wide: NDArray[np.uint16 | np.uint32] = voxels.astype(np.uint16 if voxels.dtype == np.uint8 else np.uint32)
    x = wide[:, :, :-2] + wide[:, :, 1:-1]
    x += wide[:, :, 2:]
    y = x[:, :-2] + x[:, 1:-1]
    y += x[:, 2:]
    sums = y[:-2] + y[1:-1]
    sums += y[2:]
    return sums


def otsu_bin(counts: NDArray[np.int64]) -> int:
    """Return the bin that ends the darker class, by Otsu's criterion.

    Parameters
    ----------
    counts : ndarray of int64, shape (n,)
        Histogram with equal bins, at least two of them not empty.

    Returns
    -------
    int
        The first k for which the variance between ``counts[:k + 1]`` and ``counts[k + 1:]`` is largest.
    """
    weights = counts.astype(np.float64)
    below = np.cumsum(weights)
    moment = np.cumsum(weights * np.arange(len(weights)))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment / below - (moment[-1] - moment) / above) ** 2
    return int(np.argmax(np.nan_to_num(between[:-1], nan=0.0)))


def _historical_bytes(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale to uint8 by the type's maximum, as the historical program did (it truncates)."""
    if voxels.dtype == np.uint8:
        return voxels.view(np.uint8)
    top = np.iinfo(voxels.dtype).max
    scale: NDArray[np.uint8] = (np.arange(top + 1) / top * 255).astype(np.uint8)
    scaled: NDArray[np.uint8] = scale[voxels]
    return scaled


@dataclass(frozen=True, slots=True)
class NomadsUnsupervised(Pipeline):
    """Detects a synapse where two markers are both bright.

    Parameters
    ----------
    evidence : {'both', 'one-channel'}
        The mode; see the module's text.
    marker : {'presynaptic', 'postsynaptic'}
        The role that decides in mode ``one-channel``.
    min_volume_um3 : float
        Smallest synapse, in cubic micrometres, in mode ``both``.
    min_voxels : int
        Smallest synapse, in voxels, in mode ``both``.
    """

    evidence: str = "both"
    marker: str = "presynaptic"
    min_volume_um3: float = 0.0012
    min_voxels: int = 1

    name = "nomads-unsupervised"
    help = "two markers, one mask: where a pre-synaptic and a post-synaptic marker are both bright"
    roles = (
        Role("presynaptic", ("synapsin", "syn1", "bassoon", "vglut1", "vglut"), "a marker of the pre-synaptic side"),
        Role("postsynaptic", ("psd95", "psd", "glun1", "nr1", "glur"), "a marker of the post-synaptic side"),
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "evidence", "both", "", "both markers, or the historical one-channel procedure", ("both", "one-channel")
        ),
        Parameter(
            "marker", "presynaptic", "", "role that decides in mode one-channel", ("presynaptic", "postsynaptic")
        ),
        Parameter("min_volume_um3", 0.0012, "um^3", "smallest synapse (mode both)", minimum=0.0),
        Parameter("min_voxels", 1, "voxels", "smallest synapse (mode both)", minimum=1),
    )

    def __post_init__(self) -> None:
        """Refuse sizes where they would be ignored."""
        sizes = {p.name: p.default for p in self.parameters if p.name.startswith("min_")}
        if self.evidence == "one-channel" and any(getattr(self, name) != size for name, size in sizes.items()):
            raise UsageError(
                "a smallest size in mode one-channel",
                f"that mode keeps objects of more than {_HISTORICAL_VOXELS} voxels, as published",
                "Leave out min_volume_um3 and min_voxels, or set evidence=both",
            )

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return one voxel on each side: what a 3 x 3 x 3 sum reaches.

        Parameters
        ----------
        voxel_size_nm : tuple of float
            Size of a voxel; not needed.

        Returns
        -------
        tuple of int
            Voxels (z, y, x).
        """
        del voxel_size_nm
        return (1, 1, 1)

    @property
    def working_bytes(self) -> int:
        """Sums of 32 bits along one axis after the other, and the 64-bit copy that counting them takes."""
        return 16

    def _deciding(self) -> tuple[str, ...]:
        """Roles whose voxels decide."""
        return (self.marker,) if self.evidence == "one-channel" else tuple(role.name for role in self.roles)

    def _sums(self, role: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Box sums of a role's voxels, without the halo."""
        voxels = arrays[role]
        return box_sums(_historical_bytes(voxels) if self.evidence == "one-channel" else voxels)

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Count the box sums of each deciding marker.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Role to voxels (z, y, x), uint8 or uint16, with a halo of one voxel.
        place : Place
            Where the block lies; not needed.

        Returns
        -------
        Summary
            Role to histogram of its box sums, index = sum.
        """
        del place
        return {role: np.bincount(self._sums(role, arrays).ravel()).astype(np.int64) for role in self._deciding()}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Find the threshold of each deciding marker.

        Parameters
        ----------
        summary : Summary
            Histograms over the whole volume.
        channels : mapping of str to str
            Role to channel name.

        Returns
        -------
        Finding
            ``threshold:<role>``: voxels whose box sum is above this are foreground; ``threshold_intensity:<role>``:
            the same as a mean intensity.

        Raises
        ------
        DataError
            If a marker is constant.
        """
        finding: Finding = {}
        for role in self._deciding():
            threshold = self._threshold(summary[role])
            if threshold is None:
                raise DataError(
                    f"detecting synapses in channel {channels[role]!r} ({role})",
                    "all its voxels in the box have one value",
                    "Choose another channel with --channels or another box",
                )
            finding[f"threshold:{role}"] = threshold
            finding[f"threshold_intensity:{role}"] = threshold / 27
        return finding

    def _threshold(self, counts: NDArray[np.int64]) -> int | None:
        """Return the largest box sum that is background, None where all are equal."""
        present = np.flatnonzero(counts)
        low, high = int(present[0]), int(present[-1])
        if self.evidence == "both":
            bright = np.cumsum(counts[::-1])[::-1]
            # the largest value that more than a thousandth of the voxels reach
            high = int(np.flatnonzero(bright * 1000 > int(counts.sum()) * _OUTLIERS_PER_MILLE)[-1])
            high = max(high, int(present[min(1, len(present) - 1)]))
        if low == high:
            return None
        values = np.minimum(np.arange(low, len(counts)), high) - low
        bins = np.minimum(values * _BINS // (high - low), _BINS - 1)
        histogram = np.zeros(_BINS, np.int64)
        np.add.at(histogram, bins, counts[low:])
        # the threshold is the centre of the bin, as a whole sum: low + (k + 1/2) (high - low) / 256, rounded down
        return low + (2 * otsu_bin(histogram) + 1) * (high - low) // (2 * _BINS)

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels at which every deciding marker is above its threshold.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As for `summarise`.
        finding : Finding
            From `learn`.
        place : Place
            Where the block lies; not needed.

        Returns
        -------
        Detected
            One set, ``All``.
        """
        del place
        first, *others = self._deciding()
        detected: NDArray[np.bool_] = self._sums(first, arrays) > finding[f"threshold:{first}"]
        for role in others:
            detected &= self._sums(role, arrays) > finding[f"threshold:{role}"]
        return Detected({"All": detected})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Keep the objects that are large enough.

        Parameters
        ----------
        objects : Objects
            The connected components.
        finding : Finding
            From `learn`; not needed.

        Returns
        -------
        Chosen
            One mask, ``All``.
        """
        del finding
        if self.evidence == "one-channel":
            return Chosen({"All": objects["voxels"] > _HISTORICAL_VOXELS})
        return Chosen({"All": (objects["voxels"] >= self.min_voxels) & (objects["volume_um3"] >= self.min_volume_um3)})
