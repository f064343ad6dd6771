"""The push of a run in parts: each makes its blocks of a channel equal to the mask, and leaves a note of the proof."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping

from nd_synapse.blocks.shared_store import Part, SharedStore
from nd_synapse.boss import push
from nd_synapse.boss.resource import NeuroDataResource
from nd_synapse.detection.exchange import Exchange
from nd_synapse.detection.on_disk import Means
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.parts import masks_of_part
from nd_synapse.detection.plan import Plan

__all__ = ["proven", "push_part"]

log = logging.getLogger(__name__)


def push_part(
    plan: Plan, part: Part, source: NeuroDataResource, destinations: Mapping[str, push.Destination], means: Means
) -> None:
    """Push what a part has of every mask, unless an earlier attempt did."""
    masks = [name for name in plan.pipeline.masks_of(plan.roles) if name in destinations]
    mine = part.of(push.pushed_blocks(destinations[masks[0]], plan.box))
    if not mine:
        return
    with masks_of_part(plan, part, mine, masks, means) as found:
        for name in masks:
            kind, key = _kind(found.identity, destinations[name]), f"{part.index}-of-{part.count}"
            if key in found.exchange.notes_of(kind):
                log.info("mask %s: part %s was pushed and read back before", name, key)
                continue
            pushed = push.push_mask(
                source.remote, destinations[name], plan.box, found.volumes[name], source.frame, only=mine
            )
            found.exchange.leave_note(kind, key, {"voxels": pushed.voxels_found})


def proven(
    plan: Plan, shared_store: SharedStore, detection: Detection, name: str, destination: push.Destination
) -> int | None:
    """Return how many parts pushed a mask and read all of it back; None if some of it is not proven."""
    notes = Exchange(plan.store(), shared_store, 0).notes_of(_kind(detection.identity, destination))
    for count in {key.partition("-of-")[2] for key in notes}:
        of_count = [note for key, note in notes.items() if key.endswith(f"-of-{count}")]
        blocks = len(push.pushed_blocks(destination, plan.box))
        voxels = sum(int(note["voxels"]) for note in of_count)
        if len(of_count) == min(int(count), blocks) and voxels == detection.mask_voxels[name]:
            return len(of_count)
    return None


def _kind(identity: str, destination: push.Destination) -> str:
    """Return the name of the notes of one mask in one channel."""
    where = f"{destination} {destination.maker}"
    return f"pushed-{identity}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
