"""The names under which the passes after the detection keep what they make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from nd_synapse.blocks.grid import key_of
from nd_synapse.detection.windows import Reach
from nd_synapse.geometry import Box

__all__ = ["AFTER_PARTS", "Kinds"]

AFTER_PARTS = (
    "contacts",
    "joined",
    "chance",
    "chosen",
    "objects",
    "rows",
    "features",
    "numbers",
    "masks",
    "overviews-masks",
)
"""What these names begin with."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """The names of one detection: other parts, or other blocks that failed, other names."""

    parts: str
    """Measured parts, by the pass before."""
    identity: str
    """The same, and of which blocks failed: differs wherever masks or labels may differ."""
    reach: Reach
    """Of the windows in which features are measured."""
    part: str = ""
    """Of a part of a run that knows no more than its own blocks: rows, and what has them, get other names."""

    @classmethod
    def of(cls, parts: str, failed: Iterable[Box], reach: Reach) -> Kinds:
        """Return the names, given that of the parts, the blocks that have none, and the reach of windows."""
        keys = ",".join(sorted(map(key_of, failed)))
        return cls(parts, f"{parts}-{hashlib.sha256(keys.encode()).hexdigest()[:8]}" if keys else parts, reach)

    @property
    def faces(self) -> str:
        """The six outermost planes of a block, as ids of parts."""
        return f"faces-{self.parts}"

    @property
    def labels(self) -> str:
        """Which part each voxel belongs to."""
        return f"labels-{self.parts}"

    @property
    def contacts(self) -> str:
        """Parts that touch across blocks."""
        return f"contacts-{self.identity}"

    @property
    def joined(self) -> str:
        """What of a block belongs to objects that begin in another one, and the other way round."""
        return f"joined-{self.identity}"

    @property
    def chosen(self) -> str:
        """The chosen objects that begin in a block."""
        return f"chosen-{self.identity}"

    @property
    def objects(self) -> str:
        """Their columns."""
        return f"objects-{self.identity}"

    @property
    def rows(self) -> str:
        """Their rows in the table."""
        return f"rows-{self.identity}{self.part}"

    @property
    def features(self) -> str:
        """Their features."""
        return f"features-{self.identity}-{'-'.join(map(str, self.reach))}"

    @property
    def numbers(self) -> str:
        """The row of each part."""
        return f"numbers-{self.identity}{self.part}"

    @property
    def masks(self) -> str:
        """The masks, each with its name behind."""
        return f"masks-{self.identity}{self.part}"

    @property
    def overviews(self) -> str:
        """Projections of the masks; with them a block is finished."""
        return f"overviews-{self.masks}"
