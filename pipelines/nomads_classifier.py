"""The pipeline `nomads-classifier`: detects synapses and classes them as excitatory or inhibitory, without training.

It knows no other classes, and does not guess: an object whose markers contradict each other has no class.

For each marker the local contrast of every voxel (`local_contrast`) is compared with the marker's threshold.
A class has two sides, and a side is the mean of its markers:

======  ===============================================  =====================
class   pre-synaptic side                                post-synaptic side
======  ===============================================  =====================
Glut    the brighter of VGlut1 and VGlut2                PSD95, GluN1
Gaba    GABA, GAD, VGAT                                  gephyrin
======  ===============================================  =====================

VGlut1 and VGlut2 are alternatives, since a terminal has one or the other; the rest are found together. What is not
there is left out of the mean. Synapsin is in both classes, so it takes part only where a side has no marker of its own.

*Present* is a side whose markers reach their thresholds in the mean, each counted at most twice its threshold, so that
one bright stain cannot stand in for all. A class is detected where both its sides are present. *Strength* is the larger
over the classes of the weaker side's mean; objects end at half of the peak, as in `nomads-unsupervised`.

*Evidence* of a class is the sum over both sides of the mean of ``ln(1 + contrast / typical contrast)``. An object is
Gaba if the evidence of Gaba, summed over the object, is the larger and Gaba is detected in more of its voxels than
Glut; Glut the other way round. Where the two disagree it is neither, and stays in ``All`` alone. Nothing is fitted.

Micheva, K. D. et al. (2010). Single-synapse analysis of a diverse synapse population: proteomic imaging methods and
markers. Neuron 68(4), 639-653. doi:10.1016/j.neuron.2010.09.024
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
from pipelines.local_contrast import (
    LEVEL,
    PARAMETERS,
    bins,
    contrast,
    histogram,
    learn,
    levels_of_bins,
    upper_halves,
    values_of_bins,
)
from pipelines.peaks import half_maximum
from pipelines.slabs import Scratch, grown, inside, slabs, trimmed, with_halo
from pipelines.windows import Windows

__all__ = ["NomadsClassifier"]

_AT_THRESHOLD = 100
"""Presence of a marker at its threshold; presence is capped at twice this."""

_WHOLE = 12
"""Means of up to four markers are whole numbers after multiplication with this."""

_STAND_IN = "synapsin"


@dataclass(frozen=True, slots=True)
class _Class:
    """A class of synapses: for each side the groups of markers that are averaged; those of a group are alternatives."""

    name: str
    pre: tuple[tuple[str, ...], ...]
    post: tuple[tuple[str, ...], ...]

    def sides(self, there: Sequence[str]) -> list[tuple[tuple[str, ...], ...]]:
        """Return the groups of both sides with the markers that are there; synapsin where a side has none."""
        sides = []
        for groups in (self.pre, self.post):
            present = tuple(tuple(m for m in group if m in there) for group in groups)
            sides.append(tuple(group for group in present if group) or ((_STAND_IN,),))
        return sides

    def lacks(self, there: Sequence[str]) -> str:
        """Return which markers are missing, in words; empty where the class can be detected."""
        sides = self.sides(there)
        own = [side for side in sides if side != ((_STAND_IN,),)]
        if len(own) == 2 or (own and _STAND_IN in there):
            return ""
        missing = [
            " or ".join(marker for group in groups for marker in group)
            for groups, side in zip((self.pre, self.post), sides, strict=True)
            if side == ((_STAND_IN,),)
        ]
        return f"{self.name} needs {' and '.join(missing)} ({_STAND_IN} can stand in for one of its sides)"


_GLUT = _Class("Glut", (("vglut1", "vglut2"),), (("psd95",), ("glun1",)))
_GABA = _Class("Gaba", (("gaba",), ("gad",), ("vgat",)), (("gephyrin",),))
_CLASSES = (_GABA, _GLUT)


def _is_complete(there: Mapping[str, str]) -> bool:
    """Return whether both sides of both classes have a marker of their own."""
    return all(_STAND_IN not in group for one in _CLASSES for side in one.sides(list(there)) for group in side)


def _role(name: str, markers: tuple[str, ...], help_text: str, but_not: tuple[str, ...] = ()) -> Role:
    """Return the role of a marker, which may be absent."""
    return Role(name, markers, help_text, optional=True, but_not=but_not)


@dataclass(frozen=True, slots=True)
class NomadsClassifier(Pipeline):
    """Detects a synapse where both sides of a class stand out, and classes it."""

    noise_fold: float = 3.0
    min_volume_um3: float = 0.0012
    min_voxels: int = 1

    name = "nomads-classifier"
    help = "excitatory and inhibitory synapses, classed by their markers, without training"
    masks = ("All", "Gaba", "Glut")
    roles = (
        _role(
            "synapsin", ("synapsin", "syn1", "bassoon"), "any pre-synaptic side, where a class has no marker of its own"
        ),
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
    null = Null(("synapsin", "vglut1", "vglut2", "gaba", "gad", "vgat"))
    parameters: ClassVar[tuple[Parameter, ...]] = PARAMETERS

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_parameters(self)

    @property
    def working_bytes(self) -> int:
        """Strength and evidence of 16 bits, where classes are detected, and the marks."""
        return 20

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return what a contrast and the search for a peak reach together."""
        return Windows.of(voxel_size_nm).margin

    def choose(self, channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
        """Find the markers that are there; synapsin only where a class needs it."""
        without = find_channels(self.roles, channels, {_STAND_IN: "", **chosen})
        # it is looked for only where it is needed: several channels may carry its name
        found = without if _is_complete(without) else find_channels(self.roles, channels, chosen)
        lacking = [text for text in (one.lacks(list(found)) for one in _CLASSES) if text]
        if lacking:
            raise UsageError(
                f"{self.name} on the channels {', '.join(channels)}",
                "; ".join(lacking),
                "Name the channels with --channels, such as vglut1=NAME,gephyrin=NAME, or take another pipeline",
            )
        needed = {marker for one in _CLASSES for side in one.sides(list(found)) for group in side for marker in group}
        return {role: channel for role, channel in found.items() if role in needed}

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Count the contrasts of each marker."""
        windows = Windows.of(place.voxel_size_nm)
        y, reach = place.start[1], windows.reach
        tissue = None if place.tissue is None else trimmed(place.tissue, reach)
        return {role: histogram(trimmed(voxels, reach), windows, y, tissue) for role, voxels in arrays.items()}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Find the threshold of each marker."""
        finding: Finding = {}
        for role, counts in summary.items():
            learned = learn(counts, self.noise_fold)
            if learned is None:
                raise DataError(
                    f"classifying synapses by channel {channels[role]!r} ({role})",
                    "its voxels in the box have one value, or nearly so",
                    f"Leave it out with --channels {role}= or choose another box",
                )
            finding[f"threshold:{role}"], finding[f"typical:{role}"] = learned.threshold, learned.typical
        return finding

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels in which both sides of a class are present."""
        windows = Windows.of(place.voxel_size_nm)
        extent = tuple(n + 2 * r for n, r in zip(place.shape, windows.reach, strict=True))
        measured = {name: np.zeros(extent, np.uint16) for name in ("strength", *(one.name for one in _CLASSES))}
        measured |= {f"in_{one.name}": np.zeros(extent, np.uint8) for one in _CLASSES}
        # beyond the volume all is 0: a mirrored voxel there is the image of a voxel that is within reach as well
        window = inside(place, windows.reach)
        own = {name: whole[window] for name, whole in measured.items()}
        around = grown(window, windows.halo)
        voxels = {role: array[around] for role, array in arrays.items()}
        tissue = None if place.tissue is None else place.tissue[around]
        for slab, graded in _graded_slabs(voxels, tissue, finding, windows):
            for name, values in graded.items():
                own[name][slab] = values[:, :, : own[name].shape[2]]
        marks = half_maximum(measured["strength"], windows.reach)
        return Detected({"All": marks}, {name: trimmed(values, windows.reach) for name, values in measured.items()})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Keep the objects that are large enough, and class them."""
        del finding
        large = (objects["voxels"] >= self.min_voxels) & (objects["volume_um3"] >= self.min_volume_um3)
        evidence = np.asarray(objects["sum_Gaba"]) - objects["sum_Glut"]
        detected = np.asarray(objects["sum_in_Gaba"]) - objects["sum_in_Glut"]
        gaba = large & (evidence > 0) & (detected > 0)
        glut = large & (evidence < 0) & (detected < 0)
        total = np.maximum(np.asarray(objects["sum_Gaba"]) + objects["sum_Glut"], 1)
        columns = {
            "class": np.where(gaba, _GABA.name, np.where(glut, _GLUT.name, "undecided")),
            "class_score": evidence / total,
            "score": values_of_bins()[objects["max_strength"]].astype(np.float32),
        }
        return Chosen({"All": large, "Gaba": gaba, "Glut": glut}, columns)

    def scores(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
    ) -> dict[str, NDArray[np.float32]]:
        """Grade every voxel by the evidence of each class."""
        windows = Windows.of(place.voxel_size_nm)
        scores = {one.name: np.zeros(place.shape, np.float32) for one in _CLASSES}
        voxels = {role: trimmed(array, windows.reach) for role, array in arrays.items()}
        tissue = None if place.tissue is None else trimmed(place.tissue, windows.reach)
        for slab, graded in _graded_slabs(voxels, tissue, finding, windows):
            for name, whole in scores.items():
                whole[slab] = graded[name][:, :, : place.shape[2]] * np.float32(1 / (_WHOLE * LEVEL))
        return {"All": np.maximum(*scores.values()), **scores}


def _graded_slabs(
    voxels: Mapping[str, NDArray[Any]], tissue: NDArray[np.bool_] | None, finding: Finding, windows: Windows
) -> Iterator[tuple[tuple[slice, slice], dict[str, NDArray[Any]]]]:
    """Yield the slabs of a block, each with its `_classes`; voxels and tissue have a halo of ``windows.halo``."""
    halo = windows.halo
    shape = trimmed(next(iter(voxels.values())), halo).shape
    tables = {role: _tables(finding[f"threshold:{role}"], finding[f"typical:{role}"]) for role in voxels}
    scratch = Scratch()
    for z, y in slabs(shape):
        here = None if tissue is None else with_halo(tissue, z, y, halo)
        markers = {
            role: tables[role].look_up(contrast(with_halo(array, z, y, halo), windows, scratch, tissue=here))
            for role, array in voxels.items()
        }
        yield (z, y), _classes(markers, scratch)


@dataclass(frozen=True, slots=True)
class _Marker:
    """How much of a marker there is, by bin of contrast, shape (65536,), or by voxel, shape (z, y, x)."""

    presence: NDArray[np.uint8]
    level: NDArray[np.uint8]
    ratio: NDArray[np.float32]

    def look_up(self, contrasts: NDArray[np.float32]) -> _Marker:
        """Return the values by voxel for the contrasts of a slab."""
        found = bins(contrasts)
        marker = _Marker(*(np.empty(found.shape, dtype) for dtype in (np.uint8, np.uint8, np.float32)))
        for section, places in enumerate(found):
            # the type that numpy indexes with; a section at a time, since it is large
            indices = places.astype(np.intp)
            # no bin lies beyond a table; the mode saves the check
            self.presence.take(indices, out=marker.presence[section], mode="clip")
            self.level.take(indices, out=marker.level[section], mode="clip")
            self.ratio.take(indices, out=marker.ratio[section], mode="clip")
        return marker


@lru_cache(maxsize=32)
def _tables(threshold: int, typical: float) -> _Marker:
    """Return the values by bin for a marker's threshold and typical contrast."""
    values = values_of_bins()
    times = np.zeros(2**16)
    times[1 : len(values)] = values[1:] / threshold
    presence = np.minimum(_AT_THRESHOLD * times, 2 * _AT_THRESHOLD).astype(np.uint8)
    return _Marker(presence, levels_of_bins(typical), times.astype(np.float32))


def _classes(markers: Mapping[str, _Marker], scratch: Scratch) -> dict[str, NDArray[Any]]:
    """Return the strength (bins) of a slab, the evidence of each class, and where it is detected; shape (z, y, x)."""
    strength: NDArray[np.float32] | None = None
    results: dict[str, NDArray[Any]] = {}
    for one in _CLASSES:
        weaker: NDArray[np.float32] | None = None
        detected: NDArray[np.bool_] | None = None
        evidence: NDArray[np.uint16] | None = None
        for side in one.sides(list(markers)):
            presence, level, ratio = (_side(markers, side, name) for name in ("presence", "level", "ratio"))
            present = presence >= _AT_THRESHOLD * len(side)
            ratio *= np.float32(1 / len(side))
            level *= np.uint16(_WHOLE // len(side))
            weaker = ratio if weaker is None else np.minimum(weaker, ratio, out=weaker)
            detected = present if detected is None else np.logical_and(detected, present, out=detected)
            evidence = level if evidence is None else np.add(evidence, level, out=evidence)
        assert weaker is not None
        assert detected is not None
        assert evidence is not None
        # a mean of markers that are capped may reach the threshold where the mean of those that are not is a hair below
        np.maximum(weaker, np.float32(1), out=weaker)
        weaker *= detected
        strength = weaker if strength is None else np.maximum(strength, weaker, out=strength)
        results |= {one.name: evidence, f"in_{one.name}": detected}
    assert strength is not None
    return {"strength": upper_halves(strength, scratch), **results}


def _side(markers: Mapping[str, _Marker], groups: tuple[tuple[str, ...], ...], name: str) -> NDArray[Any]:
    """Return the sum over the groups of the largest of each group, shape (z, y, x)."""
    total: NDArray[Any] | None = None
    for group in groups:
        best = getattr(markers[group[0]], name)
        for other in group[1:]:
            best = np.maximum(best, getattr(markers[other], name))
        wide = best.astype(np.float32 if best.dtype == np.float32 else np.uint16)
        total = wide if total is None else np.add(total, wide, out=total)
    assert total is not None
    return total
