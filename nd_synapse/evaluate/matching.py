"""One-to-one matching of truth and detections: as many pairs as the rule allows, and of those the best.

What may be matched is a graph: an edge joins a true synapse and a detection that are close enough, or that overlap. A
*matching* takes edges so that no synapse and no detection is used twice. Taking the closest pair first (greedy) can
waste synapses::

    synapses      A . . B . . .
    detections    . . a . . . b      A-a are 2 apart, B-a 1, B-b 3; at most 3 is allowed

    greedy takes B-a and leaves A and b alone; A-a with B-b matches all

so that the count depends on coincidences. Here the number of pairs is the largest that there is, which is one number,
for any order of the rows; among such matchings the one with the least total cost is taken. Both come from one
assignment problem (Jonker and Volgenant 1987, in the sparse form of SciPy), in which a synapse may also stay alone at
a cost above any that pairs can add up to.

Jonker, R. and Volgenant, A. (1987). A shortest augmenting path algorithm for dense and sparse linear assignment
problems. Computing 38, 325-340. doi:10.1007/BF02278710

Berge, C. (1957). Two theorems in graph theory. PNAS 43(9), 842-844. doi:10.1073/pnas.43.9.842
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError

__all__ = ["MAX_PAIRS", "Candidates", "gains", "match", "overlapping", "within_distance"]

MAX_PAIRS = 10_000_000
"""Largest number of pairs in reach of each other, about 40 bytes each."""

_BATCH = 256
"""Synapses that are matched in one call, unless more are connected: the time of a call is quadratic."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pairs that may be matched, a row each, none twice; shape (pairs,)."""

    truth: NDArray[np.int64]
    """Row of the true synapse."""
    detection: NDArray[np.int64]
    """Row of the detection."""
    cost: NDArray[np.float64]
    """How bad the pair is, 0 to 1."""
    truths: int
    """Number of true synapses, also those in no pair."""
    detections: int
    """Number of detections, also those in no pair."""

    def among(self, truth: NDArray[np.bool_], detection: NDArray[np.bool_]) -> Candidates:
        """Return the pairs of the selected synapses and detections, with their rows in the selections."""
        stay = truth[self.truth] & detection[self.detection]
        truth_row, detection_row = np.cumsum(truth) - 1, np.cumsum(detection) - 1
        return Candidates(
            truth_row[self.truth[stay]],
            detection_row[self.detection[stay]],
            self.cost[stay],
            int(np.count_nonzero(truth)),
            int(np.count_nonzero(detection)),
        )


def within_distance(
    truth_um: NDArray[np.float64], detections_um: NDArray[np.float64], max_distance_um: float
) -> Candidates:
    """Find the points (n, 3) and (m, 3) within a distance of each other; the cost is distance over largest distance."""
    if not len(truth_um) or not len(detections_um):
        none = np.empty(0, np.int64)
        return Candidates(none, none, np.empty(0), len(truth_um), len(detections_um))
    from scipy.spatial import cKDTree  # scipy is imported only where it is used

    # a distance of three voxels of 0.1 um is 0.30000000000000004 um
    reach = max_distance_um * (1 + 1e-9)
    trees = cKDTree(truth_um), cKDTree(detections_um)
    count = int(trees[0].count_neighbors(trees[1], reach))
    if count > MAX_PAIRS:
        found = f"{count:,} pairs are that close, and memory is planned for {MAX_PAIRS:,}"
        raise DataError(f"pairs within {max_distance_um * 1000:g} nm", found, "Give a smaller --max-distance-nm")
    pairs = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    cost = np.minimum(pairs["v"] / max_distance_um, 1.0)
    return Candidates(pairs["i"].astype(np.int64), pairs["j"].astype(np.int64), cost, len(truth_um), len(detections_um))


def overlapping(
    truth: NDArray[Any], detected: NDArray[Any], sizes: tuple[NDArray[np.int64], NDArray[np.int64]], min_iou: float
) -> Candidates:
    """Find objects of two volumes (z, y, x), numbered from 1, that overlap; the cost is 1 - intersection over union.

    `sizes` are the voxels of each true and each detected object; where `min_iou` is 0, one shared voxel is enough.
    """
    both = np.flatnonzero((truth != 0) & (detected != 0))
    of_truth, of_detected = truth.ravel()[both] - 1, detected.ravel()[both] - 1
    keys, shared = np.unique(of_truth * np.int64(len(sizes[1])) + of_detected, return_counts=True)
    rows, columns = np.divmod(keys, max(len(sizes[1]), 1))
    iou = shared / (sizes[0][rows] + sizes[1][columns] - shared)
    enough = iou >= min_iou
    return Candidates(rows[enough], columns[enough], 1 - iou[enough], len(sizes[0]), len(sizes[1]))


def match(candidates: Candidates) -> NDArray[np.int64]:
    """Choose as many pairs as possible, and of those the least total cost: rows of truth and detection, (k, 2)."""
    chosen = [_assign(candidates, edges) for edges in _batches(candidates)]
    taken = np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))
    pairs = np.stack([candidates.truth[taken], candidates.detection[taken]], axis=1)
    return pairs[np.argsort(pairs[:, 0])]


def _batches(candidates: Candidates) -> Iterator[NDArray[np.int64]]:
    """Yield rows of `candidates`, connected ones together: connected parts can be matched on their own."""
    if not len(candidates.truth):
        return
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = candidates.truths + candidates.detections
    ends = (candidates.truth, candidates.detection + candidates.truths)
    _, parts = connected_components(coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(nodes, nodes)), False)
    part = parts[candidates.truth]
    synapses = np.bincount(parts[np.unique(candidates.truth)], minlength=int(parts.max()) + 1)
    # batches are numbered by the synapses before a part, so each has at most one batch size and one part more
    batch = ((np.cumsum(synapses) - synapses) // _BATCH)[part]
    order = np.argsort(batch, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(batch[order])) + 1)


def _assign(candidates: Candidates, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Match the synapses of some rows of `candidates`; return the rows that are chosen."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    truths, row = np.unique(candidates.truth[edges], return_inverse=True)
    detections, column = np.unique(candidates.detection[edges], return_inverse=True)
    n, m = len(truths), len(detections)
    # Each synapse may also be assigned to a place of its own, that is, stay alone. This costs more than all pairs
    # together, so it happens only where it must. One is added to every weight because SciPy takes 0 as no edge.
    alone = n + 1.0
    weights = np.concatenate([candidates.cost[edges] + 1, np.full(n, alone + 1)])
    rows = np.concatenate([row, np.arange(n)])
    columns = np.concatenate([column, m + np.arange(n)])
    graph = csr_array((weights, (rows, columns)), shape=(n, m + n))
    found_rows, found_columns = min_weight_full_bipartite_matching(graph)
    paired = found_columns < m
    edge_of = csr_array((np.arange(1, len(edges) + 1), (row, column)), shape=(n, m))
    taken = np.asarray(edge_of[found_rows[paired], found_columns[paired]], np.int64).ravel() - 1
    chosen: NDArray[np.int64] = edges[taken]
    return chosen


def gains(candidates: Candidates, order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which detections enlarge the largest matching when they come in this order: bool by row, (detections,).

    The number of them so far is the size of the largest matching of the detections so far, so one pass gives the hits
    at every threshold. A new detection looks for a free synapse along a path of pairs that can be exchanged (Berge
    1957). Where there is none, no synapse on its paths will ever be free again, so they are not searched again.
    """
    reach = _reached(candidates)
    mate = [-1] * candidates.truths
    own = [-1] * candidates.detections
    spent = [False] * candidates.truths
    for newcomer in order.tolist():
        came_from: dict[int, int] = {}
        free = _search(newcomer, reach, mate, spent, came_from)
        if free < 0:
            for synapse in came_from:
                spent[synapse] = True
            continue
        synapse = free
        while synapse >= 0:
            detection = came_from[synapse]
            mate[synapse] = detection
            synapse, own[detection] = own[detection], synapse
    return np.asarray(own, np.int64) >= 0


def _reached(candidates: Candidates) -> list[list[int]]:
    """Return the synapses that each detection may be matched with."""
    order = np.lexsort((candidates.truth, candidates.detection))
    ends = np.cumsum(np.bincount(candidates.detection, minlength=candidates.detections))
    return [part.tolist() for part in np.split(candidates.truth[order], ends[:-1])] if len(ends) else []


def _search(
    newcomer: int, reach: list[list[int]], mate: list[int], spent: list[bool], came_from: dict[int, int]
) -> int:
    """Return the first free synapse, -1 if there is none; record the path in `came_from`."""
    queue = [newcomer]
    for detection in queue:  # it grows meanwhile
        for synapse in reach[detection]:
            if synapse in came_from or spent[synapse]:
                continue
            came_from[synapse] = detection
            if mate[synapse] < 0:
                return synapse
            queue.append(mate[synapse])
    return -1
