"""The mixture tree: rows split in two, and again, where two Gaussians describe them better than one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.report.look import ALONE

__all__ = ["LEAST_DISTANCE_SD", "LEAST_GAIN", "LEAST_GAIN_PER_ROW", "MOST_LEAVES", "Node"]
__all__ += ["criterion", "grow", "label", "least_gain", "leaves", "one_thread", "smallest_part"]

MOST_LEAVES = 4
"""How many leaves a tree may have."""

LEAST_GAIN = 10.0
"""By how much the BIC must fall: very strong evidence (Kass and Raftery 1995, doi:10.1080/01621459.1995.10476572)."""

LEAST_GAIN_PER_ROW = 0.03
"""By how much it must fall a row: splits of a part that is not normal, being cut off its neighbour, gain 0.02."""

LEAST_DISTANCE_SD = 1.0
"""By how much the means must differ, in standard deviations within the parts; two Gaussians about one mean are
one population with long tails."""

_STARTS = 3
_ITERATIONS = 200
# keeps a component from shrinking onto few rows or onto a plane; the columns have variance 1
_RIDGE = 1e-3
_CHUNK_ROWS = 100_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Node:
    """Rows that belong together, and how they were split further."""

    rows: int
    """Fitted rows."""
    gain: float | None = None
    """BIC of one Gaussian minus that of two; None if two were not tried: too few rows, or enough leaves."""
    distance_sd: float = 0.0
    """Distance of the means of the two parts that were tried, in standard deviations within them."""
    smaller: int = 0
    """Rows of the smaller of the two parts that were tried."""
    parts: tuple[Node, ...] = ()
    """The two parts, the larger first; empty for a leaf."""
    mixture: Any = None
    """The fitted `sklearn.mixture.GaussianMixture` of the two parts; None for a leaf."""
    order: tuple[int, ...] = ()
    """Which component of `mixture` is which part."""


def smallest_part(columns: int) -> int:
    """Return how many fitted rows a part needs for a covariance of this many columns."""
    return max(50, 5 * columns)


def least_gain(rows: int) -> float:
    """Return by how much the BIC must fall for a split of this many fitted rows."""
    return max(LEAST_GAIN, LEAST_GAIN_PER_ROW * rows)


def leaves(node: Node) -> list[Node]:
    """Return the leaves of a tree from left to right; their index is the label of `label`."""
    return [leaf for part in node.parts for leaf in leaves(part)] or [node]


def grow(values: Floats, seed: int, most: int = MOST_LEAVES) -> Node:
    """Split rows, float64 (rows, columns), in two repeatedly where that lowers the BIC enough.

    The means of the parts must differ, and both must be large enough. The leaf that gains most is split next.
    """
    # the path to a node is the sequence of parts, 0 or 1, that leads to it
    open_: dict[str, _Trial] = {"": _try(values, seed)}
    inner: dict[str, _Trial] = {}
    while len(open_) < most and (worth := [path for path, trial in open_.items() if trial.splits]):
        path = max(worth, key=lambda path: open_[path].node.gain or 0)
        trial = inner[path] = open_.pop(path)
        last = len(open_) + 2 == most
        for i, part in enumerate(trial.parts()):
            open_[f"{path}{i}"] = _Trial(part, Node(len(part))) if last else _try(part, seed)
    return _built("", open_, inner)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Some rows, and the result of trying to split them; `found` is the component of each."""

    values: Floats
    node: Node
    found: NDArray[np.int64] | None = None

    @property
    def splits(self) -> bool:
        """Return whether the split is good enough."""
        node, least = self.node, smallest_part(self.values.shape[1])
        gains = (node.gain or 0) >= least_gain(node.rows)
        return gains and node.distance_sd >= LEAST_DISTANCE_SD and node.smaller >= least

    def parts(self) -> list[Floats]:
        """Return the rows of each part, the larger first."""
        return [self.values[self.found == component] for component in self.node.order]


def _try(values: Floats, seed: int) -> _Trial:
    rows, columns = values.shape
    if rows < 2 * smallest_part(columns):
        return _Trial(values, Node(rows))
    one, two = _fit(values, 1, seed, starts=1), _fit(values, 2, seed, starts=_STARTS)
    found = two.predict(values)
    sizes = np.bincount(found, minlength=2)
    order = tuple(int(i) for i in np.argsort(-sizes, kind="stable"))
    gain = float(one.bic(values) - two.bic(values))
    distance = _distance_sd(values[found == 0], values[found == 1]) if sizes.min() else 0.0
    node = Node(rows, gain, distance, int(sizes.min()), mixture=two, order=order)
    return _Trial(values, node, found)


def _distance_sd(one: Floats, other: Floats) -> float:
    """Return the Mahalanobis distance of the means of two parts: in standard deviations within them."""
    within = sum(len(part) * np.cov(part.T, bias=True) for part in (one, other)) / (len(one) + len(other))
    between = one.mean(axis=0) - other.mean(axis=0)
    ridged = np.atleast_2d(within) + _RIDGE * np.eye(len(between))
    return float(np.sqrt(between @ np.linalg.solve(ridged, between)))


def _built(path: str, leaves_: Mapping[str, _Trial], inner: Mapping[str, _Trial]) -> Node:
    """Return the node at a path with all nodes below it; leaves need no mixture."""
    if path in leaves_:
        return replace(leaves_[path].node, mixture=None, order=())
    return replace(inner[path].node, parts=tuple(_built(f"{path}{i}", leaves_, inner) for i in (0, 1)))


def criterion(values: Floats, seed: int) -> float:
    """Return the Bayesian information criterion of two Gaussians; lower is better."""
    return float(_fit(values, 2, seed, starts=1).bic(values))


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep NumPy and scikit-learn to one thread: more gain nothing at these sizes, and would show in the last bits."""
    # the limit holds for libraries that are loaded already; importing takes a second, and only reports need it
    import sklearn.mixture  # type: ignore[import-untyped]  # noqa: F401 - as above; no types there
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # no types there

    with ALONE, threadpool_limits(1):
        yield


def _fit(values: Floats, components: int, seed: int, starts: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped] # no types there
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        components,
        reg_covar=_RIDGE,
        n_init=starts,
        max_iter=_ITERATIONS,
        random_state=seed % 2**32,  # it takes 32 bits
    )
    with ALONE, warnings.catch_warnings():
        # a start that has not converged, or equal rows, lose by their BIC or their size
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(values)


def label(node: Node, values: Floats) -> NDArray[np.int8]:
    """Return the leaf of each row, shape (rows,)."""
    chunks = range(0, len(values), _CHUNK_ROWS)
    return np.concatenate(
        [np.empty(0, np.int8), *(_label(node, values[start : start + _CHUNK_ROWS]) for start in chunks)]
    )


def _label(node: Node, values: Floats) -> NDArray[np.int8]:
    labels = np.zeros(len(values), np.int8)
    if not node.parts or not len(values):
        return labels
    found = node.mixture.predict(values)
    before = 0
    for component, part in zip(node.order, node.parts, strict=True):
        mine = found == component
        labels[mine] = before + _label(part, values[mine])
        before += len(leaves(part))
    return labels
