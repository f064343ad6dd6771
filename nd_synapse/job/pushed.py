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
    key = f"{part.index}-of-{part.count}"
    with masks_of_part(plan, part, mine, means) as found:

        def is_proven(name: str) -> bool:
            note = found.exchange.note_of(_kind(found.identity(), destinations[name]), key)
            return note is not None and push.is_ours(source.remote, destinations[name])

        if all(map(is_proven, masks)):
            log.info("part %s of the masks was pushed and read back before", key)
            return
        volumes = found.volumes(masks)
        for name in masks:
            pushed = push.push_mask(source.remote, destinations[name], plan.box, volumes[name], source.frame, only=mine)
            kind = _kind(found.identity(), destinations[name])
            found.exchange.leave_note(kind, key, {"voxels": pushed.voxels_found})


def proven(
    plan: Plan,
    shared_store: SharedStore,
    detection: Detection,
    name: str,
    source: NeuroDataResource,
    destination: push.Destination,
) -> int | None:
    """Return how many parts pushed a mask and read all of it back; None if some of it is not proven.

    Another run may have written to the channel since: it must be described as this run's, and one block of each part
    is read once more.
    """
    notes = Exchange(plan.store(), shared_store, 0).notes_of(_kind(detection.identity, destination))
    blocks = push.pushed_blocks(destination, plan.box)
    for count in {int(key.partition("-of-")[2]) for key in notes}:
        filled = [part for part in (Part("push", index, count) for index in range(count)) if part.of(blocks)]
        keys = [f"{part.index}-of-{count}" for part in filled]
        if not set(keys) <= notes.keys():
            continue
        voxels = sum(int(notes[key]["voxels"]) for key in keys)
        some = [part.of(blocks)[0] for part in filled]
        if voxels == detection.mask_voxels[name] and push.is_ours(source.remote, destination):
            is_same = push.holds(source.remote, destination, plan.box, detection.masks[name], some)
            return len(filled) if is_same else None
    return None


def _kind(identity: str, destination: push.Destination) -> str:
    """Return the name of the notes of one mask in one channel."""
    where = f"{destination} {destination.maker}"
    return f"pushed-{identity}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
