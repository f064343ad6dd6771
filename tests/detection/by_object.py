"""The features of synapses, one synapse after the other, as their documentation says and as slowly as that goes.

It shares nothing with the detection; tests and benchmarks compare with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, float]


def rows(
    labels: NDArray[np.int64],
    channels: Mapping[str, NDArray[Any]],
    origin: Sequence[int],
    voxel_size_nm: Sequence[float],
    window_nm: Sequence[float] = (140.0, 500.0, 500.0),
) -> list[Row]:
    """Measure each object of `labels`, which are numbered from 1 without a gap."""
    reach = [int(np.floor(extent / size + 0.5)) for extent, size in zip(window_nm, voxel_size_nm, strict=True)]
    return [
        row(np.argwhere(labels == number), channels, origin, voxel_size_nm, reach)
        for number in range(1, int(labels.max(initial=0)) + 1)
    ]


def row(
    places: NDArray[np.int64],
    channels: Mapping[str, NDArray[Any]],
    origin: Sequence[int],
    voxel_size_nm: Sequence[float],
    reach: Sequence[int],
) -> Row:
    """Measure the object that has its voxels in some places, shape (n, 3)."""
    um = np.array(voxel_size_nm) / 1000
    found: Row = {"voxels": len(places), "volume_um3": len(places) * um[0] * um[1] * um[2]}
    found["equivalent_diameter_um"] = (found["volume_um3"] * 6 / np.pi) ** (1 / 3)
    for axis, name in enumerate("zyx"):
        found[f"centroid_{name}_voxel"] = float(np.mean(places[:, axis])) + origin[axis]
    spread = np.cov(places.T * um[:, np.newaxis], bias=True) + np.diag(um**2) / 12
    _, middle, long = np.sqrt(np.linalg.eigvalsh(spread))
    found["elongation"] = long / middle
    shape = next(iter(channels.values())).shape
    # twice the sum over twice the number, so that a half is seen as one
    centre = [(2 * int(sum_) + len(places)) // (2 * len(places)) for sum_ in places.sum(axis=0)]
    window = box_round(centre, reach, shape)
    around = box_round(centre, [max(2 * n, n + 1) for n in reach], shape)
    inside = np.zeros(shape, np.bool_)
    inside[around] = True
    inside[window] = False
    full = np.prod([2 * n + 1 for n in reach])
    for name, voxels in channels.items():
        grey = [int(voxels[z, y, x]) for z, y, x in places]
        near = voxels[window].astype(np.int64)
        shell = voxels[around][inside[around]].astype(np.int64)
        found["window_fraction"] = near.size / full
        found[f"sum_{name}"], found[f"mean_{name}"] = sum(grey), sum(grey) / len(grey)
        found[f"window_sum_{name}"], found[f"window_mean_{name}"] = int(near.sum()), near.sum() / near.size
        found[f"contrast_{name}"] = found[f"mean_{name}"] - (shell.sum() / shell.size if shell.size else np.nan)
    return found


def box_round(centre: Sequence[int], reach: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the box round a voxel, cut at the borders."""
    return tuple(
        slice(max(c - n, 0), min(c + n + 1, length)) for c, n, length in zip(centre, reach, shape, strict=True)
    )


def compare(table: Mapping[str, NDArray[Any]], expected: Sequence[Row]) -> None:
    """Assert that a table has these rows: integers exactly, floats to 1e-6."""
    assert len(table["id"]) == len(expected)
    for name in expected[0] if expected else ():
        wanted = np.array([row[name] for row in expected])
        if table[name].dtype.kind == "i":
            assert np.array_equal(table[name], wanted), name
        else:
            np.testing.assert_allclose(table[name], wanted, rtol=1e-6, atol=1e-6, err_msg=name)
