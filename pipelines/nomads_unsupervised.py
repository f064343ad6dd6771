"""The pipeline `nomads-unsupervised`: two markers in, one mask of synapses out, no training.

It tells no types of synapses apart, and it is not a detector of single markers: for that see its mode `one-channel`.

Method, mode ``both`` (the default). For each marker the local contrast of every voxel (`local_contrast`) is divided by
the marker's threshold, three standard deviations of its noise. The *strength* of a voxel is the smaller of the two, so
that neither marker alone can make a synapse. Detected are voxels whose strength is at least 1, and at least half of the
largest within a punctum's reach: an object ends where it has fallen to half of its peak, and synapses that touch are
told apart. Objects smaller than `min_volume_um3` are dropped; its default is the volume that nine of ten synaptic
clefts exceed in an electron-microscopy annotation (Collman et al. 2015).

A table of the objects says how strong each is at its peak (``score``). Voxels are graded (`scores`) by another number,
which need not be compared with a threshold: the sum over both markers of ``ln(1 + contrast / typical contrast)``.
Brightness is log-normal, and the typical contrast gives each marker an equal vote.

Method, mode ``one-channel``. What the program published as NOMADS unsupervised in 2018 computes. Its feature is
meant as the local covariance of two markers, but ``E[a + b] - E[a] + E[b]`` is ``2 E[b]``: one marker, smoothed over
3 x 3 x 3 voxels, decides alone. Otsu's threshold on 256 bins between the smallest and the largest value; objects of
more than 30 voxels are kept. It is here for comparison with earlier results, voxel for voxel.

All arithmetic that decides is on integers, or on one integer at a time, so that blocks cannot show.

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

from nd_synapse.errors import DataError, UsageError
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
from pipelines.local_contrast import (
    LEVEL,
    Windows,
    bins,
    contrast,
    counted,
    learn,
    levels_of_bins,
    upper_halves,
    values_of_bins,
)
from pipelines.peaks import half_maximum
from pipelines.slabs import Scratch, grown, inside, slabs, trimmed, with_halo

__all__ = ["NomadsUnsupervised", "box_sums", "otsu_bin"]

_BINS = 256
_HISTORICAL_VOXELS = 30


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
    """Detects a synapse where two markers both stand out.

    Parameters
    ----------
    evidence : {'both', 'one-channel'}
        The mode; see the module's text.
    marker : {'presynaptic', 'postsynaptic'}
        The role that decides in mode ``one-channel``.
    noise_fold : float
        Threshold of a marker's contrast, in standard deviations of its noise, in mode ``both``.
    min_volume_um3 : float
        Smallest synapse, in cubic micrometres, in mode ``both``.
    min_voxels : int
        Smallest synapse, in voxels, in mode ``both``.
    """

    evidence: str = "both"
    marker: str = "presynaptic"
    noise_fold: float = 3.0
    min_volume_um3: float = 0.0012
    min_voxels: int = 1

    name = "nomads-unsupervised"
    help = "two markers, one mask: where a pre-synaptic and a post-synaptic marker both stand out"
    roles = (
        Role("presynaptic", ("synapsin", "syn1", "bassoon", "vglut1", "vglut"), "a marker of the pre-synaptic side"),
        Role(
            "postsynaptic",
            ("psd95", "psd", "glun1", "nr1", "glur"),
            "a marker of the post-synaptic side",
            but_not=("cnr1", "mglur"),
        ),
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "evidence", "both", "", "both markers, or the historical one-channel procedure", ("both", "one-channel")
        ),
        Parameter(
            "marker", "presynaptic", "", "role that decides in mode one-channel", ("presynaptic", "postsynaptic")
        ),
        Parameter(
            "noise_fold",
            3.0,
            "sd of the noise",
            "threshold of each marker's contrast (mode both)",
            minimum=0.0,
            maximum=1000.0,
        ),
        Parameter("min_volume_um3", 0.0012, "um^3", "smallest synapse (mode both)", minimum=0.0),
        Parameter("min_voxels", 1, "voxels", "smallest synapse (mode both)", minimum=1),
    )

    def __post_init__(self) -> None:
        """Refuse parameters of a mode in the other, where they would be ignored."""
        check_parameters(self)
        other = {"both": ("marker",), "one-channel": ("noise_fold", "min_volume_um3", "min_voxels")}[self.evidence]
        given = [p.name for p in self.parameters if p.name in other and getattr(self, p.name) != p.default]
        if given:
            raise UsageError(
                f"{', '.join(given)} in mode {self.evidence}",
                f"that mode does not look at it (one-channel keeps objects of more than {_HISTORICAL_VOXELS} voxels)",
                f"Leave out {', '.join(given)}, or choose the other mode",
            )

    @property
    def working_bytes(self) -> int:
        """Mode both: strengths of 16 bits and marks. One-channel: sums of 32 bits, and the copy that counting takes."""
        return 4 if self.evidence == "both" else 16

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return what a contrast and the search for a peak reach together; in mode one-channel a 3 x 3 x 3 sum."""
        if self.evidence == "one-channel":
            return (1, 1, 1)
        windows = Windows.of(voxel_size_nm)
        z, y, x = (a + b for a, b in zip(windows.halo, windows.reach, strict=True))
        return (z, y, x)

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Count the contrasts of each marker, or the box sums of the one that decides."""
        if self.evidence == "one-channel":
            sums = box_sums(_historical_bytes(arrays[self.marker]))
            return {self.marker: np.bincount(sums.ravel()).astype(np.int64)}
        windows = Windows.of(place.voxel_size_nm)
        y = place.start[1]
        return {role.name: counted(trimmed(arrays[role.name], windows.reach), windows, y) for role in self.roles}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Find the threshold of each deciding marker."""
        finding: Finding = {}
        for role, counts in summary.items():
            found = self._learned(role, counts)
            if not found:
                raise DataError(
                    f"detecting synapses in channel {channels[role]!r} ({role})",
                    "its voxels in the box have one value, or nearly so",
                    "Choose another channel with --channels or another box",
                )
            finding |= found
        return finding

    def _learned(self, role: str, counts: NDArray[np.int64]) -> Finding:
        """Return what one marker teaches, nothing where it is constant."""
        if self.evidence == "both":
            learned = learn(counts, self.noise_fold)
            return {f"threshold:{role}": learned.threshold, f"typical:{role}": learned.typical} if learned else {}
        threshold = _historical_threshold(counts)
        if threshold is None:
            return {}
        return {f"threshold:{role}": threshold, f"threshold_intensity:{role}": threshold / 27}

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels in which the deciding markers are strong enough."""
        if self.evidence == "one-channel":
            sums = box_sums(_historical_bytes(arrays[self.marker]))
            return Detected({"All": sums > finding[f"threshold:{self.marker}"]})
        windows = Windows.of(place.voxel_size_nm)
        strengths = self._strengths(arrays, finding, windows, place)
        inner = trimmed(strengths, windows.reach)
        marks = np.empty(inner.shape, np.bool_)
        scratch = Scratch()
        for z, y in slabs(inner.shape):
            half_maximum(with_halo(strengths, z, y, windows.reach), windows.reach, scratch, marks[z, y])
        return Detected({"All": marks}, {"strength": inner})

    def _strengths(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, windows: Windows, place: Place
    ) -> NDArray[np.uint16]:
        """Return the bins of the strengths of a block and of `reach` around it.

        Beyond the volume they are left 0: what is mirrored there is the image of a voxel that is within reach as well.
        """
        around = tuple(n + 2 * r for n, r in zip(place.shape, windows.reach, strict=True))
        strengths = np.zeros(around, np.uint16)
        window = inside(place, windows.reach)
        own = strengths[window]
        voxels = {role.name: arrays[role.name][grown(window, windows.halo)] for role in self.roles}
        scratch = Scratch()
        for z, y in slabs(own.shape):
            weaker: NDArray[Any] | None = None
            for role, whole in voxels.items():
                contrasts = contrast(with_halo(whole, z, y, windows.halo), windows, scratch)
                ratio = scratch.take(f"ratio {role}", contrasts.shape, np.float32)
                np.multiply(contrasts, np.float32(1 / finding[f"threshold:{role}"]), out=ratio)
                weaker = ratio if weaker is None else np.minimum(weaker, ratio, out=weaker)
            if weaker is not None:
                own[z, y] = upper_halves(weaker, scratch)[:, :, : own.shape[2]]
        return strengths

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Keep the objects that are large enough."""
        del finding
        if self.evidence == "one-channel":
            return Chosen({"All": objects["voxels"] > _HISTORICAL_VOXELS})
        large = (objects["voxels"] >= self.min_voxels) & (objects["volume_um3"] >= self.min_volume_um3)
        return Chosen({"All": large}, {"score": values_of_bins()[objects["max_strength"]].astype(np.float32)})

    def scores(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
    ) -> dict[str, NDArray[np.float32]]:
        """Grade every voxel by both markers."""
        if self.evidence == "one-channel":
            return {}
        windows = Windows.of(place.voxel_size_nm)
        scores = np.zeros(place.shape, np.float32)
        scratch = Scratch()
        for role in self.roles:
            levels = levels_of_bins(finding[f"typical:{role.name}"])
            voxels = trimmed(arrays[role.name], windows.reach)
            for z, y in slabs(place.shape):
                contrasts = contrast(with_halo(voxels, z, y, windows.halo), windows, scratch)
                found = bins(contrasts)[:, :, : place.shape[2]]
                scores[z, y] += levels[found] * np.float32(1 / LEVEL)
        return {"All": scores}


def _historical_threshold(counts: NDArray[np.int64]) -> int | None:
    """Return the largest box sum that is background, None where all are equal."""
    present = np.flatnonzero(counts)
    low, high = int(present[0]), int(present[-1])
    if low == high:
        return None
    values = np.arange(low, len(counts)) - low
    histogram = np.zeros(_BINS, np.int64)
    np.add.at(histogram, np.minimum(values * _BINS // (high - low), _BINS - 1), counts[low:])
    # the threshold is the centre of the bin, as a whole sum: low + (k + 1/2) (high - low) / 256, rounded down
    return low + (2 * otsu_bin(histogram) + 1) * (high - low) // (2 * _BINS)
