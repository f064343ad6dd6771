"""The report from arrays: what `pymeda_driver` offers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection import objects
from nd_synapse.detection.overview import Overview
from nd_synapse.errors import DataError, called
from nd_synapse.geometry import Box
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.report import Report, draw_report, write_report
from nd_synapse.report.table import check_magnitude
from nd_synapse.user_code import array_of
from nd_synapse.values import parse_path

__all__ = ["Report", "RunFacts", "draw_report", "pymeda_pipeline", "write_report"]


@called()
def pymeda_pipeline(
    results: NDArray[Any] | Mapping[str, NDArray[Any]],
    norm_data: Mapping[str, NDArray[Any]],
    title: str = "PyMeda Plots",
    path: str | Path = "./",
    *,
    origin: tuple[int, int, int] = (0, 0, 0),
    voxel_size_nm: tuple[float, float, float] | None = None,
) -> Path:
    """Write the report of masks and images in memory.

    Parameters
    ----------
    results : ndarray, shape (z, y, x), or mapping of str to such arrays
        The mask, non-zero at synapses, which are 26-connected. Of several masks, all are outlined, the objects of
        the first are measured, and the others become groups of them. Never written to.
    norm_data : mapping of str to ndarray, shape (z, y, x)
        Channel to its image, real numbers. Never written to.
    title : str
        Title of the page; the file is called ``PyMeda_<title>.html``.
    path : str or Path
        The folder; made if missing.
    origin : tuple of int
        First voxel of the arrays in the experiment (z, y, x).
    voxel_size_nm : tuple of float, optional
        Extent of a voxel along z, y, x in nanometres; without it, positions and sizes are in voxels.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    DataError
        If there is no mask, or arrays are not three-dimensional or differ in shape.
    UsageError
        If a voxel cannot have the given size.
    StorageError
        If the folder cannot be written.
    """
    folder = parse_path("path", path)
    if not isinstance(norm_data, Mapping):
        raise DataError("the images of a report", f"they are {type(norm_data).__name__}", "Map channels to images")
    masks = _arrays("mask", results if isinstance(results, Mapping) else {"synapses": results})
    images = _arrays("channel", norm_data)
    if not masks:
        raise DataError("a report of masks", "there is no mask", "Give at least one")
    name, mask = next(iter(masks.items()))
    if mask.ndim != 3 or 0 in mask.shape:
        raise DataError(f"mask {name!r}", f"its shape is {mask.shape}", "Give masks of shape z, y, x")
    for kind, arrays in (("mask", masks), ("channel", images)):
        for key, array in arrays.items():
            if array.shape != mask.shape:
                found = f"its shape is {array.shape}, that of the mask {name!r} {mask.shape}"
                raise DataError(f"{kind} {key!r}", found, "Give images and masks of the same box")
    note = f"Synapses are the objects of the mask “{name}”; one is in another mask if that holds half of its voxels."
    box = Box.of_shape(mask.shape, origin)
    facts = RunFacts(box=box, voxel_size_nm=voxel_size_nm, notes=[note] if len(masks) > 1 else [])
    others = {key: array for key, array in masks.items() if key != name}
    return write_report(
        folder,
        title=str(title),
        table=measure(mask, images, box, voxel_size_nm, others),
        facts=facts,
        overviews={channel: _overview(image, box) for channel, image in images.items()},
        mask_overviews={key: _overview(array != 0, box) for key, array in masks.items()},
        images=images,
        mask_volumes=masks,
    )


def _arrays(kind: str, given: Mapping[Any, Any]) -> dict[str, NDArray[Any]]:
    """Return what a caller passed as arrays of real numbers."""
    arrays = {}
    for key, value in given.items():
        array = array_of(f"{kind} {key!r}", value)
        if array.dtype.kind not in "buif":
            raise DataError(f"{kind} {key!r}", f"it holds {array.dtype}", "Give real numbers")
        if kind == "mask" and np.isnan(array).any():
            raise DataError(f"{kind} {key!r}", "it has NaN, which is neither synapse nor background", "Give 0 or 255")
        check_magnitude(f"{kind} {key!r}", array)
        arrays[str(key)] = array
    return arrays


def measure(
    mask: NDArray[Any],
    images: Mapping[str, NDArray[Any]],
    box: Box,
    voxel_size_nm: tuple[float, float, float] | None,
    others: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """Return the table of a detection, each column (objects,); columns in micrometres need a voxel size."""
    labelled = objects.label(mask != 0, box, box)
    parts, joint = objects.join([objects.measure(labelled, box, ())], [])
    table = dict(objects.table(parts, box, (1.0, 1.0, 1.0) if voxel_size_nm is None else voxel_size_nm))
    if voxel_size_nm is None:
        table = {name: values for name, values in table.items() if not name.endswith(("_um", "_um3"))}
    inside = labelled.numbers != 0
    rows = objects.rows_of_objects(joint, labelled.ids)[labelled.numbers[inside] - 1]
    for name, image in images.items():
        # `objects.measure` sums integers; these images may be normalised
        sums = np.bincount(rows, image[inside].astype(np.float64), minlength=len(parts["id"]))
        table[f"mean_{name}"] = sums / parts["voxels"]
    for name, other in others.items():
        shared = np.bincount(rows[other[inside] != 0], minlength=len(parts["id"]))
        table[f"in_{name}"] = 2 * shared >= parts["voxels"]
    return table


def _overview(volume: NDArray[Any], box: Box) -> NDArray[Any]:
    """Return the maximum projection (y, x) of a volume (z, y, x); bool becomes uint8."""
    pixels = Overview.of_block(volume, box, box).pixels
    return pixels.view(np.uint8) if pixels.dtype == bool else pixels
