"""The passes of a detection and their order, for blocks on disk and for arrays in memory alike.

::

    statistics  pipeline.summarise(block) -> added -> pipeline.learn
    detect      pipeline.detect(block) -> labels, parts of objects measured
    contacts    parts that touch across blocks
    join        such parts become one object, a layer of blocks after another
    chance      the pipeline on sample fields, as they are and where nothing but chance can make a detection
    objects     the parts of each object are put together where it begins; pipeline.select chooses
    features    the windows round the chosen objects
    masks       the chosen objects, 0 and 255

What goes from one block to another is an integer, so neither the blocks nor their order show in the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.blocks.grid import key_of
from nd_synapse.columns import pieces
from nd_synapse.detection import blocks, chance, features
from nd_synapse.detection.confidence import Chance
from nd_synapse.detection.counted import Counted
from nd_synapse.detection.density import density
from nd_synapse.detection.failed_faces import Face, faces_at, lost_beside
from nd_synapse.detection.gathering import Failures, gather
from nd_synapse.detection.joining import join, touch
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.labels import labels_of, mask_volume
from nd_synapse.detection.numbering import Numbered, number
from nd_synapse.detection.outcome import Brightness, Detection
from nd_synapse.detection.overview import Overview
from nd_synapse.detection.resume import drop_damaged_masks
from nd_synapse.detection.runner import STATISTICS, Runner, Step
from nd_synapse.detection.tables import TableMaker
from nd_synapse.detection.tissue import Tissue
from nd_synapse.detection.windows import surroundings
from nd_synapse.detection.workspace import Workspace
from nd_synapse.errors import DataError, NDSynapseError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding

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
        self.sample = chance.sample_of(self.plan)

    def whole(self, some: Sequence[Box] | None = None) -> list[Box]:
        """Return those of some blocks, or of all, that did not fail."""
        failed = self._failed()
        return [block for block in (self.blocks if some is None else some) if block not in failed]

    def _failed(self) -> frozenset[Box]:
        """Return the blocks that failed."""
        return frozenset(failed_block.box for failed_block in self.runner.failed_blocks)

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
        kinds = (self.plan.statistics_kind(),)
        step = Step(STATISTICS, kinds, self.plan.counted_halo, wanted=wanted, fails_for_all=True)
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
        step = self.finding(finding, wanted)
        self.runner.run(step, partial(blocks.detect, finding=finding), some)

    def finding(self, finding: Finding, wanted: bool = True) -> Step:
        """Return the step that labels and measures."""
        kind = self.plan.parts_kind(finding)
        kinds = (f"labels-{kind}", f"faces-{kind}", kind)
        return Step("detect", kinds, self.plan.halo, wanted=wanted, fails_for_all=True)

    def detect(self, learned: Learned, sampled: bool = True) -> Detection:
        """Do the passes that follow the statistics; that on `sampled` fields only if it is wanted."""
        plan, finding = self.plan, learned.finding
        self.find(finding, self.whole())
        whole = self._some_whole()
        kinds = self.kinds(finding)
        if self.runner.missing(self.joining(kinds), whole):
            self.touch(kinds, whole)
            self.join(kinds)
        by_chance = self.chance(finding) if sampled or plan.pipeline.raises_strictness else None
        if by_chance is not None:
            finding = by_chance.raised(finding)
        self.gather(kinds, finding, whole)
        numbered = number(self.store, kinds, whole, plan.box)
        self.measure(kinds, finding, numbered, whole)
        tissue, brightness = self._of_tissue(learned)
        maker = TableMaker(
            workspace=self.workspace,
            kinds=kinds,
            finding=finding,
            numbered=numbered,
            brightness=brightness,
            tissue=tissue,
            chance=by_chance,
        )
        table, counts = maker.table(whole)
        masks = self.write_masks(kinds, maker.masks(whole), whole)
        _refuse_contradiction(self.workspace, table, masks.voxels)
        return Detection(
            masks=masks.volumes,
            labels=labels_of(plan, self.store, kinds, numbered.synapses, self._failed()),
            table=table,
            brightness=brightness,
            overviews=learned.overviews,
            mask_overviews=masks.overviews,
            mask_voxels=masks.voxels,
            finding=finding,
            tissue=tissue,
            density=density(counts, tissue, plan.box, plan.voxel_size_nm),
            identity=kinds.identity,
            blocks=len(self.blocks),
            candidates=numbered.candidates,
            chance=Chance(reason="it was not asked for") if by_chance is None else by_chance,
        )

    def kinds(self, finding: Finding) -> Kinds:
        """Return the names under which the passes after the detection keep what they make."""
        return Kinds.of(self.plan.parts_kind(finding), self._failed(), self.plan.reach)

    def touch(self, kinds: Kinds, some: Sequence[Box], wanted: bool = True) -> None:
        """Find what touches across blocks."""
        self.runner.run(self.touching(kinds, wanted), partial(touch, kinds=kinds, failed=self._failed()), some)

    def touching(self, kinds: Kinds, wanted: bool = True) -> Step:
        """Return the step that finds what touches."""
        return Step("contacts", (kinds.contacts,), wanted=wanted, vital=True)

    def join(self, kinds: Kinds) -> None:
        """Join what touches across blocks."""
        join(self.plan, self.store, kinds, self.whole())
        self.runner.leave(self.joining(kinds), self.whole())

    def joining(self, kinds: Kinds) -> Step:
        """Return the step that joins."""
        return Step("join", (kinds.joined,), vital=True)

    def gather(self, kinds: Kinds, finding: Finding, some: Sequence[Box]) -> None:
        """Put objects together, and let the pipeline choose; objects know which of the blocks beside them failed."""
        failures = Failures(self._failed(), self._faces_at_failed())
        function = partial(gather, kinds=kinds, finding=finding, failures=failures)
        self.runner.run(self.gathering(kinds), function, some)

    def gathering(self, kinds: Kinds) -> Step:
        """Return the step that puts objects together."""
        return Step("objects", (kinds.chosen, kinds.objects), vital=True)

    def measure(self, kinds: Kinds, finding: Finding, numbered: Numbered, some: Sequence[Box]) -> None:
        """Measure the synapses."""
        halo, busy = surroundings(self.plan.reach), [block for block in some if block in numbered.centres]
        step = Step("features", (kinds.features,), halo, vital=True, reads=numbered.centres)
        self.runner.run(step, partial(features.measure, kinds=kinds, finding=finding), busy)

    def _faces_at_failed(self) -> dict[Box, list[Face]]:
        """Return the blocks that lie beside some that failed, with their faces there."""
        return faces_at(self._failed(), self.plan)

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

    def sampling(self, finding: Finding) -> Step:
        """Return the step that detects in sample fields."""
        z, y, x = (a + b for a, b in zip(self.plan.halo, self.sample.reach, strict=True))
        # with a field less a strictness would be raised to another number
        vital = self.plan.pipeline.raises_strictness
        return Step("chance", (f"chance-{self.plan.parts_kind(finding)}",), (z, y, x), sampled=True, vital=vital)

    def fields(self) -> list[Box]:
        """Return the sample fields without a block that failed."""
        return [field for field in self.sample.fields if not any(map(field.intersection, self._failed()))]

    def detect_in(self, finding: Finding, fields: Sequence[Box]) -> None:
        """Detect in sample fields."""
        step = self.sampling(finding)
        function = partial(chance.measure, sample=self.sample, finding=finding, kind=step.kinds[0])
        self.runner.run(step, function, fields)

    def chance(self, finding: Finding) -> Chance:
        """Detect in the sample fields, and return how many detections are expected by chance."""
        if self.sample.reason:
            return Chance(reason=self.sample.reason)
        fields, (kind,) = self.fields(), self.sampling(finding).kinds
        self.detect_in(finding, fields)
        done = [field for field in fields if self.store.has(kind, key_of(field))]
        if not done:
            return Chance(reason="the blocks of all sample fields failed")
        scores = chance.gather(self.store, done, kind)
        return Chance.of(self.sample, len(done), scores, raises=self.plan.pipeline.raises_strictness)

    def write_masks(self, kinds: Kinds, names: Sequence[str], whole: Sequence[Box]) -> _Masks:
        """Write every mask."""
        failed = self._failed()
        volumes = {name: mask_volume(self.plan, self.store, f"{kinds.masks}-{name}", failed) for name in names}
        drop_damaged_masks(self.store, kinds.overviews, volumes, whole)
        function = partial(blocks.write_masks, names=tuple(names), kinds=kinds, described=bool(self.observed))
        # masks are made again in less time than they are transferred
        step = Step("masks", (kinds.numbers, kinds.overviews), shared=False, vital=True)
        self.runner.run(step, function, whole)
        overviews: dict[str, NDArray[Any]] = {}
        voxels = dict.fromkeys(names, 0)
        for block in whole:
            saved = self.store.load(kinds.overviews, key_of(block))
            self._merge_overviews(overviews, block, saved)
            for name in names:
                voxels[name] += int(saved[f"voxels {name}"][0])
        return _Masks(volumes, overviews, voxels)


def _subtract(moments: list[int], lost: NDArray[np.int64]) -> None:
    """Take some moments from others, in place."""
    moments[:] = (a - b for a, b in zip(moments, lost.tolist(), strict=True))


def _refuse_contradiction(
    workspace: Workspace, table: Mapping[str, NDArray[Any]], mask_voxels: Mapping[str, int]
) -> None:
    """Refuse masks that do not hold the voxels of the table's objects."""
    for name, voxels in mask_voxels.items():
        column, inside = table.get(f"voxels_{name}", table["voxels"]), table.get(f"in_{name}")
        counted = sum(
            int(column[piece].sum() if inside is None else column[piece][inside[piece]].sum())
            for piece in pieces(len(column))
        )
        if counted != voxels:
            raise NDSynapseError(
                f"mask {name} of {workspace.plan.pipeline.name} on {workspace.plan.box}",
                f"it has {voxels:,} voxels, the objects of the table have {counted:,}",
                "Start over with --fresh, and please report it with job.log",
            )
