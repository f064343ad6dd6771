"""The masks and labels of a run as OME-Zarr: shards are written by worker processes where there are many."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nd_synapse.blocks.pool import BlockPool, Boxes, Failed, InWorkerError
from nd_synapse.errors import LimitError, NDSynapseError
from nd_synapse.files.atomic import writing
from nd_synapse.geometry import Box
from nd_synapse.limits import limit_of
from nd_synapse.progress import Progress, silent
from nd_synapse.volumes import Volume

if TYPE_CHECKING:
    from nd_synapse.files.multiscale import Labelled

__all__ = ["LABELS", "write_labels"]

LABELS = "synapses.ome.zarr"

_FEW_SHARDS = 32
"""Shards of the finest level that take no longer than starting workers does."""


def write_labels(
    root: Path,
    image: Labelled,
    name: str,
    masks: Mapping[str, Volume],
    labels: Volume,
    workers: int = 1,
    progress: Progress = silent,
) -> Path:
    """Write masks, by the names of their label images, and the ids in them; `name` is that of the image.

    It is made where `image` says, on the same disk, and has its name once all of it is on the device. Each worker holds
    one shard at a time; volumes have to be small when they are pickled for it.
    """
    with writing(root, LABELS):
        shutil.rmtree(image.folder, ignore_errors=True)
        image.create(name)
    levels = [image.shards(level) for level in range(len(image.pyramid.factors()))]
    done, total = 0, sum(map(len, levels))
    progress("labels", done, total)
    with BlockPool(workers) as pool:
        several = pool if workers > 1 and len(levels[0]) > _FEW_SHARDS else None
        for level, shards in enumerate(levels):
            write: Callable[[Box], None] = partial(_write_coarser, root=root, image=image, level=level)
            if level == 0:
                write = partial(_write_finest, root=root, image=image, masks=masks, labels=labels)
            for _ in _each(write, shards, root, several):
                done += 1
                progress("labels", done, total)
    with writing(root, LABELS):
        image.folder.rename(root / LABELS)
    return root / LABELS


def _write_finest(shard: Box, *, root: Path, image: Labelled, masks: Mapping[str, Volume], labels: Volume) -> None:
    """Write a shard of the finest level."""
    with _within_limits(root), writing(root, LABELS):
        image.write_finest(shard, masks, labels)


def _write_coarser(shard: Box, *, root: Path, image: Labelled, level: int) -> None:
    """Write a shard of another level."""
    with _within_limits(root), writing(root, LABELS):
        image.write_coarser(level, shard)


@contextmanager
def _within_limits(root: Path) -> Iterator[None]:
    """Name a limit of the machine, which a worker would report as the fault of its block."""
    try:
        yield
    except MemoryError as error:
        limit = limit_of(f"writing {LABELS} in {root}", error)
        assert limit is not None, "a MemoryError is one"
        raise limit from error


def _each(write: Callable[[Box], None], shards: Iterable[Box], root: Path, pool: BlockPool | None) -> Iterator[Box]:
    """Write shards here, or in the workers of a pool; yield each that is written."""
    if pool is None:
        for shard in shards:
            write(shard)
            yield shard
        return
    for outcome in pool.run(write, Boxes(shards)):
        if isinstance(outcome, Failed):
            requested, found = f"writing shard {outcome.box} of {LABELS} in {root}", outcome.reason.removesuffix(".")
            if outcome.traceback:
                raise NDSynapseError(requested, found, "Please report this defect, with job.log") from InWorkerError(
                    outcome.traceback
                )
            remedy = "The same command goes on where it was; if it lacks memory, give it more, or fewer --cpus"
            raise LimitError(requested, found, remedy)
        yield outcome.box
