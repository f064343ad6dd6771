"""The table of synapses, put together from what was found and measured in each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of
from nd_synapse.detection import features, objects
from nd_synapse.detection.choice import choose
from nd_synapse.detection.confidence import CONFIDENCE, Chance
from nd_synapse.detection.density import Counts
from nd_synapse.detection.flags import BRIGHT_EVERYWHERE, bright_everywhere
from nd_synapse.detection.gathering import Synapses
from nd_synapse.detection.joining import ColumnFiles
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.numbering import Numbered
from nd_synapse.detection.outcome import Brightness
from nd_synapse.detection.tissue import Tissue
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Chosen, Finding

__all__ = ["TableMaker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMaker:
    """Makes the rows of blocks, from what is known of all of them."""

    workspace: Workspace
    kinds: Kinds
    finding: Finding
    numbered: Numbered
    brightness: Mapping[str, Brightness]
    tissue: Tissue
    chance: Chance | None
    """None where no fields were sampled."""

    def table(self, blocks: Sequence[Box]) -> tuple[ColumnFiles, Counts]:
        """Return the table of all blocks, a column at a time on disk, and its synapses as the density counts them."""
        store = self.workspace.store
        _, empty, counts = self._of_none(blocks[0])
        columns = {name: values.dtype for name, values in empty.items()}
        table = ColumnFiles.blank(store, f"table-{self.kinds.identity}", self.numbered.synapses, columns)
        for block in self.numbered.centres:
            rows, found, counted = self.rows(block)
            table.fill(rows, found)
            counts += counted
        return table, counts

    def masks(self, blocks: Sequence[Box]) -> list[str]:
        """Return the names of the masks; where no block has an object, those that the pipeline would give."""
        return list(self.numbered.masks or self._none(blocks[0]).chosen.masks)

    def rows(self, block: Box) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], Counts]:
        """Return the synapses that begin in a block: their places in the table, their columns, and their counts."""
        store, key = self.workspace.store, key_of(block)
        rows: NDArray[np.int64] = store.load(self.kinds.rows, key)["rows"]
        synapses = Synapses.of(store.load(self.kinds.objects, key))
        return self._made(rows, synapses, store.load(self.kinds.features, key))

    def _none(self, block: Box) -> Synapses:
        """Return no synapses."""
        plan = self.workspace.plan
        saved = self.workspace.store.load(self.kinds.parts, key_of(block))
        sums = {name: values[:0] for name, values in saved.items()}
        masks = {name: np.zeros(0, np.bool_) for name in self.numbered.masks}
        if masks:
            return Synapses(sums, Chosen(masks, self.numbered.columns))
        # no block has an object, and none says what the pipeline would return
        return Synapses(
            sums, choose(plan.pipeline, dict(objects.table(sums, plan.box, plan.voxel_size_nm)), self.finding)
        )

    def _of_none(self, block: Box) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], Counts]:
        """Return what `rows` returns of a block without any."""
        plan, none = self.workspace.plan, np.zeros(0, np.int64)
        synapses = self._none(block)
        names = [*features.COUNTS, *(name for channel in plan.channels for name in features.sums_of(channel))]
        return self._made(none, synapses, dict(features.columns(plan, synapses.sums, none, dict.fromkeys(names, none))))

    def _made(
        self, rows: NDArray[np.int64], synapses: Synapses, measured: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], Counts]:
        """Return the rows of some synapses."""
        plan = self.workspace.plan
        chosen, sums = synapses.chosen, synapses.sums
        bright = self._bright(sums)
        flags = {} if bright is None else {BRIGHT_EVERYWHERE: bright}
        columns = {name: np.asarray(v).astype(self._type(name, v), copy=False) for name, v in chosen.columns.items()}
        if self.chance is not None and plan.pipeline.null and "score" in columns:
            columns[CONFIDENCE] = self.chance.confidence(columns["score"])
        every = dict(objects.table(sums, plan.box, plan.voxel_size_nm))
        table = dict(objects.table_of(every, Chosen(chosen.masks, columns), {**measured, **flags}.items()))
        return rows, table | {"id": rows + 1}, Counts.of(sums, self.tissue, plan.box, bright)

    def _type(self, name: str, values: Any) -> np.dtype[Any]:
        """Return the type of a column of the pipeline in the table."""
        known = self.numbered.columns.get(name)
        return np.asarray(values).dtype if known is None else known.dtype

    def _bright(self, sums: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_] | None:
        """Return which synapses are bright in every measured channel."""

        def mean_in(channel: str) -> NDArray[np.float64]:
            means: NDArray[np.float64] = sums[f"intensity:{channel}"] / sums["voxels"]
            return means

        return bright_everywhere(
            self.workspace.plan.channels, mean_in, self.brightness, self.workspace.plan.roles.values()
        )
