"""The passes of a detection and their order, for blocks on disk and for arrays in memory alike.

::

    statistics  pipeline.summarise(block) -> added -> pipeline.learn
    detect      pipeline.detect(block) -> labels, parts of objects measured
    join        parts that touch across blocks become one object; pipeline.select chooses
    features    the windows round the chosen objects, each measured by the block that holds its centroid
    masks       the chosen objects, 0 and 255
    chance      the pipeline on sample fields, as they are and where nothing but chance can make a detection

What goes from one block to another is an integer, so neither the blocks nor their order show in the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.packing import digest
from nd_synapse.detection import blocks, chance, features, joining, objects
from nd_synapse.detection.choice import choose
from nd_synapse.detection.confidence import CONFIDENCE, Chance
from nd_synapse.detection.counted import Counted
from nd_synapse.detection.density import density
from nd_synapse.detection.failed_faces import Face, beside_failed, faces_at, lost_beside
from nd_synapse.detection.flags import BRIGHT_EVERYWHERE, bright_everywhere
from nd_synapse.detection.labels import labels_of
from nd_synapse.detection.outcome import Brightness, Detection
from nd_synapse.detection.overview import Overview
from nd_synapse.detection.resume import drop_damaged_masks
from nd_synapse.detection.runner import STATISTICS, Runner, Step
from nd_synapse.detection.tissue import Tissue
from nd_synapse.detection.windows import surroundings
from nd_synapse.detection.workspace import Workspace
from nd_synapse.errors import DataError, NDSynapseError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Chosen, Finding

__all__ = ["Learned", "Passes"]


@dataclass(frozen=True, slots=True)
class Learned:
    """What the statistics of all blocks gave; overviews and moments of the observed channels."""

    finding: Finding
    overviews: dict[str, NDArray[Any]]
    moments: dict[str, list[int]]
    """Channel to the number of voxels, their sum, and that of their squares."""


@dataclass(frozen=True, slots=True)
class _Masks:
    """The masks, their projections and their numbers of voxels, by name."""

    volumes: dict[str, BlockVolume]
    overviews: dict[str, NDArray[Any]]
    voxels: dict[str, int]


class Passes:
    """The passes of one detection; `observed` channels are projected and described, too."""

    def __init__(self, workspace: Workspace, runner: Runner, observed: Sequence[str] = ()) -> None:
        self.workspace = workspace
        self.plan = workspace.plan
        self.store = workspace.store
        self.runner = runner
        self.observed = tuple(observed)
        self.blocks = self.plan.blocks()

    def whole(self, some: Sequence[Box] | None = None) -> list[Box]:
        """Return those of some blocks, or of all, that did not fail."""
        failed = {failed_block.box for failed_block in self.runner.failed_blocks}
        return [block for block in (self.blocks if some is None else some) if block not in failed]

    def _some_whole(self) -> list[Box]:
        """Return the blocks that did not fail; refuse to go on with none."""
        whole = self.whole()
        if not whole:
            raise DataError(
                f"{self.plan.pipeline.name} on {self.plan.box}",
                f"it failed on every block, on the first with {self.runner.failed_blocks[0].reason.removesuffix('.')}",
                "Check the pipeline; job.log has the traceback",
            )
        return whole

    def count(self, some: Sequence[Box], wanted: bool = True) -> None:
        """Count blocks."""
        function = partial(blocks.summarise, observed=self.observed)
        step = Step(STATISTICS, (self.plan.statistics_kind(),), self.plan.counted_halo, wanted=wanted)
        self.runner.run(step, function, some)

    def total(self, some: Sequence[Box]) -> Counted:
        """Add up what was counted in some blocks."""
        total = Counted()
        for block in some:
            total.add(self.store.load(self.plan.statistics_kind(), key_of(block)))
        return total

    def learn(self) -> Learned:
        """Count all blocks, and let the pipeline learn from the sums."""
        self.count(self.blocks)
        total = Counted()
        overviews: dict[str, NDArray[Any]] = {}
        whole = self._some_whole()
        sums = {channel: [0, 0, 0] for channel in self.observed}
        for block in whole:
            arrays = self.store.load(self.plan.statistics_kind(), key_of(block))
            total.add(arrays)
            self._merge_overviews(overviews, block, arrays)
            for channel, moments in sums.items():
                # Python's integers are exact whatever the size of the box
                moments[:] = (a + b for a, b in zip(moments, arrays[f"moments {channel}"].tolist(), strict=True))
        return Learned(total.learn(self.workspace), overviews, sums)

    def _merge_overviews(
        self, overviews: dict[str, NDArray[Any]], block: Box, arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Put the projections of a block in their place, in place."""
        for name, pixels in arrays.items():
            if name.startswith("overview "):
                key = name.removeprefix("overview ")
                overviews[key] = Overview.at(pixels, block, self.plan.box).merged_into(overviews.get(key))

    def find(self, finding: Finding, some: Sequence[Box], wanted: bool = True) -> None:
        """Label and measure blocks."""
        kind = self.plan.parts_kind(finding)
        step = Step("detect", (f"labels-{kind}", f"faces-{kind}", kind), self.plan.halo, wanted=wanted)
        self.runner.run(step, partial(blocks.detect, finding=finding), some)

    def detect(self, learned: Learned, sampled: bool = True) -> Detection:
        """Do the passes that follow the statistics; that on `sampled` fields only if it is wanted."""
        plan, finding = self.plan, learned.finding
        self.find(finding, self.whole())
        failed = -1
        while failed < len(self.runner.failed_blocks):
            # a block that failed has no part in what is joined, so that the table has what the masks have
            failed = len(self.runner.failed_blocks)
            joined, joint = self.join(finding)
            every = self._columns(finding, "every", objects.table(joined, plan.box, plan.voxel_size_nm))
            chosen, measured = self.features(finding, joined, choose(plan.pipeline, every, finding))
            if failed == len(self.runner.failed_blocks):
                masks = self.write_masks(chosen.masks, joint, finding)
        first = next(iter(chosen.masks.values()))
        rows = np.flatnonzero(first)
        tissue, brightness = self._of_tissue(learned)
        bright = self._bright_everywhere(joined, rows, brightness)
        flags = [] if bright is None else [(BRIGHT_EVERYWHERE, bright)]
        by_chance = self.chance(finding) if sampled else Chance(reason="it was not asked for")
        if sampled and plan.pipeline.null and "score" in chosen.columns:
            confidence = by_chance.confidence(np.asarray(chosen.columns["score"]))
            chosen = Chosen(chosen.masks, {**chosen.columns, CONFIDENCE: confidence})
        table = self._columns(finding, "table", objects.table_of(every, chosen, chain(measured, flags)))
        _refuse_contradiction(self.workspace, table, masks.voxels)
        return Detection(
            masks=masks.volumes,
            labels=labels_of(
                plan, self.store, f"labels-{plan.parts_kind(finding)}", joint, first, frozenset(self.whole())
            ),
            table=table,
            brightness=brightness,
            overviews=learned.overviews,
            mask_overviews=masks.overviews,
            mask_voxels=masks.voxels,
            finding=finding,
            tissue=tissue,
            density=density(joined, rows, tissue, plan.box, plan.voxel_size_nm, bright),
            blocks=len(self.blocks),
            candidates=len(first),
            chance=by_chance,
        )

    def join(self, finding: Finding) -> tuple[Mapping[str, NDArray[Any]], objects.Joint]:
        """Join what touches across blocks; objects know which of the blocks beside them failed."""
        kind = self.plan.parts_kind(finding)
        whole = self._some_whole()
        function = partial(joining.touching, kind=kind)
        pairs = self.runner.results("join", function, whole if len(self.blocks) > 1 else [])
        columns, joint = joining.join_blocks(self.store, kind, whole, pairs)
        faces = self._faces_at_failed()
        return beside_failed(self.workspace, faces, joint, columns, kind) if faces else columns, joint

    def _faces_at_failed(self) -> dict[Box, list[Face]]:
        """Return the blocks that lie beside some that failed, with their faces there."""
        return faces_at({failed_block.box for failed_block in self.runner.failed_blocks}, self.plan)

    def features(
        self, finding: Finding, joined: Mapping[str, NDArray[Any]], chosen: Chosen
    ) -> tuple[Chosen, Iterable[tuple[str, NDArray[Any]]]]:
        """Measure the synapses; return those that could be, with their features.

        One whose centroid lies in a block that failed has no features, and no place in masks and table.
        """
        plan = self.plan
        first = next(iter(chosen.masks.values()))
        assigned = features.assign(plan, self.store, finding, joined, first)
        function = partial(features.measure, kind=assigned.kind, finding=finding)
        busy = assigned.among(self.whole(), plan)
        self.runner.run(Step("features", (assigned.kind,), surroundings(plan.reach)), function, busy)
        rows, sums = features.gather(plan, self.store, assigned, self.whole())
        is_measured = np.zeros(len(first), np.bool_)
        is_measured[rows] = True
        masks = {name: is_in & is_measured for name, is_in in chosen.masks.items()}
        return Chosen(masks, chosen.columns), features.columns(plan, joined, rows, sums)

    def _bright_everywhere(
        self, joined: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], brightness: Mapping[str, Brightness]
    ) -> NDArray[np.bool_] | None:
        """Return which synapses, some rows of the objects, are bright in every measured channel."""
        voxels = joined["voxels"][rows]

        def mean_in(channel: str) -> NDArray[np.float64]:
            means: NDArray[np.float64] = joined[f"intensity:{channel}"][rows] / voxels
            return means

        return bright_everywhere(self.plan.channels, mean_in, brightness, self.plan.roles.values())

    def _of_tissue(self, learned: Learned) -> tuple[Tissue, dict[str, Brightness]]:
        """Return the tissue of the blocks that did not fail, and the brightness of all that is not padding."""
        finding, whole = learned.finding, self.whole()
        tissue = Tissue.of_blocks(self.plan.box, whole)
        sums = {channel: list(moments) for channel, moments in learned.moments.items()}
        for failed_block in self.runner.failed_blocks:
            # one that failed after it was counted is in the moments
            if failed_block.step != STATISTICS:
                counted = self.store.load(self.plan.statistics_kind(), key_of(failed_block.box))
                for channel, moments in sums.items():
                    _subtract(moments, counted[f"moments {channel}"])
        beside = self._faces_at_failed()
        for block in whole if "padding" in finding else beside:
            faces = self.store.load(f"faces-{self.plan.parts_kind(finding)}", key_of(block))
            if block in beside:
                tissue.without(block, self.plan.box, lost_beside(self.workspace, block, beside[block], finding))
            elif blocks.PADDED in faces:
                tissue.without(block, self.plan.box, faces[blocks.PADDED])
            for channel, moments in sums.items() if blocks.PADDED in faces else []:
                _subtract(moments, faces[f"{blocks.PADDED} {channel}"])
        # where the rim of padding takes all there is nothing else to describe
        described = {channel: moments if moments[0] else learned.moments[channel] for channel, moments in sums.items()}
        return tissue, {channel: Brightness.of_sums(*moments) for channel, moments in described.items()}

    def chance(self, finding: Finding) -> Chance:
        """Detect in sample fields, and return how many detections are expected by chance."""
        sample = chance.sample_of(self.plan)
        if sample.reason:
            return Chance(reason=sample.reason)
        kind = f"chance-{self.plan.parts_kind(finding)}"
        failed = [failed_block.box for failed_block in self.runner.failed_blocks]
        fields = [field for field in sample.fields if not any(map(field.intersection, failed))]
        z, y, x = (a + b for a, b in zip(self.plan.halo, sample.reach, strict=True))
        step = Step("chance", (kind,), (z, y, x), shared=False, sampled=True)
        self.runner.run(step, partial(chance.measure, sample=sample, finding=finding, kind=kind), fields)
        done = [field for field in fields if self.store.has(kind, key_of(field))]
        if not done:
            return Chance(reason="the blocks of all sample fields failed")
        return Chance.of(sample, len(done), chance.gather(self.store, done, kind))

    def _columns(self, finding: Finding, name: str, columns: Iterable[tuple[str, NDArray[Any]]]) -> joining.ColumnFiles:
        """Keep a table in the store."""
        return joining.ColumnFiles(self.store, f"{name}-{self.plan.parts_kind(finding)}", columns)

    def write_masks(self, chosen: Mapping[str, NDArray[np.bool_]], joint: objects.Joint, finding: Finding) -> _Masks:
        """Write every mask."""
        parts_kind = self.plan.parts_kind(finding)
        lists = {"part_ids": joint.part_ids}
        lists |= {f"chosen_{name}": is_in[joint.object_rows] * blocks.FOUND for name, is_in in chosen.items()}
        # a block that failed once may change what is chosen in the blocks around it
        kind = f"masks-{parts_kind}-{digest(*lists.values())}"
        for name, values in lists.items():
            # an array of no elements cannot be mapped
            self.store.save_plain(kind, name, values if len(values) else np.zeros(1, values.dtype))
        volumes = {name: self._mask(f"{kind}-{name}") for name in chosen}
        drop_damaged_masks(self.store, f"overviews-{kind}", volumes, self.whole())
        described = bool(self.observed)
        function = partial(
            blocks.write_masks, names=tuple(chosen), parts_kind=parts_kind, masks_kind=kind, described=described
        )
        # masks are made again in less time than they are transferred
        self.runner.run(Step("masks", (f"overviews-{kind}",), shared=False), function, self.whole())
        overviews: dict[str, NDArray[Any]] = {}
        voxels = dict.fromkeys(chosen, 0)
        for block in self.whole():
            saved = self.store.load(f"overviews-{kind}", key_of(block))
            self._merge_overviews(overviews, block, saved)
            for name in chosen:
                voxels[name] += int(saved[f"voxels {name}"][0])
        return _Masks({name: self._mask(f"{kind}-{name}") for name in chosen}, overviews, voxels)

    def _mask(self, kind: str) -> BlockVolume:
        """Return the blocks of a mask as one volume, uint8; zeros where a block failed."""
        whole = frozenset(self.whole())

        def read(block: Box) -> NDArray[Any] | None:
            return self.store.open_plain(kind, key_of(block)) if block in whole else None

        return BlockVolume(read, self.plan.box, self.plan.block_size, np.uint8)


def _subtract(moments: list[int], lost: NDArray[np.int64]) -> None:
    """Take some moments from others, in place."""
    moments[:] = (a - b for a, b in zip(moments, lost.tolist(), strict=True))


def _refuse_contradiction(
    workspace: Workspace, table: Mapping[str, NDArray[Any]], mask_voxels: Mapping[str, int]
) -> None:
    """Refuse masks that do not hold the voxels of the table's objects."""
    for name, voxels in mask_voxels.items():
        column = table.get(f"voxels_{name}", table["voxels"])
        counted = int(column[table[f"in_{name}"]].sum() if f"in_{name}" in table else column.sum())
        if counted != voxels:
            raise NDSynapseError(
                f"mask {name} of {workspace.plan.pipeline.name} on {workspace.plan.box}",
                f"it has {voxels:,} voxels, the objects of the table have {counted:,}",
                "Start over with --fresh, and please report it with job.log",
            )
