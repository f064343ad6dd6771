"""The pipeline `nomads-unsupervised`: two markers in, one mask of synapses out, no training, no types of synapses.

For each marker the local contrast of every voxel (`local_contrast`) is divided by the marker's threshold, three
standard deviations of its noise. The *strength* of a voxel is the smaller of the two, so that neither marker alone can
make a synapse. Detected are voxels whose strength is at least 1, and at least half of the largest within a punctum's
reach: an object ends where it has fallen to half of its peak, and synapses that touch are separated. Objects smaller
than `min_volume_um3` are dropped; its default is the volume that nine of ten synaptic clefts exceed in an
electron-microscopy annotation (Collman et al. 2015).

Voxels are graded (`scores`) by the sum over both markers of ``ln(1 + contrast / typical contrast)``: brightness is
log-normal, and the typical contrast gives each marker an equal vote. It needs no threshold.

Collman, F. et al. (2015). Mapping synapses by conjugate light-electron array tomography. J. Neurosci. 35(14),
5792-5807. doi:10.1523/JNEUROSCI.4274-14.2015
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UsageError
from nd_synapse.pipeline.contract import (
    Chosen,
    Detected,
    Finding,
    Null,
    Objects,
    Parameter,
    Pipeline,
    Place,
    Summary,
    check_parameters,
)
from pipelines.local_contrast import (
    LEVEL,
    PARAMETERS,
    Windows,
    bins,
    contrast,
    histogram,
    learn,
    levels_of_bins,
    upper_halves,
    values_of_bins,
)
from pipelines.nomads_2018 import LARGEST_DROPPED, ROLES, Nomads2018
from pipelines.peaks import half_maximum
from pipelines.slabs import Scratch, grown, inside, slabs, trimmed, with_halo

__all__ = ["NomadsUnsupervised", "build"]


@dataclass(frozen=True, slots=True)
class NomadsUnsupervised(Pipeline):
    """Detects a synapse where two markers both stand out."""

    noise_fold: float = 3.0
    min_volume_um3: float = 0.0012
    min_voxels: int = 1

    name = "nomads-unsupervised"
    help = "two markers, one mask: where a pre-synaptic and a post-synaptic marker both stand out"
    roles = ROLES
    parameters: ClassVar[tuple[Parameter, ...]] = PARAMETERS
    null = Null(("presynaptic",))

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_parameters(self)

    @property
    def settings(self) -> Mapping[str, int | float | str]:
        """Every parameter of `build`, so that a channel of an earlier release is recognised as made by the same job."""
        own = {parameter.name: getattr(self, parameter.name) for parameter in self.parameters}
        return {"evidence": "both", "marker": _MARKER.default, **own}

    @property
    def working_bytes(self) -> int:
        """Strengths of 16 bits, and marks."""
        return 4

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return what a contrast and the search for a peak reach together."""
        return Windows.of(voxel_size_nm).margin

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Count the contrasts of each marker."""
        windows = Windows.of(place.voxel_size_nm)
        y, reach = place.start[1], windows.reach
        tissue = None if place.tissue is None else trimmed(place.tissue, reach)
        return {role.name: histogram(trimmed(arrays[role.name], reach), windows, y, tissue) for role in self.roles}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Find the threshold of each marker."""
        finding: Finding = {}
        for role, counts in summary.items():
            learned = learn(counts, self.noise_fold)
            if learned is None:
                raise DataError(
                    f"detecting synapses in channel {channels[role]!r} ({role})",
                    "its voxels in the box have one value, or nearly so",
                    "Choose another channel with --channels or another box",
                )
            finding |= {f"threshold:{role}": learned.threshold, f"typical:{role}": learned.typical}
        return finding

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels in which both markers are strong enough."""
        windows = Windows.of(place.voxel_size_nm)
        strengths = self._strengths(arrays, finding, windows, place)
        return Detected(
            {"All": half_maximum(strengths, windows.reach)}, {"strength": trimmed(strengths, windows.reach)}
        )

    def _strengths(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, windows: Windows, place: Place
    ) -> NDArray[np.uint16]:
        """Return the bins of the strengths of a block and of `reach` around it, shape (z, y, x).

        Beyond the volume they are 0: a mirrored voxel there is the image of a voxel that is within reach as well.
        """
        strengths = np.zeros(tuple(n + 2 * r for n, r in zip(place.shape, windows.reach, strict=True)), np.uint16)
        window = inside(place, windows.reach)
        own = strengths[window]
        around = grown(window, windows.halo)
        voxels = {role.name: arrays[role.name][around] for role in self.roles}
        tissue = None if place.tissue is None else place.tissue[around]
        scratch = Scratch()
        for z, y in slabs(own.shape):
            weaker: NDArray[Any] | None = None
            here = None if tissue is None else with_halo(tissue, z, y, windows.halo)
            for role, whole in voxels.items():
                contrasts = contrast(with_halo(whole, z, y, windows.halo), windows, scratch, tissue=here)
                ratio = scratch.take(f"ratio {role}", contrasts.shape, np.float32)
                np.multiply(contrasts, np.float32(1 / finding[f"threshold:{role}"]), out=ratio)
                weaker = ratio if weaker is None else np.minimum(weaker, ratio, out=weaker)
            if weaker is not None:
                own[z, y] = upper_halves(weaker, scratch)[:, :, : own.shape[2]]
        return strengths

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Keep the objects that are large enough."""
        del finding
        large = (objects["voxels"] >= self.min_voxels) & (objects["volume_um3"] >= self.min_volume_um3)
        return Chosen({"All": large}, {"score": values_of_bins()[objects["max_strength"]].astype(np.float32)})

    def scores(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
    ) -> dict[str, NDArray[np.float32]]:
        """Grade every voxel by both markers."""
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


@dataclass(frozen=True, slots=True)
class _OneChannel(Nomads2018):
    """NOMADS 2018 under the name, roles and settings that ``evidence=one-channel`` has always had."""

    name = NomadsUnsupervised.name
    roles = ROLES

    @property
    def settings(self) -> Mapping[str, int | float | str]:
        return {**NomadsUnsupervised().settings, "evidence": "one-channel", "marker": self.marker}


_EVIDENCE = Parameter(
    "evidence", "both", "", "both markers, or one-channel: what nomads-2018 finds", ("both", "one-channel")
)
_MARKER = replace(Nomads2018.parameters[0], help="side of the marker that detects with evidence=one-channel")


def build(evidence: str = "both", marker: str = "presynaptic", **values: Any) -> Pipeline:
    """Build this pipeline; with ``evidence=one-channel``, as earlier commands spell it, NOMADS 2018 under its name."""
    _EVIDENCE.check(evidence)
    other = (_MARKER,) if evidence == "both" else NomadsUnsupervised.parameters
    given = {_MARKER.name: marker, **values}
    ignored = [p.name for p in other if given.get(p.name, p.default) != p.default]
    if ignored:
        raise UsageError(
            f"{', '.join(ignored)} with evidence={evidence}",
            f"that has no effect (one-channel keeps objects of more than {LARGEST_DROPPED} voxels)",
            f"Leave out {', '.join(ignored)}, or choose the other evidence",
        )
    return NomadsUnsupervised(**values) if evidence == "both" else _OneChannel(marker)


build.parameters = (_EVIDENCE, _MARKER, *NomadsUnsupervised.parameters)  # type: ignore[attr-defined]
