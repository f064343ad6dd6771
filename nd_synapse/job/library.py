"""Synapses in arrays in memory, in one call: `nd_synapse.detect`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isroutine
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import UsageError, called
from nd_synapse.geometry import voxel_size_of
from nd_synapse.job.digits import rounded
from nd_synapse.machine import available_cores
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline

__all__ = ["Result", "detect"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result:
    """What was found in some arrays."""

    mask: NDArray[np.uint8]
    """255 where a synapse is, 0 elsewhere, shape (z, y, x)."""
    labels: NDArray[np.uint32]
    """The number of the synapse that a voxel belongs to, as in the table's ``id``, shape (z, y, x); 0 elsewhere."""
    table: dict[str, NDArray[Any]]
    """Columns of one row a synapse, each of shape (n,): those of ``synapses.csv``."""
    masks: dict[str, NDArray[np.uint8]]
    """All masks by name, such as one a class, each of shape (z, y, x); `mask` is the first."""
    per_um3: float | None
    """Synapses per cubic micrometre of tissue, by the counting brick; None without tissue."""
    interval_per_um3: tuple[float, float] | None
    """95 % confidence interval of the density; None where the volume is too small for one."""
    finding: dict[str, Any]
    """What the pipeline learned of the images, such as the ``strictness`` that it found; as in ``run.json``."""
    share_by_chance: float | None
    """Share of the rows that is expected by chance, 0 to 1; None where it is not known."""

    def __repr__(self) -> str:
        """Return a line, for the arrays would fill a thousand."""
        return f"<Result: {len(self.table['id']):,} synapses in {self.mask.shape} voxels (z, y, x)>"


@called(param="parameters")
def detect(
    images: Mapping[str, NDArray[Any]],
    voxel_size_nm: Sequence[float],
    pipeline: str | Pipeline | Callable[[dict[str, NDArray[Any]]], Any] = registry.DEFAULT_PIPELINE,
    *,
    parameters: Mapping[str, object] | None = None,
    channels: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> Result:
    """Find the synapses in images that lie in memory; the same as a job finds in the same voxels.

    Parameters
    ----------
    images : mapping of str to ndarray of uint8 or uint16
        Name of a channel, such as that of its marker, to its voxels, shape (z, y, x).
    voxel_size_nm : sequence of float
        Size of a voxel along z, y, x in nanometres.
    pipeline : str, Pipeline or function
        A name, as in ``nd-synapse pipelines``; a pipeline of your own; or a function of a module, or its
        ``package.module:function``.
    parameters : mapping of str to object, optional
        Parameters of a pipeline that is given by its name, such as ``{"strictness": 2}``.
    channels : mapping of str to str, optional
        Role to the name of a channel, such as ``{"presynaptic": "VGlut1"}``, where the names do not decide.
    threads : int, optional
        By default as many as there are cores.

    Returns
    -------
    Result
        Mask, labels, table and density; ``pandas.DataFrame(found.table)`` gives a data frame.

    Raises
    ------
    NDSynapseError
        If the images or the arguments cannot be used.
    """
    if isroutine(pipeline):
        pipeline = f"{pipeline.__module__}:{pipeline.__qualname__}"
    if isinstance(pipeline, str):
        pipeline = registry.build(pipeline, {name: str(value) for name, value in (parameters or {}).items()})
    elif parameters:
        raise UsageError("parameters", "the pipeline is built already", "Leave them out, or give its name")
    registry.check(pipeline)
    if not isinstance(images, Mapping) or not images:
        what = "there are none" if isinstance(images, Mapping) else f"they are of the type {type(images).__name__}"
        raise UsageError("images", what, "Give a dictionary of channel to array (z, y, x)")
    built, sizes_nm = cast("Pipeline", pipeline), voxel_size_of(voxel_size_nm)
    found = detect_arrays(built, images, sizes_nm, chosen=channels, threads=threads or available_cores(), sampled=True)
    density = found.density
    return Result(
        next(iter(found.masks.values())),
        np.asarray(found.labels, np.uint32),
        {name: rounded(name, values) for name, values in found.table.items()},
        found.masks,
        density.brick.per_um3,
        density.interval,
        dict(found.finding),
        None if found.chance.reason else found.chance.share,
    )
