"""Detection by the contrast of markers in units of their noise: what `nomads-unsupervised` and `puncta` share.

*Width*: a window as wide as the marker's puncta, which are measured (`widths`) or given.

*Unit*: a contrast (`local_contrast`) is divided by its channel's *dark depth*, so that it means the same in every
volume. Noise makes dark places as deep as bright ones are high, and puncta make bright ones alone. The dark depth is
the larger of two levels: what one dark contrast in a hundred exceeds, and where dark ones are a third as many as bright
ones. Where puncta are dense, the gaps between them deepen the first, and the second is too low; where they are rare in
noise, the first is too low. A few very bright voxels cannot move either.

*Evidence* of one marker is its contrast; of two, the root of 2 times the harmonic mean of theirs. For normal noise the
squares of the evidence of independent markers add up: two of 1 are as rare by chance as one of the root of 2. The
harmonic mean instead of the root of the sum of squares lets no marker stand in for another.

*Objects* are the voxels near the largest evidence within a punctum's reach (`peaks`), where that is at least 1.6 or a
lower `strictness`: so an object reaches as far at any strictness, and synapses that touch are separated. An object's
`score` is its largest evidence, in steps below 0.8 per cent: keeping those with a score of at least s is what the
strictness s does, given or raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context
from functools import cache
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
from pipelines import widths
from pipelines.local_contrast import (
    bin_of,
    contrast,
    dark_level,
    largest_of_bin,
    mirror_level,
    signed_counts,
)
from pipelines.masked_contrast import Partial
from pipelines.peaks import near_peaks
from pipelines.slabs import Scratch, grown, inside, slabs, trimmed, with_halo
from pipelines.windows import Windows

__all__ = ["PARAMETERS", "EvidencePipeline", "sampled_rows"]

AUTO = "auto"

_LEAST = 1.6

PARAMETERS = (
    Parameter(
        "strictness",
        AUTO,
        "dark depths",
        f"least evidence of a synapse; auto is {_LEAST:g}, and more where chance would make too many",
        minimum=0.1,
        maximum=1000.0,
        usual=_LEAST,
    ),
    Parameter(
        "punctum_nm",
        AUTO,
        "nm",
        "width of a punctum in a section; auto measures it",
        minimum=1.0,
        maximum=10_000.0,
        usual=300.0,
    ),
    Parameter("min_volume_um3", 0.0, "um^3", "smallest synapse", minimum=0.0),
    Parameter("min_voxels", 1, "voxels", "smallest synapse", minimum=1),
)
"""Of the detectors by contrast."""

_BAND = 4
"""Rows that are sampled together: their windows overlap."""

_SAMPLE = 2**17
"""Voxels of a channel from which width and unit are learned, at least; a smaller volume is taken whole."""

_LEAST_BANDS, _MANY_BANDS, _FAR = 4, 16, 256
"""At least so many bands are sampled; so many where they would lie farther apart than 256 rows."""

_FAINT = np.float32(1e-6)

_ROOT_8 = np.float32(8**0.5)


@dataclass(frozen=True, slots=True)
class EvidencePipeline(Pipeline):
    """Detects where all of its markers stand out; subclasses name the roles."""

    strictness: float | str = AUTO
    punctum_nm: float | str = AUTO
    min_volume_um3: float = 0.0
    min_voxels: int = 1

    parameters: ClassVar[tuple[Parameter, ...]] = PARAMETERS

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_parameters(self)

    @property
    def raises_strictness(self) -> bool:
        """Where the user gives no strictness."""
        return self.strictness == AUTO

    @property
    def _least(self) -> float:
        """The least evidence of an object."""
        return _LEAST if isinstance(self.strictness, str) else float(self.strictness)

    @property
    def working_bytes(self) -> int:
        """Evidence of 16 bits, and marks."""
        return 4

    def _widths(self, voxel_size_nm: tuple[float, float, float]) -> tuple[float, ...]:
        """Return the widths to compute contrasts with; where there are several, the outer ones do not count."""
        given = self.punctum_nm
        return widths.candidates(voxel_size_nm) if isinstance(given, str) else (float(given),)

    def _counted(self, voxel_size_nm: tuple[float, float, float]) -> tuple[float, ...]:
        """Return the widths that puncta may have."""
        every = self._widths(voxel_size_nm)
        return every if len(every) == 1 else every[1:-1]

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return what the contrasts of the widest puncta and the search for their peaks reach together."""
        return _halo_of(voxel_size_nm, self._widths(voxel_size_nm), self._counted(voxel_size_nm))

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Count the contrasts of each marker by width, and the votes for each width, in a sample of rows."""
        summary: Summary = {}
        sizes, scratch = place.voxel_size_nm, Scratch()
        tried, counted = (
            {width: Windows.of(sizes, width) for width in widths_nm}
            for widths_nm in (self._widths(sizes), self._counted(sizes))
        )
        for rows in sampled_rows(place):
            bands = {width: self._band(place, rows, windows) for width, windows in tried.items()}
            tissue = {width: None if place.tissue is None else place.tissue[band] for width, band in bands.items()}
            partial = {w: None if there is None else Partial.of(there, tried[w]) for w, there in tissue.items()}
            for role, voxels in arrays.items():
                responses = {}
                for width, windows in tried.items():
                    found = contrast(voxels[bands[width]], windows, scratch, partial[width])
                    responses[width] = found[:, :, : place.shape[2] + 2] * np.float32(1 / windows.voxels)
                counts = {
                    f"{role} contrasts {w!r}": signed_counts(responses[w][:, 1:-1, 1:-1]).ravel() for w in counted
                }
                if len(tried) > 1:
                    voted = widths.votes(list(responses.values()))
                    counts |= {f"{role} votes {width!r}": votes for width, votes in zip(counted, voted, strict=True)}
                for name, values in counts.items():
                    summary[name] = summary[name] + values if name in summary else values
        return summary

    def _band(self, place: Place, rows: range, windows: Windows) -> tuple[slice, slice, slice]:
        """Return where some rows of a block, one voxel round them and their windows are in the block with its halo."""
        z, y, x = (h - w for h, w in zip(self.halo(place.voxel_size_nm), windows.halo, strict=True))
        depth, _, width = (n + 2 * w for n, w in zip(place.shape, windows.halo, strict=True))
        return (
            slice(z, z + depth),
            slice(y + rows.start - 1, y + rows.stop + 1 + 2 * windows.halo[1]),
            slice(x - 1, x + width + 1),
        )

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Find the width of each marker's puncta, and the unit of its contrasts."""
        finding: Finding = {"strictness": self._least}
        for role, channel in channels.items():
            units = _units(summary, role)
            if not all(units.values()) or not units:
                raise DataError(
                    f"detecting synapses in channel {channel!r} ({role})",
                    "its voxels in the sampled rows have one value, or nearly so",
                    "Choose another channel with --channels or another box",
                )
            width, *others = units
            if others:
                voted = [widths.votes_above(summary[f"{role} votes {w!r}"], unit) for w, unit in units.items()]
                width = list(units)[widths.median(voted)]
            finding |= {f"punctum_nm:{role}": width, f"unit:{role}": units[width]}
        return finding

    def _windows(self, finding: Finding, place: Place) -> dict[str, Windows]:
        """Return the windows of each marker."""
        return {role.name: Windows.of(place.voxel_size_nm, finding[f"punctum_nm:{role.name}"]) for role in self.roles}

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels in which all markers are strong enough."""
        windows = self._windows(finding, place)
        z, y, x = (max(n) for n in zip(*(one.reach for one in windows.values()), strict=True))
        reach = (z, y, x)
        # beyond the volume it is 0: a mirrored voxel there is the image of a voxel that is within reach as well
        evidence = np.zeros(tuple(n + 2 * r for n, r in zip(place.shape, reach, strict=True)), np.uint16)
        window = inside(place, reach)
        own = evidence[window]
        scratch = Scratch()
        for slab, found in self._slabs(arrays, finding, place, (window, reach), scratch):
            bits = _joint(found, scratch).view(np.uint32)
            bits >>= np.uint32(16)
            own[slab] = bits[:, :, : own.shape[2]]
        marks = near_peaks(evidence, reach, min(self._least, _LEAST))
        return Detected({"All": marks}, {"evidence": trimmed(evidence, reach)})

    def _slabs(
        self,
        arrays: Mapping[str, NDArray[Any]],
        finding: Finding,
        place: Place,
        region: tuple[tuple[slice, slice, slice], tuple[int, int, int]],
        scratch: Scratch,
    ) -> Iterator[tuple[tuple[slice, slice], list[NDArray[np.float32]]]]:
        """Yield the contrasts in dark depths of each marker in the slabs of a window in a block with a margin.

        Their shape is (z, y, x and what means nothing); the next slab overwrites them.
        """
        (window, margin), halo = region, self.halo(place.voxel_size_nm)
        parts, tissue = [], {}
        for role, windows in self._windows(finding, place).items():
            around = grown(window, windows.halo)
            spare = tuple(h - m - w for h, m, w in zip(halo, margin, windows.halo, strict=True))
            scale = np.float32(1 / (windows.voxels * finding[f"unit:{role}"]))
            parts.append((trimmed(arrays[role], spare)[around], windows, scale))
            if place.tissue is not None:
                tissue[windows] = trimmed(place.tissue, spare)[around]
        shape = tuple(part.stop - part.start for part in window)
        # the last columns mean nothing; flat memory is faster than rows of their own
        wide = min(voxels.shape[2] for voxels, *_ in parts)
        for z, y in slabs(shape):
            partial = {
                windows: Partial.of(with_halo(there, z, y, windows.halo), windows) for windows, there in tissue.items()
            }
            found = []
            for number, (voxels, windows, scale) in enumerate(parts):
                raw = contrast(with_halo(voxels, z, y, windows.halo), windows, scratch, partial.get(windows))
                ratio = scratch.take(f"ratio {number}", (*raw.shape[:2], wide), np.float32)
                found.append(np.multiply(raw[:, :, :wide], scale, out=ratio))
            yield (z, y), found

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Keep the objects that are strong and large enough."""
        largest = objects["max_evidence"]
        strong = largest >= bin_of(finding["strictness"])
        large = (objects["voxels"] >= self.min_voxels) & (objects["volume_um3"] >= self.min_volume_um3)
        found, places = np.unique(largest, return_inverse=True)
        score = np.array([_score_of_bin(each) for each in found.tolist()], np.float32)[places]
        return Chosen({"All": strong & large}, {"score": score})

    def scores(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
    ) -> dict[str, NDArray[np.float32]]:
        """Grade every voxel by the sum of its contrasts, which also tells apart what is no synapse."""
        scores = np.zeros(place.shape, np.float32)
        whole = (slice(0, place.shape[0]), slice(0, place.shape[1]), slice(0, place.shape[2]))
        for slab, found in self._slabs(arrays, finding, place, (whole, (0, 0, 0)), Scratch()):
            for ratio in found:
                scores[slab] += ratio[:, :, : place.shape[2]]
        return {"All": scores}


@cache
def _score_of_bin(number: int) -> float:
    """Return the largest number of a bin with six digits: at least any strictness that the bin meets."""
    # tables have six, and the largest of all may be in the next bin when it is rounded to them
    return float(Context(6, ROUND_FLOOR).create_decimal_from_float(largest_of_bin(number)))


@cache
def _halo_of(
    voxel_size_nm: tuple[float, float, float], tried: tuple[float, ...], counted: tuple[float, ...]
) -> tuple[int, int, int]:
    """Return what windows of some widths reach in statistics, and of the widths that count in detection."""
    sampled = [Windows.of(voxel_size_nm, width).halo for width in tried]
    detecting = [Windows.of(voxel_size_nm, width).margin for width in counted]
    z, y, x = (max(n) for n in zip(*detecting, *((z, y + 1, x + 1) for z, y, x in sampled), strict=True))
    return z, y, x


def _units(summary: Summary, role: str) -> dict[float, float]:
    """Return the unit of a marker's contrasts by width, ascending; 0 where no contrast is negative."""
    start = f"{role} contrasts "
    counts = {float(name.removeprefix(start)): found for name, found in summary.items() if name.startswith(start)}
    return {width: _dark_depth(counts[width].reshape(2, -1)) for width in sorted(counts)}


def _dark_depth(counts: NDArray[np.int64]) -> float:
    """Return the unit of contrasts of which these are `signed_counts`; 0 where none is negative."""
    return max(mirror_level(counts) or 0.0, dark_level(counts))


def sampled_rows(place: Place) -> Iterator[range]:
    """Yield the rows of a block that are sampled, counted without the halo; they follow from the volume alone."""
    depth, rows, columns = place.volume
    wanted = -(-depth * rows * columns // _SAMPLE) * _BAND
    period = max(_BAND, min(wanted, max(_FAR, rows // _MANY_BANDS), rows // _LEAST_BANDS))
    start, stop = place.start[1], place.start[1] + place.shape[1]
    for before in range(start // period * period, stop, period):
        # not at a border, where windows are mirrored
        first = before + (period - _BAND) // 2
        low, high = max(first, start), min(first + _BAND, stop)
        if low < high:
            yield range(low - start, high - start)


def _joint(ratios: list[NDArray[np.float32]], scratch: Scratch) -> NDArray[Any]:
    """Return the root of 2 times the harmonic mean of two markers, positive, in place of the first; of one itself."""
    positive = [_positive(ratio) for ratio in ratios]
    if len(positive) == 1:
        return positive[0]
    one, two = positive
    product = scratch.take("product", one.shape, np.float32)
    np.multiply(one, two, out=product)
    product *= _ROOT_8
    one += two
    product /= one
    return product


def _positive(ratio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put the least positive evidence in the place of what is below it."""
    # floats are in the order of their bits, and negative ones below; NumPy compares integers in two thirds of the time
    bits = ratio.view(np.int32)
    np.maximum(bits, _FAINT.view(np.int32), out=bits)
    return ratio
