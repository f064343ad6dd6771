"""The pipeline `nomads-classifier`: detects synapses and classes them as excitatory or inhibitory, without training.

It knows no other classes. It makes those whose markers are there:

======  ===============================================  =====================
class   pre-synaptic side                                post-synaptic side
======  ===============================================  =====================
Glut    VGlut1 or VGlut2                                 PSD95, GluN1
Gaba    GABA, GAD, VGAT                                  gephyrin
======  ===============================================  =====================

VGlut1 and VGlut2 are alternatives, since a terminal has one or the other; the rest are found together. Synapsin is on
any pre-synaptic side: it tells a synapse, and not its class. A class has up to three *parties*: synapsin, the mean of
its pre-synaptic markers, and that of its post-synaptic ones. It needs two; markers that are missing are left out.

A voxel's *rarity* in a marker is the share of the tissue that is brighter there (`levels`). A class has the sum d of
its parties' rarities, so that one bright stain cannot stand in for another: it saves its own rarity and no more. If k
parties were independent of each other, a share of ``d^k / k!`` of the tissue would have d or less (exact up to d = 1);
the *score* of a voxel is minus the decadic logarithm of that, for the class in which it is larger. It means the same
for any stain, depth and number of markers. Markers of one side are not independent: what chance makes of them is
measured in each run.

The *strength* of a voxel whose score is at least `strictness` is the local contrast of the weaker side, in mirror
levels (`local_contrast`); detected is what lies near the largest strength within a punctum's reach (`peaks`). Levels
say what is a synapse; contrast says where it ends, and that it is more than noise: some levels are rare in any tissue.
Of an object's two classes it has the one of the lower mean rarity; none if they are equal, or both below a tenth: its
markers contradict each other. Nothing is fitted.

Micheva, K. D. et al. (2010). Single-synapse analysis of a diverse synapse population: proteomic imaging methods and
markers. Neuron 68(4), 639-653. doi:10.1016/j.neuron.2010.09.024
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
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
from nd_synapse.pipeline.roles import Role, find_channels
from pipelines.evidence import sampled_rows
from pipelines.levels import histograms, learn, least_level, levels, rarities, unit
from pipelines.local_contrast import bins, contrast, mirror_level, signed_counts, values_of_bins
from pipelines.masked_contrast import Partial
from pipelines.peaks import near_peaks
from pipelines.slabs import Scratch, grown, inside, slabs, trimmed, with_halo
from pipelines.synapse_classes import ANY, CLASSES, GABA, GLUT, Groups, made, present
from pipelines.windows import Windows, clear, window_sums

__all__ = ["NomadsClassifier"]

_FULL = 65535
"""A rarity of 1 where it is summed over an object."""

_LEAST = 0.71
"""Mirror levels of the weaker side at a peak: the squares of two such sides make up one, as in `evidence`."""

_BOTH = 0.1
"""An object whose mean rarity is as low in either class has markers of both."""

_INFINITE = 0x7F80
"""The bin of what float32 has no number for."""


def _role(name: str, markers: tuple[str, ...], help_text: str, but_not: tuple[str, ...] = ()) -> Role:
    """Return the role of a marker, which may be absent."""
    return Role(name, markers, help_text, optional=True, but_not=but_not)


@dataclass(frozen=True, slots=True)
class NomadsClassifier(Pipeline):
    """Detects a synapse where all parties of a class stand out, and classes it."""

    strictness: float = 2.5
    min_volume_um3: float = 0.0
    min_voxels: int = 1

    name = "nomads-classifier"
    help = "excitatory and inhibitory synapses, classed by their markers, without training"
    masks = ("All", "Gaba", "Glut")
    roles = (
        _role(ANY, ("synapsin", "syn1", "bassoon"), "any synapse, pre-synaptic"),
        _role("vglut1", ("vglut1",), "excitatory, pre-synaptic"),
        _role("vglut2", ("vglut2",), "excitatory, pre-synaptic"),
        _role("psd95", ("psd95", "psd"), "excitatory, post-synaptic"),
        _role("glun1", ("glun1", "nr1", "nmdar1"), "excitatory, post-synaptic", but_not=("cnr1",)),
        # its receptors are on the other side
        _role("gaba", ("gaba",), "inhibitory, pre-synaptic", but_not=("gabaa", "gabab", "gabar", "gabr", "gabat")),
        _role("gad", ("gad", "gad65", "gad67"), "inhibitory, pre-synaptic"),
        _role("vgat", ("vgat", "viaat"), "inhibitory, pre-synaptic"),
        _role("gephyrin", ("gephyrin", "geph"), "inhibitory, post-synaptic"),
    )
    null = Null((ANY, "vglut1", "vglut2", "gaba", "gad", "vgat"))
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("strictness", 2.5, "-log10 of a share", "least score of a synapse", minimum=0.0, maximum=30.0),
        Parameter("min_volume_um3", 0.0, "um^3", "smallest synapse", minimum=0.0),
        Parameter("min_voxels", 1, "voxels", "smallest synapse", minimum=1),
    )

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_parameters(self)

    @property
    def working_bytes(self) -> int:
        """Strength, score and rarities of the classes, of 16 bits each, the marks, and a slab of each marker."""
        return 20

    def masks_of(self, roles: Mapping[str, str]) -> tuple[str, ...]:
        """Return the masks of the classes that can be detected."""
        return (self.masks[0], *(one.name for one in made(list(roles))))

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return what a contrast and the search for a peak reach together."""
        return Windows.of(voxel_size_nm).margin

    def choose(self, channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
        """Find the markers that are there; those of a class that cannot be detected are left out."""
        found = find_channels(self.roles, channels, chosen)
        detectable = made(list(found))
        if not detectable:
            raise UsageError(
                f"{self.name} on the channels {', '.join(channels)}",
                "; ".join(one.lacks() for one in CLASSES),
                "Name the channels with --channels, such as vglut1=NAME,psd95=NAME, or take another pipeline",
            )
        taking_part = {m for one in detectable for party in one.parties(list(found)) for group in party for m in group}
        return {role: channel for role, channel in found.items() if role in taking_part}

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Count the levels of each marker."""
        windows = Windows.of(place.voxel_size_nm)
        tissue = None if place.tissue is None else trimmed(place.tissue, windows.reach)
        voxels = {role: trimmed(array, windows.reach) for role, array in arrays.items()}
        levels_of = histograms(voxels, windows, place.start[1], tissue)
        summary: Summary = {f"levels {role}": counts for role, counts in levels_of.items()}
        summary |= {f"contrasts {role}": np.zeros(1, np.int64) for role in arrays}
        for rows in sampled_rows(place):
            band = (slice(None), slice(rows.start, rows.stop + 2 * windows.halo[1]))
            partial = None if tissue is None else Partial.of(tissue[band], windows)
            for role, array in voxels.items():
                # in grey levels
                found = contrast(array[band], windows, Scratch(), partial)[:, :, : place.shape[2]]
                counts = signed_counts(found * np.float32(1 / windows.voxels)).ravel()
                summary[f"contrasts {role}"] = summary[f"contrasts {role}"] + counts
        return summary

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Find how rare each level of each marker is, and the unit of its contrast."""
        finding: Finding = {}
        for role, channel in channels.items():
            learned = learn(summary[f"levels {role}"])
            counts = summary[f"contrasts {role}"]
            unit_of_contrast = mirror_level(counts.reshape(2, -1)) if counts.any() else None
            if learned is None or unit_of_contrast is None:
                raise DataError(
                    f"classifying synapses by channel {channel!r} ({role})",
                    "its voxels in the box have one value, or nearly so",
                    f"Leave it out with --channels {role}= or choose another box",
                )
            finding |= {f"levels:{role}": learned, f"unit:{role}": unit_of_contrast}
        return finding

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels that are rare enough, up to half of the contrast at their peak."""
        windows = Windows.of(place.voxel_size_nm)
        extent = tuple(n + 2 * r for n, r in zip(place.shape, windows.reach, strict=True))
        names = ("strength", "score", *(one.name for one in made(list(arrays))))
        measured = {name: np.zeros(extent, np.uint16) for name in names}
        # beyond the volume all is 0: a mirrored voxel there is the image of a voxel that is within reach as well
        window = inside(place, windows.reach)
        own = {name: whole[window] for name, whole in measured.items()}
        around = grown(window, windows.halo)
        tissue = None if place.tissue is None else place.tissue[around]
        markers = _Markers({role: array[around] for role, array in arrays.items()}, tissue, finding, windows)
        for z, y in slabs(own["strength"].shape):
            places, found = markers.detected(z, y, self.strictness)
            for name, values in found.items():
                own[name][z, y][places] = values
        marks = near_peaks(measured["strength"], windows.reach, _LEAST)
        del measured["strength"], own
        return Detected({"All": marks}, {name: trimmed(values, windows.reach) for name, values in measured.items()})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Keep the objects that are large enough, and class them."""
        del finding
        large = (objects["voxels"] >= self.min_voxels) & (objects["volume_um3"] >= self.min_volume_um3)
        # a class that cannot be detected is as rare as nothing: 1 everywhere
        gaba, glut = (
            np.asarray(objects.get(f"sum_{one.name}", _FULL * objects["voxels"]), np.int64) for one in CLASSES
        )
        both = np.maximum(gaba, glut) <= _BOTH * _FULL * objects["voxels"]
        classes = {GABA.name: large & ~both & (gaba < glut), GLUT.name: large & ~both & (glut < gaba)}
        columns = {
            "class": np.select(list(classes.values()), list(classes), "undecided"),
            "class_score": (glut - gaba) / (glut + gaba),
            "score": _scores_of_bins()[objects["max_score"]].astype(np.float32),
        }
        known = {name: is_in for name, is_in in classes.items() if f"sum_{name}" in objects}
        return Chosen({"All": large, **known}, columns)

    def scores(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
    ) -> dict[str, NDArray[np.float32]]:
        """Grade every voxel by quantiles, from 0 to 1: means over the parties, and for each class over its markers."""
        windows = Windows.of(place.voxel_size_nm)
        names = ("All", *(one.name for one in made(list(arrays))))
        scores = {name: np.zeros(place.shape, np.float32) for name in names}
        tissue = None if place.tissue is None else trimmed(place.tissue, windows.reach)
        voxels = {role: trimmed(array, windows.reach) for role, array in arrays.items()}
        markers = _Markers(voxels, tissue, finding, windows)
        for z, y in slabs(place.shape):
            for name, rarity in markers.graded(z, y).items():
                scores[name][z, y] = 1 - rarity
        return scores


@dataclass(slots=True)
class _Sums:
    """Sums of a slab by marker, (z, y, x): levels of puncta, and sums of the windows round them."""

    levels: dict[str, NDArray[np.uint16]]
    windows: dict[str, NDArray[Any]]
    partial: Partial | None
    """The windows that reach out of the tissue; None where all are whole."""


class _Markers:
    """The markers of a block, with a halo of ``windows.halo``, and how rare their levels are."""

    def __init__(
        self,
        voxels: Mapping[str, NDArray[Any]],
        tissue: NDArray[np.bool_] | None,
        finding: Finding,
        windows: Windows,
    ) -> None:
        self._voxels, self._tissue, self._windows = voxels, tissue, windows
        self._rarities = {role: rarities(finding[f"levels:{role}"]) for role in voxels}
        self._units = {role: finding[f"unit:{role}"] for role in voxels}
        self._made = made(list(voxels))
        self._parties = {one.name: one.parties(list(voxels)) for one in self._made}
        self._scratch = Scratch()

    def graded(self, z: slice, y: slice) -> dict[str, NDArray[np.float64]]:
        """Return how rare the voxels of a slab are as a synapse and as what each class is graded by, (z, y, x)."""
        rarity = {role: self._rarity(role, found) for role, found in self._sums(z, y).levels.items()}
        synapses = [_sum_of(rarity, parties) / len(parties) for parties in self._parties.values()]
        classes = {one.name: _mean_of(rarity, present(one.graded, list(rarity)), np.minimum) for one in self._made}
        return {"All": reduce(np.minimum, synapses), **classes}

    def detected(
        self, z: slice, y: slice, strictness: float
    ) -> tuple[tuple[NDArray[np.intp], ...], dict[str, NDArray[np.uint16]]]:
        """Return which voxels of a slab (z, y, x) have the score, and what is measured there, uint16 (n,)."""
        found = self._sums(z, y)
        candidates = self._candidates(found.levels, strictness)
        if found.partial is not None:
            clear(candidates, found.partial.outside)
        # numpy finds and takes voxels of flat memory in a fraction of the time
        places = np.flatnonzero(candidates)
        rarity = {role: self._rarity(role, levels.take(places)) for role, levels in found.levels.items()}
        sums = {name: _sum_of(rarity, parties) for name, parties in self._parties.items()}
        shares = np.array([_share(sums[name], len(parties)) for name, parties in self._parties.items()])
        rare = bins((1 / shares.min(axis=0)).astype(np.float32)).astype(np.uint16)
        enough = _scores_of_bins()[rare] >= strictness
        places = places[enough]
        measured = {
            name: np.ceil(_FULL / len(self._parties[name]) * values[enough]).astype(np.uint16)
            for name, values in sums.items()
        }
        measured["score"] = rare[enough]
        measured["strength"] = self._strengths(found, places, shares[:, enough])
        return np.unravel_index(places, candidates.shape), measured

    def _rarity(self, role: str, found: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Return the rarity of levels; none lies above the largest but next to voxels that were not counted."""
        return self._rarities[role].take(found, mode="clip")

    def _sums(self, z: slice, y: slice) -> _Sums:
        """Sum the markers of a slab."""
        windows, partial = self._windows, None
        if self._tissue is not None:
            partial = Partial.of(with_halo(self._tissue, z, y, windows.halo), windows)
        found = _Sums({}, {}, partial)
        for role, voxels in self._voxels.items():
            here = with_halo(voxels, z, y, windows.halo)
            absent = () if partial is None else partial.absent
            centres, wholes = window_sums(here, windows, self._scratch, absent)
            # columns after those of the slab mean nothing
            x = slice(here.shape[2] - 2 * windows.halo[2])
            found.levels[role] = levels(centres, voxels.dtype, windows, partial)[:, :, x].copy()
            found.windows[role] = wholes[:, :, x].copy()
        return found

    def _candidates(self, found: Mapping[str, NDArray[np.uint16]], strictness: float) -> NDArray[np.bool_]:
        """Mark the voxels that can be rare enough, bool (z, y, x): the rarity of each marker may be the whole sum."""
        marked: NDArray[np.bool_] | None = None
        for parties in self._parties.values():
            every: NDArray[np.bool_] | None = None
            # a hair more than the strictness allows, since it is compared in bins
            most = 1.01 * (math.factorial(len(parties)) * 10**-strictness) ** (1 / len(parties))
            for party in parties:
                for group in party:
                    least = {marker: least_level(self._rarities[marker], most * len(party)) for marker in group}
                    some = reduce(np.logical_or, [found[marker] >= level for marker, level in least.items()])
                    every = some if every is None else np.logical_and(every, some, out=every)
            assert every is not None
            marked = every if marked is None else np.logical_or(marked, every, out=marked)
        assert marked is not None
        return marked

    def _strengths(self, found: _Sums, places: NDArray[np.intp], shares: NDArray[np.float64]) -> NDArray[np.uint16]:
        """Return the contrast of the weaker side of the rarer class at some places of a slab: bins, uint16 (n,)."""
        windows = self._windows
        of_centre, of_whole = (windows.section_weights * n for n in (windows.centre_pixels, windows.whole_pixels))
        there: Any = of_whole
        whole: Any = 1.0
        if found.partial is not None:
            # as in `masked_contrast`: the mean of fewer voxels is noisier
            shape = next(iter(found.levels.values())).shape
            centres, there = found.partial.weights_at(places, windows, shape)
            whole = np.sqrt(centres / of_centre)
        contrasts = {}
        for role, of_centres in found.levels.items():
            step = unit(self._voxels[role].dtype, windows)
            # a level is a sum rounded down: in the mean by half of what is lost at most
            sums = of_centres.take(places) * float(step) + (step - 1) / 2
            means = sums / of_centre - found.windows[role].take(places) / there
            contrasts[role] = means * whole / self._units[role]
        weaker = [
            reduce(np.minimum, [_mean_of(contrasts, side, np.maximum) for side in one.sides(list(contrasts))])
            for one in self._made
        ]
        rarer = np.take_along_axis(np.array(weaker), shares.argmin(axis=0)[np.newaxis], 0)[0]
        return bins(np.maximum(rarer, 0).astype(np.float32)).astype(np.uint16)


def _mean_of(values: Mapping[str, NDArray[np.float64]], groups: Groups, best: np.ufunc) -> NDArray[np.float64]:
    """Return the mean over groups of the best of a group."""
    return reduce(np.add, [reduce(best, [values[marker] for marker in group]) for group in groups]) / len(groups)


def _sum_of(rarity: Mapping[str, NDArray[np.float64]], parties: Sequence[Groups]) -> NDArray[np.float64]:
    """Return the sum of the rarities of some parties."""
    return reduce(np.add, [_mean_of(rarity, party, np.minimum) for party in parties])


def _share(total: NDArray[np.float64], parties: int) -> NDArray[np.float64]:
    """Return the share of voxels in which so many independent rarities have this sum, or less."""
    share = total
    for n in range(2, parties + 1):
        share = share * total / n
    return share


@cache
def _scores_of_bins() -> NDArray[np.float64]:
    """Return the score of each bin of 1 / share, float64 (65536,), at least 0, with the digits that tables have."""
    scores = np.zeros(2**16)
    # math.log10, since NumPy's differs in its last bits between processors
    scores[1:_INFINITE] = [
        max(0.0, math.floor(1e4 * math.log10(value)) / 1e4) for value in values_of_bins()[1:].tolist()
    ]
    scores[_INFINITE:] = scores[_INFINITE - 1]
    return scores
