"""The facts of a run that the report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nd_synapse.detection.confidence import Chance
from nd_synapse.detection.density import Density
from nd_synapse.detection.registration import Registration
from nd_synapse.detection.tissue import Tissue
from nd_synapse.errors import UsageError
from nd_synapse.geometry import VOXEL_SIZES, Box, are_voxel_sizes
from nd_synapse.redaction import redacted_values

__all__ = ["RunFacts"]

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What was run, on what, and with which outcome; every part may be left out."""

    requested: Texts = field(default_factory=dict)
    """Label to text, in the order of the page."""
    box: Box | None = None
    """The box of voxels that was searched."""
    voxel_size_nm: tuple[float, float, float] | None = None
    """Extent of a voxel along z, y, x in nanometres."""
    tissue: Tissue | None = None
    density: Density | None = None
    pipeline: str = ""
    roles: Texts = field(default_factory=dict)
    """Role to the channel that was searched."""
    parameters: Texts = field(default_factory=dict)
    finding: Texts = field(default_factory=dict)
    """What the pipeline learned from the volume, such as thresholds."""
    times_s: Mapping[str, float] = field(default_factory=dict)
    """Step to its duration in seconds."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Such as blocks done and failed."""
    chance: Chance = field(default_factory=Chance)
    """How many detections are expected by chance."""
    versions: Texts = field(default_factory=dict)
    links: Texts = field(default_factory=dict)
    """Label to address; only http and https become links on the page."""
    notes: Sequence[str] = ()
    """Sentences shown first among the checks."""
    tracebacks: Texts = field(default_factory=dict)
    """Failed block to the pipeline's traceback."""
    registration: Registration | None = None
    table_file: str = ""
    """Name of the table beside the page; empty where there is none."""
    mask_files: Sequence[str] = ()
    """What lies beside the page with the masks: their TIFF files, or the OME-Zarr of a large volume."""
    synthetic: bool = False
    """The data were generated; the page says so under its title."""

    def __post_init__(self) -> None:
        """Remove secrets from all texts; check the voxel size."""
        for name in ("requested", "roles", "parameters", "finding", "links", "notes", "tracebacks"):
            object.__setattr__(self, name, redacted_values(getattr(self, name)))
        try:
            valid = self.voxel_size_nm is None or are_voxel_sizes(self.voxel_size_nm)
        except TypeError:
            valid = False
        if not valid:
            found = "no voxel has such a size"
            raise UsageError(f"voxel size {self.voxel_size_nm!r:.100}", found, f"Give {VOXEL_SIZES} along z, y, x")

    @property
    def origin(self) -> tuple[int, int, int]:
        """First voxel of the box (z, y, x); zeros without a box."""
        return (0, 0, 0) if self.box is None else self.box.start

    @property
    def volume_um3(self) -> float | None:
        """Volume of the box in cubic micrometres, None where box or voxel size is unknown."""
        if self.box is None or self.voxel_size_nm is None:
            return None
        z, y, x = self.voxel_size_nm
        return self.box.voxels * (z * y * x) * 1e-9

    def step(self, axis: str, unit: str) -> float | None:
        """Return the extent of one voxel along an axis in ``voxels`` or ``µm``, None where it is unknown."""
        if unit == "voxels":
            return 1.0
        return None if self.voxel_size_nm is None else self.voxel_size_nm["zyx".index(axis)] / 1000

    def extent(self, axis: str, unit: str) -> tuple[float, float] | None:
        """Return where the box starts and ends along an axis, None where it is unknown; voxel i spans i ± 0.5."""
        step = self.step(axis, unit)
        if self.box is None or step is None:
            return None
        start, stop = self.box.ranges["zyx".index(axis)]
        return ((start - 0.5) * step, (stop - 0.5) * step)
