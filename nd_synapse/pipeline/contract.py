"""What a pipeline is: roles, parameters, and pure functions from arrays to candidate voxels and chosen objects.

How a pipeline is run, over blocks that tile the requested volume::

    roles    = pipeline.choose(channels)                   once: which channel plays which role
    summary  = sum of pipeline.summarise(block, place)     every block, integers only, so any order gives the same bytes
    finding  = pipeline.learn(summary)                     once
    detected = pipeline.detect(block, finding, place)      every block
    chosen   = pipeline.select(objects, finding)           the objects that begin in a block, joined across blocks

The arrays of a block carry a complete halo on every side. Inside the volume it holds the neighbouring voxels; beyond
the border of the requested volume the volume is mirrored (``d c b a | a b c d | d c b a``), for any block.
A pipeline does not need to know where a block ends, and its result must not depend on it; `Place` is for definitions
that refer to a whole slice, or to the border of the volume.

Objects are the 26-connected components of all detected voxels. `Pipeline` has a method for each step; all but `detect`
have a default, so the smallest pipeline is a class with a name, a role and that one method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.pipeline.parameters import Parameter, check_parameters
from nd_synapse.pipeline.roles import Role, find_channels

__all__ = [
    "Chosen",
    "Detected",
    "Finding",
    "Null",
    "Objects",
    "Parameter",
    "Pipeline",
    "Place",
    "Summary",
    "check_parameters",
]

Summary = dict[str, NDArray[np.int64]]
"""Named integer counts of a block, 1-D; two are merged by adding, the shorter padded with zeros."""

Finding = dict[str, Any]
"""What was learned from the whole volume: plain numbers and strings, for run.json and every block."""

Objects = Mapping[str, NDArray[Any]]
"""Columns of equal length, one row an object: those of the table (`detection.objects.table`), such as `voxels` (int64)
and `volume_um3` (float64), and for the result of `detect`: `voxels_<set>` (int64: the object's voxels in that set),
`max_<evidence>` and `sum_<evidence>` (int64)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block lies in the requested volume.

    Parameters
    ----------
    start : tuple of int
        First voxel (z, y, x) of the block, halo not counted, from the first voxel of the requested volume.
    shape : tuple of int
        Extent (z, y, x) of the block without its halo.
    volume : tuple of int
        Extent (z, y, x) of the requested volume.
    voxel_size_nm : tuple of float
        Size of a voxel along z, y, x.
    tissue : ndarray of bool or None
        Which voxels are tissue, of the shape of the arrays, halo and mirrored voxels included; None where all are. In
        `Pipeline.summarise` False are voxels that may be padding, in `Pipeline.detect` the padding: constant areas
        that begin at a border of a section. What is detected outside of tissue does not count.
    """

    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    volume: tuple[int, int, int]
    voxel_size_nm: tuple[float, float, float]
    tissue: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Detected:
    """What a pipeline found in one block.

    Parameters
    ----------
    sets : mapping of str to ndarray of bool
        Voxels that may belong to a synapse, by name, each of the shape (z, y, x) of the block without its halo. Objects
        are components of their union. A mask that is named as a set holds of its objects the voxels of that set only;
        another one holds its objects whole.
    evidence : mapping of str to ndarray of unsigned integers
        Measured in the objects, same shape: `Objects` has its maximum and its sum.
    """

    sets: Mapping[str, NDArray[np.bool_]]
    evidence: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which objects a pipeline chose.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool
        For each mask that can be made (`Pipeline.masks_of`), which objects it holds.
    columns : mapping of str to ndarray
        Further columns of the table, a value for every object: numbers, or strings such as a class.
    """

    masks: Mapping[str, NDArray[np.bool_]]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Null:
    """How data are made in which a pipeline can detect by chance alone.

    Parameters
    ----------
    shifted : tuple of str
        Roles whose channels are shifted against those of the others, such as all pre-synaptic ones. Empty for a
        pipeline of one marker: each grey value is subtracted from the largest, so that dark spots become bright ones.
    """

    shifted: tuple[str, ...] = ()


class Pipeline(Protocol):
    """A detector of synapses, with its parameters set: immutable, picklable, free of files and network.

    Its methods are pure and may run in several threads at once.

    A parameter ``strictness`` is a promise: the table has a column ``score`` (`Chosen.columns`), and what is found at a
    strictness s are the objects of any lower one whose score is at least s. So ``nd-synapse evaluate`` and marks on the
    report's page advise a strictness. Objects that are cut at the strictness merge at a lower one, and break it: let
    `detect` cut them at a level of their own, and `select` choose by the score.
    """

    parameters: ClassVar[tuple[Parameter, ...]] = ()
    tissue_only: ClassVar[bool] = True
    """Whether padding is left out of statistics and detections; False for a method that is to stay as published."""

    @property
    def name(self) -> str:
        """Name of the pipeline: letters, digits, ``-`` and ``_``."""

    @property
    def help(self) -> str:
        """One line for the user."""
        return ""

    @property
    def roles(self) -> tuple[Role, ...]:
        """Parts that channels play; they may depend on the parameters."""
        return ()

    @property
    def masks(self) -> tuple[str, ...]:
        """Names of the masks that `select` can return; the first holds every synapse."""
        return ("All",)

    def masks_of(self, roles: Mapping[str, str]) -> tuple[str, ...]:
        """Return which of the masks can be made of the channels that were chosen, in their order.

        Parameters
        ----------
        roles : mapping of str to str
            Role to channel, from `choose`.

        Returns
        -------
        tuple of str
            Names of the masks that `select` returns; the first of `masks` among them.
        """
        del roles
        return self.masks

    @property
    def settings(self) -> Mapping[str, int | float | str]:
        """Every parameter with its value."""
        return {parameter.name: getattr(self, parameter.name) for parameter in self.parameters}

    @property
    def working_bytes(self) -> int:
        """Memory of `summarise` and `detect` beside their input, in bytes a voxel of it (halo included).

        Some 12 MiB that do not grow with the block, such as tables, are not part of it: every worker has room for them.
        """
        return 16

    @property
    def null(self) -> Null | None:
        """How chance would make its detections; None where that is not known, and the run has no figure of it."""
        return None

    @property
    def raises_strictness(self) -> bool:
        """Whether the ``strictness`` of `learn` is raised for `select` to the score with the largest expected F1.

        That follows from what chance makes (`null`); it stays where that is not known. `learn` has to return one.
        """
        return False

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return how far the result of a block reaches beyond it.

        Parameters
        ----------
        voxel_size_nm : tuple of float
            Size of a voxel along z, y, x.

        Returns
        -------
        tuple of int
            Voxels (z, y, x) on each side.
        """
        del voxel_size_nm
        return (0, 0, 0)

    def choose(self, channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
        """Decide which channel plays which role.

        Parameters
        ----------
        channels : sequence of str
            Names of the experiment's image channels.
        chosen : mapping of str to str
            Role to channel, as given by the user.

        Returns
        -------
        dict of str to str
            Role to channel.

        Raises
        ------
        UsageError, DataError
            As `roles.find_channels`; or if markers are missing that the pipeline needs.
        """
        return find_channels(self.roles, channels, chosen)

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        """Count what is needed of one block.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Role to voxels (z, y, x), uint8 or uint16, read-only, the block with its halo.
        place : Place
            Where the block lies.

        Returns
        -------
        Summary
            Integer counts over the block without its halo; empty where nothing is counted.
        """
        del arrays, place
        return {}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        """Compute from the counts of the whole volume what detection needs.

        Parameters
        ----------
        summary : Summary
            Counts of all blocks, added.
        channels : mapping of str to str
            Role to channel name, for messages.

        Returns
        -------
        Finding
            Plain numbers.

        Raises
        ------
        DataError
            If nothing can be detected in such data, such as in a constant channel.
        """
        del summary, channels
        return {}

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Mark the voxels of one block that may belong to a synapse.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As for `summarise`.
        finding : Finding
            From `learn`.
        place : Place
            Where the block lies.

        Returns
        -------
        Detected
            Sets of voxels, and evidence to measure in the objects.
        """

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Choose the objects of each mask, each by itself: which others it is given with follows from the blocks.

        Parameters
        ----------
        objects : Objects
            Some of the 26-connected components of the detected voxels of the whole volume, each whole.
        finding : Finding
            From `learn`.

        Returns
        -------
        Chosen
            The objects of each mask, and further columns of the table.
        """
        del finding
        missing = [name for name in self.masks if f"voxels_{name}" not in objects]
        if missing:
            raise DataError(
                f"mask {missing[0]!r} of {self.name}",
                "detect returns no set of that name",
                "Name a set after each mask, or choose the objects in select",
            )
        return Chosen({name: objects[f"voxels_{name}"] > 0 for name in self.masks})

    def scores(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
    ) -> dict[str, NDArray[np.float32]]:
        """Grade every voxel of one block.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As for `summarise`.
        finding : Finding
            From `learn`.
        place : Place
            Where the block lies.

        Returns
        -------
        dict of str to ndarray of float32
            Mask to score, shape (z, y, x) of the block without its halo, finite, the higher the more a synapse; empty
            where the pipeline has none.
        """
        del arrays, finding, place
        return {}
