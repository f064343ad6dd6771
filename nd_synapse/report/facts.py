"""The facts of a run, as the report tells them.

It is not the record on disk: whoever ran the job writes that, and hands over here what a reader should see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box

__all__ = ["RunFacts"]

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What was run, on what, and with which outcome; every part may be left out.

    Parameters
    ----------
    asked : mapping of str to str
        What was asked for, label to text, in the order of the page. Never a token.
    box : Box, optional
        The box of voxels that was searched.
    voxel_size_nm : tuple of float, optional
        Extent of a voxel along z, y, x in nanometres, each above 0.
    pipeline : str
        Name of the detection.
    parameters : mapping of str to str
        Its parameters.
    times_s : mapping of str to float
        Step to its duration in seconds.
    counts : mapping of str to int
        What was counted, such as blocks done and failed.
    versions : mapping of str to str
        Software to version.
    links : mapping of str to str
        Label to address; only http and https become links on the page.
    notes : sequence of str
        Sentences that a reader must not miss; they stand among the alerts.
    tracebacks : mapping of str to str
        Where a block failed in a pipeline, and the pipeline's traceback.
    synthetic : bool
        The data were generated; the page says so under its title.

    Raises
    ------
    UsageError
        If a voxel size is not above 0, or there are not three of them.
    """

    requested: Texts = field(default_factory=dict)
    box: Box | None = None
    voxel_size_nm: tuple[float, float, float] | None = None
    pipeline: str = ""
    parameters: Texts = field(default_factory=dict)
    times_s: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    versions: Texts = field(default_factory=dict)
    links: Texts = field(default_factory=dict)
    notes: Sequence[str] = ()
    tracebacks: Texts = field(default_factory=dict)
    synthetic: bool = False

    def __post_init__(self) -> None:
        """Refuse a voxel that has no extent."""
        size = self.voxel_size_nm
        if size is not None and (len(size) != 3 or not all(0 < extent < float("inf") for extent in size)):
            raise UsageError(f"voxel size {size!r} nm", "it is not three lengths above 0", "Give it as z, y, x")

    @property
    def volume_um3(self) -> float | None:
        """Volume of the box in cubic micrometres, None where box or voxel size is unknown."""
        if self.box is None or self.voxel_size_nm is None:
            return None
        z, y, x = self.voxel_size_nm
        return self.box.voxels * (z * y * x) * 1e-9

    def step(self, axis: str, unit: str) -> float | None:
        """Return the extent of one voxel along an axis."""
        if unit == "voxels":
            return 1.0
        return None if self.voxel_size_nm is None else self.voxel_size_nm["zyx".index(axis)] / 1000

    def extent(self, axis: str, unit: str) -> tuple[float, float] | None:
        """Return where the box begins and ends along `axis`, None where it is unknown."""
        step = self.step(axis, unit)
        if self.box is None or step is None:
            return None
        start, stop = self.box.ranges["zyx".index(axis)]
        return ((start - 0.5) * step, (stop - 0.5) * step)
