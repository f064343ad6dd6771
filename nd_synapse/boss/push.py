"""Pushes masks to BOSS: afterwards the channel equals the mask, read back and compared.

BOSS keeps its own voxels where zeros are written: a second mask written over a first gives the union of both. So every
block is compared with what BOSS holds, and erased where the mask has fewer voxels.

BOSS queues writes and erases, and carries them out in this order for each cuboid; a read waits for queued writes to its
cuboids, and not for erases. So a voxel that is shown may be about to be erased, by an earlier push or by somebody else;
what is shown empty stays empty. Hence a block is trusted only where the mask is empty and BOSS shows it empty. Every
other block is written, also with zeros alone: that changes no voxel, but lets the read that verifies the block wait for
all that was queued before.

An attempt that was given up may still reach the queue. So blocks that needed several attempts are written and verified
once more at the end, when such attempts have had time to end.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import ChannelResource
from numpy.typing import NDArray

from nd_synapse.boss.address import DEFAULT_HOST
from nd_synapse.boss.catalog import find_channel
from nd_synapse.boss.connection import Patience, connect, patience_of
from nd_synapse.boss.cutouts import erase_block, read_cutout, request_size, write_block
from nd_synapse.boss.destination import Destination, check_destination, ensure_channel, refuse_taken
from nd_synapse.boss.links import historical_link, neuroglancer_link
from nd_synapse.credentials import Token
from nd_synapse.errors import DataError, UnknownNameError, UsageError, called
from nd_synapse.geometry import Box, Frame, Range
from nd_synapse.user_code import mask_of
from nd_synapse.volumes import Source, Volume

__all__ = [
    "Destination",
    "Patience",
    "PushReport",
    "boss_push",
    "check_destination",
    "check_mask",
    "connect",
    "held_blocks",
    "historical_link",
    "holds",
    "is_ours",
    "neuroglancer_link",
    "push_mask",
    "pushed_blocks",
]

log = logging.getLogger(__name__)

FOUND = np.uint8(255)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did. A push that returns one has proven that the channel equals the mask."""

    destination: Destination
    box: Box
    voxels_found: int
    """Voxels of the mask that are not zero."""
    blocks_erased: int
    """Blocks that were set to zero before they were written."""
    blocks_written: int
    blocks_repaired: int
    """Blocks that differed when they were read back, and were sent again."""
    bytes_sent: int
    """Size of the voxels that were sent, before compression."""
    seconds: float
    link: str
    """Historical link of the channel."""


@dataclass(slots=True)
class _Push:
    """A push in progress: its destination, and what has been done so far."""

    remote: BossRemote
    destination: Destination
    channel: ChannelResource
    found: int = 0
    erased: int = 0
    written: int = 0
    repaired: int = 0
    sent: int = 0
    repeats: int = 0
    repeated: dict[Box, float] = field(default_factory=dict)
    """When a block was last erased or written in more than one attempt."""

    def write(self, block: Box, existing: NDArray[Any], wanted: NDArray[Any]) -> None:
        """Make a block of BOSS equal to `wanted`, shape (z, y, x), unless another job took the channel over."""
        erase = bool(np.any((wanted == 0) & (existing != 0)))
        if not erase and not wanted.any():
            return
        refuse_taken(self.remote, self.destination)
        repeats = 0
        if erase:
            repeats += erase_block(self.remote, self.channel, block)
            self.erased += 1
        repeats += write_block(self.remote, self.channel, block, wanted)
        self.written += 1
        self.sent += wanted.nbytes
        if repeats:
            self.repeats += repeats
            self.repeated[block] = time.monotonic()

    def wait_for_late_attempts(self) -> list[Box]:
        """Wait until attempts that were given up have had time to end; return the blocks that needed them."""
        if not self.repeated:
            return []
        waited = time.monotonic() - max(self.repeated.values())
        pause = max(0.0, patience_of(self.remote).settling_s(self.repeats) - waited)
        text = "%d blocks of %s needed several attempts, which BOSS may carry out late: writing them again in %.1f s"
        log.info(text, len(self.repeated), self.channel.name, pause)
        time.sleep(pause)
        return list(self.repeated)

    def verify(self, block: Box, wanted: NDArray[Any]) -> None:
        """Read a block back and compare it; send it again once, and refuse if it still differs."""
        existing = read_cutout(self.remote, self.channel, block)
        if np.array_equal(existing, wanted):
            return
        log.warning("%s of %s differs from what was sent; sending it again", block, self.channel.name)
        self.repaired += 1
        self.write(block, existing, wanted)
        existing = read_cutout(self.remote, self.channel, block)
        if not np.array_equal(existing, wanted):
            different = existing != wanted
            first = np.unravel_index(int(np.argmax(different)), different.shape)
            where = tuple(int(offset) + origin for offset, origin in zip(first, block.start, strict=True))
            raise DataError(
                f"mask in channel {self.destination}",
                f"{int(np.count_nonzero(different))} voxels read back differ, the first at z, y, x {where}",
                "Make sure that no other job writes to this channel, and push again",
            )


@called(out_col="col", out_exp="exp")
def boss_push(
    token: Token | str,
    col: str,
    exp: str,
    z_range: Range,
    y_range: Range,
    x_range: Range,
    data_dict: Mapping[str, Volume],
    results_key: str,
    *,
    host: str = DEFAULT_HOST,
    source: Source | Frame | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
    overwrite: bool = False,
) -> dict[str, str]:
    """Push masks, each to the channel ``<results_key>_<its key>`` of an experiment.

    Parameters
    ----------
    token : Token or str
        A token that may write.
    col, exp : str
        Output collection and experiment.
    z_range, y_range, x_range : tuple of int
        Where the masks lie, half-open.
    data_dict : mapping of str to ndarray
        The masks, see `push_mask`.
    results_key : str
        First part of the channels' names.
    host : str
        BOSS; see `connect`.
    source : Source or Frame, optional
        What the masks were computed from; missing collection, frame and experiment are created like it.
    progress : callable, optional
        See `push_mask`; it starts anew for each mask.
    patience : Patience, optional
        Time limits and retries.
    overwrite : bool
        Whether the masks may replace other masks in these channels. Without it, an existing channel must be of the
        same mask (its description has a digest of box and voxels) and hold nothing else in the box, as after an
        interrupted call.

    Returns
    -------
    dict of str to str
        Link of the channel of each mask.

    Raises
    ------
    NDSynapseError
        See `push_mask`; `UsageError` if a channel has another mask. All masks, names and channels are checked before
        anything is created or sent.
    """
    box = Box(z_range, y_range, x_range)
    data_dict = _masks_of(data_dict)
    for key, mask in data_dict.items():
        Destination(col, exp, f"{results_key}_{key}")
        check_mask(mask, box, key)
    destinations = {
        key: Destination(col, exp, f"{results_key}_{key}", _maker(box, mask), overwrite)
        for key, mask in data_dict.items()
    }
    frame = source if isinstance(source, Frame) or source is None else source.frame
    remote = connect(host, token, patience=patience)
    for destination in destinations.values():
        check_destination(remote, destination, box, frame)
    if not overwrite:
        for key, mask in data_dict.items():
            _check_held(remote, destinations[key], box, mask)
    return {
        key: push_mask(remote, destinations[key], box, mask, frame, progress=progress).link
        for key, mask in data_dict.items()
    }


def _masks_of(data_dict: Any) -> dict[str, Volume]:
    """Return the masks by name; refuse arguments of other types."""
    if not isinstance(data_dict, Mapping) or not all(isinstance(key, str) for key in data_dict):
        found = f"they are of the type {type(data_dict).__name__}, or a name is not text"
        raise UsageError("the masks of a push", found, "Give a dictionary of name to mask")
    return {key: mask if _is_volume(mask) else mask_of(f"mask {key}", mask) for key, mask in data_dict.items()}


def _is_volume(mask: Any) -> bool:
    """Return whether a mask can be read piece by piece, as one on disk."""
    return hasattr(mask, "shape") and hasattr(mask, "dtype") and not isinstance(mask, np.ma.MaskedArray)


def push_mask(
    remote: BossRemote,
    destination: Destination,
    box: Box,
    mask: Volume,
    source_frame: Frame | None,
    *,
    progress: Progress | None = None,
    only: Sequence[Box] | None = None,
) -> PushReport:
    """Make a channel equal to a mask inside a box; voxels outside of it stay as they are.

    Parameters
    ----------
    remote : BossRemote
        A connection, see `connect`.
    destination : Destination
        The channel; it and what it lies in are created if missing.
    box : Box
        Where the mask lies.
    mask : ndarray
        Shape (z, y, x) of `box`, bool or whole numbers; what is not zero becomes 255, but stays as it is where the
        destination is of labels. It is read block by block, so a memory map may be larger than memory.
    source_frame : Frame or None
        What the mask was computed from; None if the experiment exists.
    progress : callable, optional
        Called with the number of steps done and of all steps: each block is one to write and one to verify.
    only : sequence of Box, optional
        Those of `pushed_blocks` that are pushed; the others are somebody else's.

    Returns
    -------
    PushReport
        What was done.

    Raises
    ------
    DataError
        If the mask does not fit the box, the experiment's frame does not fit the mask, or a block differs after it was
        sent twice.
    UsageError
        If the channel holds another maker's mask, or another job takes it over during the push.
    NDSynapseError
        If BOSS refuses or does not answer. What was written stays; the same call completes it.
    """
    check_mask(mask, box, destination.channel)
    start = time.monotonic()
    channel, is_new = ensure_channel(remote, destination, box, source_frame)
    blocks = pushed_blocks(destination, box) if only is None else list(only)
    converted = _as_mask if destination.datatype == "uint8" else _as_labels
    report_progress = progress or (lambda *_: None)
    push = _Push(remote, destination, channel)
    for done, block in enumerate(blocks, 1):
        wanted = converted(mask[block.slices(box.start)])
        push.found += int(np.count_nonzero(wanted))
        existing = np.zeros_like(wanted) if is_new else read_cutout(remote, channel, block)
        push.write(block, existing, wanted)
        report_progress(done, 2 * len(blocks))
    for done, block in enumerate(blocks, len(blocks) + 1):
        push.verify(block, converted(mask[block.slices(box.start)]))
        report_progress(done, 2 * len(blocks))
    for block in push.wait_for_late_attempts():
        wanted = converted(mask[block.slices(box.start)])
        push.write(block, wanted, wanted)
        push.verify(block, wanted)
    # The mask that was verified is another job's if that took the channel over meanwhile.
    refuse_taken(remote, destination)
    seconds = time.monotonic() - start
    if blocks:
        log.info("pushed %d voxels to %s in %.1f s, and read them back", push.found, destination, seconds)
    return PushReport(
        destination=destination,
        box=box,
        voxels_found=push.found,
        blocks_erased=push.erased,
        blocks_written=push.written,
        blocks_repaired=push.repaired,
        bytes_sent=push.sent,
        seconds=seconds,
        link=historical_link(destination),
    )


def pushed_blocks(destination: Destination, box: Box) -> list[Box]:
    """Return the blocks in which a mask of a box is written and read back."""
    itemsize = np.dtype(destination.datatype).itemsize
    return list(box.tiles(request_size(box.shape, itemsize), aligned=True))


def is_ours(remote: BossRemote, destination: Destination) -> bool:
    """Return whether a channel is there, and described as that of its maker."""
    try:
        refuse_taken(remote, destination)
    except UsageError:  # another maker's, or an unknown name
        return False
    return True


def holds(remote: BossRemote, destination: Destination, box: Box, mask: Volume, blocks: Sequence[Box]) -> bool:
    """Return whether a channel equals a mask of a box in some blocks."""
    channel = find_channel(remote, destination.collection, destination.experiment, destination.channel)
    return all(
        np.array_equal(read_cutout(remote, channel, block), _as_mask(mask[block.slices(box.start)])) for block in blocks
    )


def held_blocks(remote: BossRemote, destination: Destination, box: Box) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Yield blocks that cover a box once, each with the voxels of the channel: shape (z, y, x), the channel's dtype."""
    channel = find_channel(remote, destination.collection, destination.experiment, destination.channel)
    itemsize = np.dtype(channel.datatype).itemsize
    for block in box.tiles(request_size(box.shape, itemsize), aligned=True):
        yield block, read_cutout(remote, channel, block)


def check_mask(mask: Volume, box: Box, name: str) -> None:
    """Refuse an array that is not a mask of the box: BOSS would accept one of another axis order and scramble it."""
    if mask.shape != box.shape:
        raise DataError(f"mask {name}", f"its shape is {mask.shape}, {box} has {box.shape}", "Masks are z, y, x")
    if mask.dtype.kind not in "bui":
        raise DataError(f"mask {name}", f"its type is {mask.dtype}", "A mask is bool or whole numbers, 0 for nothing")


def _maker(box: Box, mask: Volume) -> str:
    """Identify a mask by a digest: of two simultaneous calls with different masks only one may get the channel."""
    digest = hashlib.sha256(str(box).encode())
    for plane in range(mask.shape[0]):
        digest.update(_as_mask(mask[plane : plane + 1, :, :]).tobytes())
    return f"nd_boss.boss_push of a mask with the digest {digest.hexdigest()[:32]}"


def _check_held(remote: BossRemote, destination: Destination, box: Box, mask: Volume) -> None:
    """Refuse to replace voxels that are not part of the mask: another program wrote them."""
    try:
        others = (
            block
            for block, existing in held_blocks(remote, destination, box)
            if np.any((existing != 0) & (existing != _as_mask(mask[block.slices(box.start)])))
        )
        first = next(others, None)
    except UnknownNameError:
        return
    if first is not None:
        raise UsageError(
            f"output channel {destination}",
            f"it holds voxels that are not in this mask, the first in {first}",
            "Pass overwrite=True to replace them, or choose another results_key",
        )


def _as_mask(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 255 where voxels, shape (z, y, x), are not zero: a new array of that shape, uint8."""
    mask: NDArray[np.uint8] = np.multiply(np.not_equal(voxels, 0), FOUND, dtype=np.uint8)
    return mask


def _as_labels(voxels: NDArray[Any]) -> NDArray[np.uint64]:
    """Return ids, shape (z, y, x), as BOSS keeps them."""
    return voxels.astype(np.uint64)
