"""A run that ended as layers and scene: its volume, its labels or mask, its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nd_synapse.errors import DataError, UsageError
from nd_synapse.files.csv_tables import read_rows
from nd_synapse.files.parquet import read_parquet
from nd_synapse.files.reading import reading
from nd_synapse.geometry import Box
from nd_synapse.job.job import label_names
from nd_synapse.job.label_files import LABELS
from nd_synapse.job.manifest import RunFile, read_run_file
from nd_synapse.job.results import LONG_TABLE, POINTS, TABLE, table_file
from nd_synapse.job.verify import Request, mask_of, source_of
from nd_synapse.view.layer import Layer, Read, outlines
from nd_synapse.view.scene import Places, Scene
from nd_synapse.volumes import Source

__all__ = ["OpenRun", "open_run"]


@dataclass(frozen=True, slots=True)
class OpenRun:
    """What is served of a run."""

    run: RunFile
    source: Source
    scene: Scene
    images: Mapping[str, Layer]
    """By channel."""
    labels: Mapping[str, Layer]
    """The layers `labels` and `outlines`."""
    points: Path
    """Folder of the points."""


def open_run(request: Request) -> OpenRun:
    """Open what is shown of a result folder; no voxel is read."""
    run = read_run_file(request.folder)
    if not (request.folder / POINTS / "info").is_file():
        found = f"it has no {POINTS}: it was made by an earlier version, or is incomplete"
        raise UsageError(f"result folder {request.folder}", found, "Run the job again")
    source = source_of(request, run, [])
    size_nm = source.frame.voxel_size_nm
    places = _places(table_file(request.folder))
    scene = Scene(run.key, run.box, size_nm, run.roles, run.brightness, places)
    images = {name: _image(source, name) for name in source.image_channels}
    if lost := [name for name in run.roles.values() if name not in images]:
        found = f"it has no image {', '.join(lost)}, which the run searched"
        raise DataError(f"the volume of {request.folder}", found, "Give the volume of the run with --source or --host")
    labels = Layer(run.box, size_nm, *_labels(request.folder, run), labels=True)
    layers = {"labels": labels, "outlines": outlines(labels)}
    return OpenRun(run, source, scene, images, layers, request.folder / POINTS)


def _image(source: Source, channel: str) -> Layer:
    """Return a channel as a layer."""

    def read(box: Box) -> Any:
        return source.get_cutout(channel, *box.ranges)

    return Layer(source.frame.extent, source.frame.voxel_size_nm, source.dtype(channel), read)


def _labels(folder: Path, run: RunFile) -> tuple[np.dtype[Any], Read]:
    """Return the labels of the first mask, or that mask where a run left none: their type, and how to read a box."""
    mask, origin = next(iter(run.masks)), run.box.start
    if (folder / LABELS).is_dir():
        from nd_synapse.files.multiscale import open_level  # zarr takes a third of a second to import

        with reading(folder / LABELS):
            volume: Any = open_level(folder / LABELS, 0, label_names(list(run.masks))[mask])
    else:
        volume = mask_of(folder, run, mask)
    if volume.shape != run.box.shape:
        found = f"its shape is {volume.shape}, that of the run {run.box.shape}"
        raise DataError(str(folder / LABELS), found, "Run the job again")

    def read(box: Box) -> Any:
        with reading(folder):
            return np.asarray(volume[box.slices(origin)])

    return np.dtype(volume.dtype), read


def _places(path: Path) -> Places:
    """Read where the synapses of a table are."""
    wanted = ["id", *(f"centroid_{axis}_voxel" for axis in "zyx")]
    with reading(path):
        if path.name == LONG_TABLE:
            parts = [
                np.stack([piece[name] for name in wanted], axis=1) for piece in read_parquet(path, path.name, wanted)
            ]
            values = np.concatenate(parts)
        else:
            rows = read_rows(path, TABLE)
            header = next(rows)
            if not set(wanted) <= set(header):
                raise DataError(str(path), f"it lacks one of the columns {', '.join(wanted)}", "Run the job again")
            columns = [header.index(name) for name in wanted]
            values = np.array([[float(row[place]) for place in columns] for row in rows], np.float64).reshape(-1, 4)
    return Places(values[:, 0].astype(np.int64), values[:, 1:])
