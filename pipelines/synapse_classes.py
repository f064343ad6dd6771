"""The classes of synapses that `nomads_classifier` knows, each by the markers of its two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ANY", "CLASSES", "GABA", "GLUT", "Groups", "SynapseClass", "made", "present"]

ANY = "synapsin"
"""The marker of any pre-synaptic side."""

Groups = tuple[tuple[str, ...], ...]
"""Markers that are averaged; those of a group are alternatives."""


@dataclass(frozen=True, slots=True)
class SynapseClass:
    """A class of synapses."""

    name: str
    pre: Groups
    post: Groups
    graded: Groups
    """What voxels are graded by: synapsin tells excitatory terminals as well, since most terminals are."""

    def parties(self, there: Sequence[str]) -> list[Groups]:
        """Return the parties that have markers; empty where the class cannot be detected."""
        found = [present(groups, there) for groups in (((ANY,),), self.pre, self.post)]
        parties = [groups for groups in found if groups]
        return parties if len(parties) > 1 else []

    def sides(self, there: Sequence[str]) -> list[Groups]:
        """Return the markers of both sides that are there, synapsin among those of the pre-synaptic one."""
        sides = (present(groups, there) for groups in (((ANY,), *self.pre), self.post))
        return [side for side in sides if side]

    def lacks(self) -> str:
        """Return what the class needs, in words."""
        sides = (" or ".join(marker for group in groups for marker in group) for groups in (self.pre, self.post))
        return f"{self.name} needs two of {ANY}, {', '.join(sides)}"


_PRE, _POST = (("vglut1", "vglut2"),), (("psd95",), ("glun1",))
GLUT = SynapseClass("Glut", _PRE, _POST, ((ANY,), *_PRE, *_POST))
GABA = SynapseClass(
    "Gaba", (("gaba",), ("gad",), ("vgat",)), (("gephyrin",),), (("gaba",), ("gad",), ("vgat",), ("gephyrin",))
)
CLASSES = (GABA, GLUT)


def present(groups: Groups, there: Sequence[str]) -> Groups:
    """Return the groups with those of their markers that are there."""
    found = (tuple(marker for marker in group if marker in there) for group in groups)
    return tuple(group for group in found if group)


def made(there: Sequence[str]) -> list[SynapseClass]:
    """Return the classes that can be detected."""
    return [one for one in CLASSES if one.parties(there)]
