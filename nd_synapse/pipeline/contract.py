"""What a pipeline is: roles, parameters, and pure functions from arrays to candidate voxels and chosen objects.

It holds no pipeline and runs none; `detection` does, block by block or in memory, and `pipelines` lists them.

How a pipeline is run, over blocks that tile the requested volume::

    roles    = pipeline.choose(channels)                   once: which channel plays which role
    summary  = sum of pipeline.summarise(block, place)     every block, integers only, so any order gives the same bytes
    finding  = pipeline.learn(summary)                     once
    detected = pipeline.detect(block, finding, place)      every block
    chosen   = pipeline.select(objects, finding)           once, on the objects joined across blocks

The arrays of a block carry a complete halo on every side. Inside the volume it holds the neighbouring voxels; beyond
the border of the requested volume the volume is mirrored (``d c b a | a b c d | d c b a``), whatever the block.
A pipeline therefore need not know where a block ends, and its result must not depend on it; `Place` is there for
definitions that speak of a slice as a whole, or of the border of the volume.

Objects are the 26-connected components of all detected voxels. `Pipeline` has a method for each step; all but `detect`
have a default, so that the smallest pipeline is a class with a name and that one method.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import UsageError, closest
from nd_synapse.pipeline.roles import Role, find_channels

__all__ = [
    "Chosen",
    "Detected",
    "Finding",
    "Objects",
    "Parameter",
    "Pipeline",
    "Place",
    "Summary",
    "check_parameters",
    "parse_parameters",
]

_LARGEST = sys.float_info.max

_NUMBER = re.compile(r"-?[0-9A-Za-z.]{1,400}([-+][0-9]{1,4})?")

Summary = dict[str, NDArray[np.int64]]
"""Named integer counts of a block, 1-D; two are merged by adding, the shorter padded with zeros."""

Finding = dict[str, Any]
"""What the whole volume taught: plain numbers and strings that go to run.json, and to every block."""

Objects = Mapping[str, NDArray[Any]]
"""Columns of equal length, one row an object: those of the table (`detection.objects.table`), such as `voxels` (int64)
and `volume_um3` (float64), and for what `detect` gave: `voxels_<set>` (int64: the object's voxels in that set),
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
    """

    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    volume: tuple[int, int, int]
    voxel_size_nm: tuple[float, float, float]


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
        What is to be measured in the objects, same shape: `Objects` has its maximum and its sum.
    """

    sets: Mapping[str, NDArray[np.bool_]]
    evidence: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a pipeline made of the objects.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool
        For each of the pipeline's masks, which objects it holds.
    columns : mapping of str to ndarray
        Further columns of the table, a value for every object: numbers, or strings such as a class.
    """

    masks: Mapping[str, NDArray[np.bool_]]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number or a choice that the user may set.

    Parameters
    ----------
    name : str
        Name, as in ``--param min_voxels=30``.
    default : int, float or str
        Value where none is given; its type is the parameter's type.
    unit : str
        Unit of the value, empty for choices and pure numbers.
    help : str
        One line for the user.
    choices : tuple of str
        The values allowed; empty where any value of the type is.
    minimum, maximum : float or None
        The smallest and the largest number allowed; whole numbers fit 63 bits in any case.
    shows : bool
        Whether the result may depend on it; False for what only says how to compute.
    """

    name: str
    default: int | float | str
    unit: str
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    shows: bool = True

    def parse(self, text: str) -> int | float | str:
        """Return the value that `text` means.

        Parameters
        ----------
        text : str
            What the user wrote.

        Returns
        -------
        int, float or str
            The value, of the type of `default`.

        Raises
        ------
        UsageError
            If it is of the wrong type, not among the choices, or too small.
        """
        if isinstance(self.default, str):
            return self.check(text)
        kind = type(self.default)
        try:
            # Python's own forms have blanks, underscores and the digits of other scripts in them, too
            value = kind(text) if _NUMBER.fullmatch(text) else text
        except ValueError:
            value = text
        return self.check(value, text)

    def check(self, value: Any, written: str | None = None) -> int | float | str:
        """Return a value, if it is one of this parameter.

        Parameters
        ----------
        value : Any
            What a program set, or `parse` read.
        written : str or None
            What the user wrote for it, for messages.

        Returns
        -------
        int, float or str
            The value, of the type of `default`.

        Raises
        ------
        UsageError
            If it is of the wrong type, not among the choices, or beyond the limits.
        """
        try:
            shown = str(value) if written is None else written
        except ValueError:  # Python does not write whole numbers of very many digits
            shown = "a number of very many digits"
        requested = f"parameter {self.name}={shown:.100}"
        if isinstance(self.default, str):
            if not isinstance(value, str):
                raise UsageError(requested, "that is no text", f"The default is {self.default}")
            if self.choices and value not in self.choices:
                known = ", ".join(closest(value, self.choices))
                raise UsageError(requested, f"the choices are {known}", "Take one of them")
            return value
        whole = isinstance(self.default, int)
        if not _is_number(value, whole):
            wanted = "a whole number" if whole else "a number"
            raise UsageError(requested, f"that is not {wanted}", f"The default is {self.default}")
        largest = 2**63 - 1 if self.maximum is None and whole else self.maximum
        if not -_LARGEST <= value <= _LARGEST:
            raise UsageError(requested, "that is not a number to compute with", f"The default is {self.default}")
        if self.minimum is not None and value < self.minimum:
            raise UsageError(requested, f"the smallest value is {self.minimum}", f"The default is {self.default}")
        if largest is not None and value > largest:
            raise UsageError(requested, f"the largest value is {largest}", f"The default is {self.default}")
        return int(value) if whole else float(value)


def _is_number(value: object, whole: bool) -> bool:
    """Tell whether a value is a number, and a whole one where that is needed."""
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)


class Pipeline(Protocol):
    """A detector of synapses, with its parameters set: immutable, picklable, free of files and network.

    Its methods are pure and may run in several threads at once.
    """

    parameters: ClassVar[tuple[Parameter, ...]] = ()

    @property
    def name(self) -> str:
        """Name of the pipeline: letters, digits, ``-`` and ``_``."""

    @property
    def help(self) -> str:
        """One line for the user."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """Parts that channels play; with other parameters they may be others."""
        return ()

    @property
    def masks(self) -> tuple[str, ...]:
        """Names of the masks that `select` returns; the first holds every synapse."""
        return ("All",)

    @property
    def settings(self) -> Mapping[str, int | float | str]:
        """Every parameter with its value."""
        return {parameter.name: getattr(self, parameter.name) for parameter in self.parameters}

    @property
    def working_bytes(self) -> int:
        """Memory that `summarise` or `detect` take beside their input, in bytes a voxel of it (halo included)."""
        return 16

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
            Role to channel, as the user gave it.

        Returns
        -------
        dict of str to str
            Role to channel.

        Raises
        ------
        UsageError, DataError
            As `channels.find_channels`; or if markers are missing that the pipeline cannot do without.
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
        """Draw from the counts of the whole volume what detection needs.

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
            Sets of voxels, and what is to be measured in the objects.
        """

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        """Choose the objects of each mask.

        Parameters
        ----------
        objects : Objects
            The 26-connected components of the detected voxels over the whole volume.
        finding : Finding
            From `learn`.

        Returns
        -------
        Chosen
            The objects of each mask, and further columns of the table.
        """
        del finding
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


def check_parameters(pipeline: Pipeline) -> None:
    """Refuse a pipeline that was constructed with values that its parameters cannot have, whoever did.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline.

    Raises
    ------
    UsageError
        If a value is of the wrong type, not among the choices, or beyond the limits.
    """
    for parameter in pipeline.parameters:
        parameter.check(getattr(pipeline, parameter.name))


def parse_parameters(declared: Sequence[Parameter], given: Mapping[str, str]) -> dict[str, int | float | str]:
    """Check what the user set against what a pipeline declares.

    Parameters
    ----------
    declared : sequence of Parameter
        The pipeline's parameters.
    given : mapping of str to str
        Name to text, as on the command line.

    Returns
    -------
    dict of str to int, float or str
        Every declared parameter with its value.

    Raises
    ------
    UsageError
        If a name is unknown or a value does not fit.
    """
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known:
            raise UsageError(
                f"parameter {name!r}",
                f"the pipeline has {', '.join(closest(name, known)) or 'no parameters'}",
                "Correct the name after --param",
            )
    return {
        name: parameter.parse(given[name]) if name in given else parameter.default for name, parameter in known.items()
    }
