"""What an earlier run left, and what is pulled again, compared with what was counted; what differs is not used."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from nd_synapse.blocks.block_volume import Bits, BlockVolume
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.packing import digest
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection.exchange import Exchange
from nd_synapse.detection.kinds import AFTER_PARTS
from nd_synapse.detection.padding import padding_kind
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import DataError, StorageError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding

__all__ = ["check_source", "drop_damaged_masks", "forget_other_runs", "refuse_changed_tile"]

log = logging.getLogger(__name__)

_COMPARED = 8
"""Blocks of an earlier run that are pulled again and compared, spread over the volume."""


def check_source(plan: Plan, exchange: Exchange) -> None:
    """Start over if the volume is not what an earlier run pulled: some blocks are pulled again and compared.

    BOSS has no version of a channel to ask for, and comparing all blocks would cost what resuming saves.
    """
    tiles, kind, store = plan.tiles(), plan.statistics_kind(), exchange.store
    exchange.unfinished((kind,), plan.blocks(), wanted=True)
    counted = [block for block in plan.blocks() if store.has(kind, key_of(block))]
    for block in counted[:: max(1, len(counted) // _COMPARED)][:_COMPARED] + counted[-1:]:
        known = store.load(kind, key_of(block))
        for channel in tiles.channels:
            voxels = plan.source.get_cutout(channel, *block.ranges)
            if digest(voxels) != str(known[f"digest {channel}"][0]):
                _start_over(exchange, channel, block)
                return
    if not counted:
        # tiles that nothing was computed from yet cannot be compared with anything
        store.drop(tiles.kind)
        return
    whole = frozenset(counted)
    for tile in tiles.volume.tiles(tiles.size, aligned=True):
        if not (tile in whole and tiles.has(tile) and _changed_channel(plan, store, tile) is None):
            tiles.drop(tile)


def _start_over(exchange: Exchange, channel: str, block: Box) -> None:
    """Remove what was computed from other voxels; what is in a shared block store stays, and cannot be used."""
    if exchange.shared_store is not None:
        raise DataError(
            f"channel {channel} in {block}, pulled by a part of this run",
            "its voxels are others now",
            "Wait until nobody writes to the channel, then begin a run under another --shared",
        )
    log.warning("channel %s changed since an earlier run pulled %s: starting over", channel, block)
    exchange.store.keep_only(set())


def refuse_changed_tile(plan: Plan, store: Store, tile: Box) -> None:
    """Refuse a tile that was pulled again and is not what was counted."""
    if not store.has(plan.statistics_kind(), key_of(tile)):
        # its counting failed, so nothing was learned from it; or another part of the run compares it
        return
    channel = _changed_channel(plan, store, tile)
    if channel is not None:
        # a later run must not find it as if it had been pulled for the first time
        plan.tiles().drop(tile)
        raise DataError(
            f"channel {channel} in {tile}, pulled again for a later pass",
            "its voxels changed while the job was running",
            "Wait until nobody writes to the channel, then start over with --fresh, or under another --shared",
        )


def _changed_channel(plan: Plan, store: Store, tile: Box) -> str | None:
    """Return a channel whose tile is not what was counted, or cannot be read; None if there is none."""
    tiles = plan.tiles()
    known = store.load(plan.statistics_kind(), key_of(tile))
    for channel in tiles.channels:
        try:
            if digest(tiles.channel(channel).part(tile)) != str(known[f"digest {channel}"][0]):
                return channel
        except StorageError as error:
            log.warning("%s", error)
            return channel
    return None


def forget_other_runs(plan: Plan, store: Store, finding: Finding) -> None:
    """Remove what runs with other parameters left in the store."""
    parts = plan.parts_kind(finding)
    later = [kind for prefix in AFTER_PARTS for kind in store.kinds(f"{prefix}-")]
    kept = [kind for kind in later if parts in kind]
    whole = {parts, f"faces-{parts}", f"labels-{parts}"}
    if "padding" in finding:
        whole.add(padding_kind(finding))
    store.keep_only({plan.tiles().kind, plan.statistics_kind(), *whole, *kept})


def drop_damaged_masks(
    store: Store | MemoryStore, overviews_kind: str, masks: Mapping[str, BlockVolume], blocks: Sequence[Box]
) -> None:
    """Let masks that an earlier run left be written again where they are missing or damaged."""
    for block in blocks:
        if not store.sound(overviews_kind, key_of(block)):
            continue
        known = store.load(overviews_kind, key_of(block))
        try:
            found = {name: digest(Bits.of(mask.part(block))) for name, mask in masks.items()}
            sound = all(one == str(known[f"digest {name}"][0]) for name, one in found.items())
        except StorageError as error:
            log.warning("%s", error)
            sound = False
        if not sound:
            store.remove(overviews_kind, key_of(block), "npz")
