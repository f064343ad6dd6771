"""What a function on one block works with: the plan, the store, the voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from nd_synapse.blocks.grid import mirrored
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.windows import Reach
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Place
from nd_synapse.volumes import Volume

__all__ = ["BlockFunction", "Worked", "Workspace", "run_in_worker", "set_up_worker"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where functions on blocks read voxels and keep what they make of them."""

    plan: Plan
    store: Store | MemoryStore
    images: Mapping[str, Volume]
    """Channel to its voxels in `region`."""
    region: Box

    @classmethod
    def on_disk(cls, plan: Plan) -> Workspace:
        """Return the workspace in the scratch folder, with the tiles that were pulled."""
        tiles = plan.tiles()
        return cls(plan, plan.store(), {name: tiles.channel(name) for name in tiles.channels}, tiles.volume)

    def voxels(self, channel: str, box: Box) -> NDArray[Any]:
        """Return the voxels of a box, shape (z, y, x)."""
        return self.images[channel][box.slices(self.region.start)]

    def with_halo(self, channel: str, box: Box, halo: Reach) -> NDArray[Any]:
        """Return the voxels of a block with a halo, mirrored beyond the volume, shape (z, y, x)."""
        # a region ends where the volume does, or beyond what is read
        inside = Box.of_shape(box.shape, tuple(b - v for b, v in zip(box.start, self.region.start, strict=True)))
        return mirrored(self.images[channel], inside, halo)

    def role_arrays(self, box: Box) -> dict[str, NDArray[Any]]:
        """Return the voxels of each role with the pipeline's halo, shape (z, y, x)."""
        return {role: self.with_halo(channel, box, self.plan.halo) for role, channel in self.plan.roles.items()}

    def place(self, box: Box) -> Place:
        """Return where a block lies, for the pipeline."""
        z, y, x = (b - v for b, v in zip(box.start, self.plan.box.start, strict=True))
        return Place((z, y, x), box.shape, self.plan.box.shape, self.plan.voxel_size_nm)


BlockFunction = Callable[[Workspace, Box], Any]
"""What runs on a block; what it makes is saved in the workspace before it returns."""


class Worked(NamedTuple):
    """What a worker sends of a block."""

    value: Any
    write_s: float


_plan: Plan | None = None


def set_up_worker(plan: Plan) -> None:
    """Keep the plan in this worker process."""
    global _plan
    _plan = plan


def run_in_worker(box: Box, function: BlockFunction) -> Worked:
    """Run a function on a block in this worker process."""
    if _plan is None:
        raise NDSynapseError("a block in a worker", "the worker has no plan", "Report this as a defect")
    workspace = Workspace.on_disk(_plan)
    value = function(workspace, box)
    return Worked(value, workspace.store.write_s)
