"""The pipeline `probabilistic`: the published probabilistic detector of synapses, driven by a query.

A query finds one kind of synapse. It names channels of the pre-synaptic and the post-synaptic side and, for each, over
how many slices a punctum must span. A voxel's probability is that of a punctum in the first post-synaptic channel
there, times that of the brightest nearby pre-synaptic window, times that of the other post-synaptic channels in place.
Detected is what exceeds the threshold; objects are ranked by their largest probability. `pipelines.probability` has the
steps.

Means and standard deviations are those of each whole slice of the requested volume, from exact integer sums.

Simhal, A. K. et al. (2017). Probabilistic fluorescence-based synapse detection. PLoS Comput. Biol. 13(4), e1005493.
doi:10.1371/journal.pcbi.1005493
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UsageError
from nd_synapse.geometry import Box
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
from nd_synapse.pipeline.roles import Role
from pipelines import probability
from pipelines.query import Marker, Query, parse_markers, parse_query

__all__ = ["Probabilistic"]

_TILE = (16, 32, 2048)
"""Voxels that are graded at a time, so that intermediate results stay in the processor's cache."""

_STEPS = 65535
"""A probability of 1 as evidence, which is whole numbers."""


@dataclass(frozen=True, slots=True)
class Probabilistic(Pipeline):
    """Detects a synapse where puncta of both sides lie beside each other, as a query says."""

    presynaptic: str = "synapsin:2"
    postsynaptic: str = "psd95:2"
    punctum: int = 2
    threshold: float = 0.9
    query: str = ""
    min_voxels: int = 1

    # it stays as published, voxel for voxel
    tissue_only = False
    name = "probabilistic"
    help = "a query of pre- and post-synaptic puncta, graded by probability"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("presynaptic", "synapsin:2", "", "CHANNEL[:SLICES],... of the pre-synaptic side, 1 to 3 slices"),
        Parameter("postsynaptic", "psd95:2", "", "CHANNEL[:SLICES],... of the post-synaptic side, 1 to 3 slices"),
        Parameter("punctum", 2, "pixels", "width of a punctum, even", minimum=2),
        Parameter("threshold", 0.9, "", "voxels with a larger probability are detected, from 0 to 1", minimum=0),
        Parameter("query", "", "", "the four above as a JSON object, instead of them"),
        Parameter("min_voxels", 1, "voxels", "smallest synapse", minimum=1),
    )

    def __post_init__(self) -> None:
        """Check the parameters; refuse a query that cannot be read or is given twice."""
        check_parameters(self)
        given = [p.name for p in self.parameters[:4] if getattr(self, p.name) != p.default]
        if self.query and given:
            raise UsageError(
                f"parameter query together with {', '.join(given)}",
                "the query says the same",
                "Give either the query or the other parameters",
            )
        _ = self.requested

    @property
    def requested(self) -> Query:
        """The query, read."""
        pre, post = parse_markers(self.presynaptic, "presynaptic"), parse_markers(self.postsynaptic, "postsynaptic")
        query = Query(pre, post, self.punctum, self.threshold)
        return parse_query(self.query, query) if self.query else query

    @property
    def roles(self) -> tuple[Role, ...]:
        """A role for each channel of the query: ``presynaptic``, ``presynaptic2``, ..., ``postsynaptic``, ..."""
        return tuple(
            Role(role, (marker.channel.lower(),), f"the query's {marker.channel}")
            for role, marker in _by_role(self.requested).items()
        )

    @property
    def null(self) -> Null | None:
        """The pre-synaptic channels, shifted."""
        presynaptic = tuple(role.name for role in self.roles if role.name.startswith("presynaptic"))
        return Null(presynaptic) if presynaptic else None

    @property
    def working_bytes(self) -> int:
        """The result, tables of a few slices, and maps of one tile, which may be all of a small block."""
        return 16

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return how far a punctum and the search beside it reach."""
        del voxel_size_nm
        requested = self.requested
        slices, pixels = probability.reach(
            [marker.slices for marker in requested.base],
            [marker.slices for marker in requested.adjacent],
            requested.punctum,
        )
        return (slices, pixels, pixels)

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Sum the intensities of each slice and their squares."""
        first, stop = place.start[0], place.start[0] + place.shape[0]
        summary = {"voxels": np.zeros(stop, np.int64)}
        summary["voxels"][first:] = place.shape[1] * place.shape[2]
        halo = self.halo(place.voxel_size_nm)
        own = tuple(slice(h, h + n) for h, n in zip(halo, place.shape, strict=True))
        for role, voxels in arrays.items():
            for name in ("sum", "low", "high"):
                summary[f"{name}:{role}"] = np.zeros(stop, np.int64)
            for z, plane in enumerate(voxels[own], first):
                for name, value in zip(("sum", "low", "high"), _moments(plane), strict=True):
                    summary[f"{name}:{role}"][z] = value
        return summary

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Compute the mean and the standard deviation of each slice."""
        finding: Finding = {}
        counts = summary["voxels"].tolist()
        for role in _by_role(self.requested):
            totals, low, high = (summary[f"{name}:{role}"].tolist() for name in ("sum", "low", "high"))
            squares = [a + 256 * b for a, b in zip(low, high, strict=True)]
            finding[f"mean:{role}"] = [total / max(n, 1) for n, total in zip(counts, totals, strict=True)]
            # the difference is taken of whole numbers, so that it is exact
            finding[f"std:{role}"] = [
                math.sqrt(n * square - total * total) / max(n, 1)
                for n, total, square in zip(counts, totals, squares, strict=True)
            ]
            if not any(finding[f"std:{role}"]):
                raise DataError(
                    f"detecting synapses in channel {channels.get(role, role)!r} ({role})",
                    "no slice of the box has voxels of different values",
                    "Choose another channel with --channels or another box",
                )
        return finding

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels whose probability exceeds the threshold."""
        threshold = self.requested.threshold
        detected = np.zeros(place.shape, np.bool_)
        probability = np.zeros(place.shape, np.uint16)
        for own, grades in self._tiles(arrays, finding, place, threshold):
            inside = np.greater(grades, threshold, out=detected[own])
            probability[own][inside] = np.rint(grades[inside] * _STEPS)
        return Detected({"All": detected}, {"probability": probability})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Keep the objects that are large enough, with the probability of each."""
        del finding
        return Chosen(
            {"All": objects["voxels"] >= self.min_voxels}, {"probability": objects["max_probability"] / _STEPS}
        )

    def scores(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
    ) -> dict[str, NDArray[np.float32]]:
        """Return the probability of every voxel."""
        probability = np.empty(place.shape, np.float32)
        for own, grades in self._tiles(arrays, finding, place, 0.0):
            probability[own] = grades
        return {"All": probability}

    def _tiles(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place, floor: float
    ) -> Iterator[tuple[tuple[slice, slice, slice], NDArray[np.float32]]]:
        """Yield the tiles of a block: the slices of the block, and `probability.grade`."""
        requested, volume = self.requested, Box.of_shape(place.volume)
        for layer in Box.of_shape(place.shape, place.start).tiles((_TILE[0], *place.shape[1:])):
            base, adjacent = self._sides(arrays, finding, place, layer)
            for tile in layer.tiles(_TILE):
                yield (
                    tile.slices(place.start),
                    probability.grade(base, adjacent, tile, volume, requested.punctum, floor),
                )

    def _sides(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place, layer: Box
    ) -> tuple[list[probability.Channel], list[probability.Channel]]:
        """Return the channels of the base's and of the adjacent side, with the tables for the slices of a layer."""
        requested, halo = self.requested, self.halo(place.voxel_size_nm)
        z, y, x = (start - margin for start, margin in zip(place.start, halo, strict=True))
        held = range(max(layer.z[0] - halo[0], 0), min(layer.z[1] + halo[0], place.volume[0]))
        channels = {}
        for role, marker in _by_role(requested).items():
            top = int(np.iinfo(arrays[role].dtype).max)
            # the last slices are not in the finding if their blocks failed; they count as constant
            known = [*zip(finding[f"mean:{role}"], finding[f"std:{role}"], strict=True)]
            moments = {k: known[k] if k < len(known) else (0.0, 0.0) for k in held}
            tables = {k: probability.log_table(mean, std, top, requested.punctum) for k, (mean, std) in moments.items()}
            channels[role] = probability.Channel(arrays[role], (z, y, x), tables, marker.slices)
        post = [channel for role, channel in channels.items() if role.startswith("postsynaptic")]
        pre = [channel for role, channel in channels.items() if role.startswith("presynaptic")]
        return (post, pre) if post else (pre, [])


def _by_role(requested: Query) -> dict[str, Marker]:
    """Name the channels of a query by their roles."""
    sides = {"presynaptic": requested.presynaptic, "postsynaptic": requested.postsynaptic}
    return {
        side if number == 1 else f"{side}{number}": marker
        for side, markers in sides.items()
        for number, marker in enumerate(markers, 1)
    }


def _moments(plane: NDArray[Any]) -> tuple[int, int, int]:
    """Return the sums of v, of v (v % 256) and of v (v // 256) of a plane (y, x): exact, so parts of a slice add up."""
    total = int(plane.sum(dtype=np.int64))
    if plane.dtype == np.uint8:
        return total, int(np.square(plane, dtype=np.uint16).sum(dtype=np.int64)), 0
    wide = plane.astype(np.uint32)
    return total, int((wide * (wide & 255)).sum(dtype=np.int64)), int((wide * (wide >> 8)).sum(dtype=np.int64))
