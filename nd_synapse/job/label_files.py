"""The masks and labels of a run as OME-Zarr: shards are written by worker processes where there are many."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nd_synapse.blocks.pool import BlockPool, Boxes, Failed, InWorkerError
from nd_synapse.errors import LimitError, NDSynapseError
from nd_synapse.files.atomic import writing
from nd_synapse.geometry import Box
from nd_synapse.volumes import Volume

if TYPE_CHECKING:
    from nd_synapse.files.multiscale import Labelled, Pyramid

__all__ = ["LABELS", "write_labels"]

LABELS = "synapses.ome.zarr"

_FEW_SHARDS = 32
"""Shards of the finest level that take no longer than starting workers does."""


def write_labels(
    root: Path,
    scratch: Path,
    masks: Mapping[str, Volume],
    labels: Volume,
    pyramid: Pyramid,
    name: str,
    workers: int = 1,
) -> Path:
    """Write masks, by the names of their label images, and the ids in them; `name` is that of the image.

    It is made in `scratch`, on the same disk, and has its name once all of it is on the device. Each worker holds one
    shard at a time; volumes have to be small when they are pickled for it.
    """
    from nd_synapse.files.multiscale import Labelled  # zarr is imported only where it is used

    made = scratch / LABELS
    image = Labelled(made, tuple(masks), labels.dtype, pyramid)
    with writing(root, LABELS):
        shutil.rmtree(made, ignore_errors=True)
        image.create(name)
        for path in made.rglob("zarr.json"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
    finest, *coarser = (image.shards(level) for level in range(len(pyramid.factors())))
    with BlockPool(workers) as pool:
        several = pool if workers > 1 and len(finest) > _FEW_SHARDS else None
        _each(partial(_write_finest, root=root, image=image, masks=masks, labels=labels), finest, root, several)
        for level, shards in enumerate(coarser, 1):
            _each(partial(_write_coarser, root=root, image=image, level=level), shards, root, several)
    with writing(root, LABELS):
        made.rename(root / LABELS)
    return root / LABELS


def _write_finest(shard: Box, *, root: Path, image: Labelled, masks: Mapping[str, Volume], labels: Volume) -> None:
    """Write a shard of the finest level."""
    with writing(root, LABELS):
        image.write_finest(shard, masks, labels)


def _write_coarser(shard: Box, *, root: Path, image: Labelled, level: int) -> None:
    """Write a shard of another level."""
    with writing(root, LABELS):
        image.write_coarser(level, shard)


def _each(write: Callable[[Box], None], shards: Iterable[Box], root: Path, pool: BlockPool | None) -> None:
    """Write shards here, or in the workers of a pool."""
    if pool is None:
        for shard in shards:
            write(shard)
        return
    for outcome in pool.run(write, Boxes(shards)):
        if isinstance(outcome, Failed):
            requested, found = f"writing shard {outcome.box} of {LABELS} in {root}", outcome.reason.removesuffix(".")
            if outcome.traceback:
                raise NDSynapseError(requested, found, "Please report this defect, with job.log") from InWorkerError(
                    outcome.traceback
                )
            remedy = "The same command goes on where it was; give it more memory, or fewer --cpus"
            raise LimitError(requested, found, remedy)
