"""What a pipeline is: roles, parameters, and pure functions from arrays to candidate voxels and chosen objects.

It holds no pipeline and runs none; `detection` does, block by block, and `pipelines` lists them.

How a pipeline is run, over blocks that tile the requested volume::

    summary = sum of pipeline.summarise(block)      every block, integers only, so any order gives the same bytes
    finding = pipeline.learn(summary)               once
    voxels  = pipeline.detect(block, finding)       every block
    masks   = pipeline.select(objects, finding)     once, on the objects joined across blocks

The arrays of a block carry a complete halo on every side. Inside the volume it holds the neighbouring voxels; beyond
the border of the requested volume the volume is mirrored (``d c b a | a b c d | d c b a``), whatever the block.
A pipeline therefore never sees where a block ends, and its result cannot depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from errors import UsageError, closest

__all__ = ["Finding", "Objects", "Parameter", "Pipeline", "Role", "Summary", "parse_parameters"]

Summary = dict[str, NDArray[np.int64]]
"""Named integer counts of a block, 1-D; two are merged by adding, the shorter padded with zeros."""

Finding = dict[str, Any]
"""What the whole volume taught: plain numbers and strings that go to run.json, and to every block."""

Objects = Mapping[str, NDArray[Any]]
"""Columns of equal length, one row an object: at least `voxels` (int64) and `volume_um3` (float64)."""


@dataclass(frozen=True, slots=True)
class Role:
    """A part that a channel plays in a pipeline.

    Parameters
    ----------
    name : str
        Name of the role, as in ``--channels presynaptic=SYNAPSIN``.
    markers : tuple of str
        Lower-case parts of channel names that mark the role, the most wanted first.
    help : str
        One line for the user.
    """

    name: str
    markers: tuple[str, ...]
    help: str


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
    minimum : float or None
        The smallest number allowed.
    """

    name: str
    default: int | float | str
    unit: str
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None

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
        asked = f"parameter {self.name}={text}"
        if isinstance(self.default, str):
            if self.choices and text not in self.choices:
                known = ", ".join(closest(text, self.choices))
                raise UsageError(asked, f"the choices are {known}", "Take one of them")
            return text
        kind = type(self.default)
        try:
            value = kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise UsageError(asked, f"that is not {wanted}", f"The default is {self.default}") from None
        if not np.isfinite(value) or (self.minimum is not None and value < self.minimum):
            raise UsageError(asked, f"the smallest value is {self.minimum}", f"The default is {self.default}")
        return value


class Pipeline(Protocol):
    """A detector of synapses, with its parameters set: immutable, picklable, free of files and network."""

    name: ClassVar[str]
    help: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]]
    parameters: ClassVar[tuple[Parameter, ...]]
    masks: ClassVar[tuple[str, ...]]
    """Names of the masks that `select` returns; the first holds every synapse."""

    @property
    def settings(self) -> Mapping[str, int | float | str]:
        """Every parameter with its value."""

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) beyond a block on each side that its result depends on."""

    @property
    def working_bytes(self) -> int:
        """Memory that `summarise` or `detect` take beside their input, in bytes a voxel of it (halo included)."""

    def summarise(self, arrays: Mapping[str, NDArray[Any]]) -> Summary:
        """Count what is needed of one block.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Role to voxels (z, y, x), uint8 or uint16, read-only, the block with its halo.

        Returns
        -------
        Summary
            Integer counts over the block without its halo.
        """

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

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding) -> NDArray[np.bool_]:
        """Mark the voxels of one block that may belong to a synapse.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As for `summarise`.
        finding : Finding
            From `learn`.

        Returns
        -------
        ndarray of bool
            Shape (z, y, x) of the block without its halo.
        """

    def select(self, objects: Objects, finding: Finding) -> dict[str, NDArray[np.bool_]]:
        """Choose the objects of each mask.

        Parameters
        ----------
        objects : Objects
            The 26-connected components of the detected voxels over the whole volume.
        finding : Finding
            From `learn`.

        Returns
        -------
        dict of str to ndarray of bool
            For each of `masks`, which objects it holds.
        """


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
