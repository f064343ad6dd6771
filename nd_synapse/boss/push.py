"""Pushes masks to BOSS: afterwards the channel equals the mask, read back and compared.

It computes no mask and reads no source: `NeuroDataResource` does.

BOSS keeps what is not zero: a second mask written over a first gives the union of both. So every block is compared with
what BOSS holds, erased where the mask has fewer voxels, and only then written. A block that is right already is left
alone, which makes a push that was interrupted cheap to repeat.

An attempt to erase that was given up may be carried out later, after the mask was written and read back. So blocks that
needed several attempts are read once more at the end, when such attempts have had time to end.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import ChannelResource
from numpy.typing import NDArray

from nd_synapse.boss.catalog import find_channel
from nd_synapse.boss.connection import Patience, connect, patience_of, url_for
from nd_synapse.boss.cutouts import erase_block, read_cutout, request_size, write_block
from nd_synapse.boss.destination import Destination, check_destination, ensure_channel, refuse_taken
from nd_synapse.credentials import Token
from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.geometry import Box, Frame, Range
from nd_synapse.volumes import Source, Volume

__all__ = [
    "DEFAULT_HOST",
    "Destination",
    "Patience",
    "PushReport",
    "boss_push",
    "check_destination",
    "check_mask",
    "connect",
    "held_blocks",
    "historical_link",
    "neuroglancer_link",
    "push_mask",
]

log = logging.getLogger(__name__)

# The host of the historical program, api.boss.neurodata.io, is no more; this is where BOSS is served today.
DEFAULT_HOST = "api.bossdb.io"

FOUND = np.uint8(255)

_NEUROGLANCER = "https://neuroglancer.bossdb.io/#!"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did. That it is returned means that the channel equals the mask.

    Parameters
    ----------
    destination : Destination
        The channel.
    box : Box
        Where the mask lies.
    voxels_found : int
        Voxels of the mask that are not zero.
    blocks_erased, blocks_written, blocks_repaired : int
        Blocks that were set to zero first; that voxels were sent for; that differed when they were read back, and were
        sent again.
    bytes_sent : int
        Size of the voxels that were sent, before compression.
    seconds : float
        Time from the first question to the last comparison.
    link : str
        Historical link of the channel.
    """

    destination: Destination
    box: Box
    voxels_found: int
    blocks_erased: int
    blocks_written: int
    blocks_repaired: int
    bytes_sent: int
    seconds: float
    link: str


@dataclass(slots=True)
class _Push:
    """A push while it goes on: where to, and what was done by now."""

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
    """When a block was last erased or written by more than one attempt."""

    def bring_about(self, block: Box, existing: NDArray[Any], wanted: NDArray[Any]) -> None:
        """Change what BOSS holds in a block into what is wanted, unless the channel is another's by now."""
        erase, write = _needs(existing, wanted)
        if erase or write:
            refuse_taken(self.remote, self.destination)
        repeats = 0
        if erase:
            repeats += erase_block(self.remote, self.channel, block)
            self.erased += 1
        if write:
            repeats += write_block(self.remote, self.channel, block, wanted)
            self.written += 1
            self.sent += wanted.nbytes
        if repeats:
            self.repeats += repeats
            self.repeated[block] = time.monotonic()

    def settle(self) -> None:
        """Wait until attempts that were given up have had their time."""
        if not self.repeated:
            return
        waited = time.monotonic() - max(self.repeated.values())
        pause = max(0.0, patience_of(self.remote).settling_s(self.repeats) - waited)
        text = "%d blocks of %s needed several attempts, of which BOSS may be at some yet: once more in %.1f s"
        log.info(text, len(self.repeated), self.channel.name, pause)
        time.sleep(pause)

    def prove(self, block: Box, wanted: NDArray[Any]) -> None:
        """Read a block back and compare; mend it once, and refuse if it still differs."""
        existing = read_cutout(self.remote, self.channel, block)
        if np.array_equal(existing, wanted):
            return
        log.warning("%s of %s differs from what was sent; sending it again", block, self.channel.name)
        self.repaired += 1
        self.bring_about(block, existing, wanted)
        existing = read_cutout(self.remote, self.channel, block)
        if not np.array_equal(existing, wanted):
            different = existing != wanted
            first = np.unravel_index(int(np.argmax(different)), different.shape)
            where = tuple(int(offset) + origin for offset, origin in zip(first, block.start, strict=True))
            raise DataError(
                f"mask in channel {self.destination}",
                f"{int(np.count_nonzero(different))} voxels read back differ, the first at z, y, x {where}",
                "See that no other job writes to this channel, and push again",
            )


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
        What the masks were computed from: missing collection, frame and experiment are created like it.
    progress : callable, optional
        See `push_mask`; called for each mask anew.
    patience : Patience, optional
        Time-outs and retries.
    overwrite : bool
        Whether the masks may replace what another call, a run of `driver`, or somebody else put into these channels.
        Without it, a channel that is there has to be of the very mask, as its description says by a digest of box and
        voxels, and to hold nothing else in the box: such as a call that was interrupted left, which is repeated. A
        channel whose description has no digest, such as earlier versions made, tells nobody whose mask it holds: it is
        another's.

    Returns
    -------
    dict of str to str
        Link of the channel of each mask.

    Raises
    ------
    NDSynapseError
        See `push_mask`; `UsageError` if a channel is of another mask, or holds something else in the box. All masks,
        names and channels are checked before anything is created or sent.
    """
    box = Box(z_range, y_range, x_range)
    data_dict = _masks_of(data_dict, results_key, source)
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


def _masks_of(data_dict: Any, results_key: Any, source: Any) -> dict[str, Volume]:
    """Return the masks by name, or refuse what a program passed in their place."""
    if not isinstance(results_key, str):
        raise UsageError(f"a push under {results_key!r:.100}", "a results key is text", "Give the first part of a name")
    if not isinstance(data_dict, Mapping) or not all(isinstance(key, str) for key in data_dict):
        found = f"they are of the type {type(data_dict).__name__}, or a name is no text"
        raise UsageError("the masks of a push", found, "Give a dictionary of name to mask")
    if not (source is None or isinstance(source, Frame) or isinstance(getattr(source, "frame", None), Frame)):
        found = f"it is of the type {type(source).__name__}"
        raise UsageError("the source of a push", found, "Give a NeuroDataResource, a Frame, or nothing")
    masks = {}
    for key, mask in data_dict.items():
        try:
            masks[key] = mask if hasattr(mask, "shape") and hasattr(mask, "dtype") else np.asarray(mask)
        except ValueError as error:
            raise DataError(f"mask {key}", "it is no array: its rows differ in length", "Masks are z, y, x") from error
    return masks


def push_mask(
    remote: BossRemote,
    destination: Destination,
    box: Box,
    mask: Volume,
    source_frame: Frame | None,
    *,
    progress: Progress | None = None,
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
        Shape (z, y, x) of `box`, bool or whole numbers; what is not zero becomes 255. Never written to; a memory map
        larger than memory is read block by block.
    source_frame : Frame or None
        What the mask was computed from; see `ensure_channel`.
    progress : callable, optional
        Called with the number of steps done and of all steps: every block is written, and then read back.

    Returns
    -------
    PushReport
        What was done.

    Raises
    ------
    DataError
        If the mask does not fit the box, the experiment's frame does not fit the mask, or BOSS does not hold the mask
        after all of it was sent twice.
    UsageError
        If another maker's mask is in the channel, or came into it meanwhile.
    NDSynapseError
        What BOSS refuses, see `boss.translation`. What was written by then stays; the same call completes it.
    """
    check_mask(mask, box, destination.channel)
    start = time.monotonic()
    channel, is_new = ensure_channel(remote, destination, box, source_frame)
    blocks = list(box.tiles(request_size(box.shape), aligned=True))
    log_error = progress or _silent
    push = _Push(remote, destination, channel)
    for done, block in enumerate(blocks, 1):
        wanted = _as_mask(mask[block.slices(box.start)])
        push.found += int(np.count_nonzero(wanted))
        existing = np.zeros_like(wanted) if is_new else read_cutout(remote, channel, block)
        push.bring_about(block, existing, wanted)
        log_error(done, 2 * len(blocks))
    for done, block in enumerate(blocks, len(blocks) + 1):
        push.prove(block, _as_mask(mask[block.slices(box.start)]))
        log_error(done, 2 * len(blocks))
    push.settle()
    for block in list(push.repeated):
        push.prove(block, _as_mask(mask[block.slices(box.start)]))
    # what is proved by now is another's, if somebody took the channel over meanwhile
    refuse_taken(remote, destination)
    seconds = time.monotonic() - start
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


def held_blocks(remote: BossRemote, destination: Destination, box: Box) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Read back what a channel holds in a box, block by block.

    Parameters
    ----------
    remote : BossRemote
        A connection, see `connect`.
    destination : Destination
        The channel.
    box : Box
        What to read.

    Yields
    ------
    block : Box
        A part of the box; together they cover it once.
    voxels : ndarray, shape (z, y, x) of `block`
        In the channel's own type.

    Raises
    ------
    NDSynapseError
        If there is no such channel, or BOSS refuses or does not answer.
    """
    channel = find_channel(remote, destination.collection, destination.experiment, destination.channel)
    for block in box.tiles(request_size(box.shape), aligned=True):
        yield block, read_cutout(remote, channel, block)


def check_mask(mask: Volume, box: Box, name: str) -> None:
    """Refuse what is no mask of a box: BOSS would take an array of the wrong order and scramble it.

    Parameters
    ----------
    mask : ndarray
        The mask.
    box : Box
        Where it lies.
    name : str
        Its name, for the message.

    Raises
    ------
    DataError
        If shape or type are wrong.
    """
    if mask.shape != box.shape:
        raise DataError(f"mask {name}", f"its shape is {mask.shape}, {box} has {box.shape}", "Masks are z, y, x")
    if mask.dtype.kind not in "bui":
        raise DataError(f"mask {name}", f"its type is {mask.dtype}", "A mask is bool or whole numbers, 0 for nothing")


def _maker(box: Box, mask: Volume) -> str:
    """Say what a mask is, so that of two calls at the same time with different ones only one gets the channel.

    BOSS creates a channel once, with its description, and whoever comes second finds that.
    """
    digest = hashlib.sha256(str(box).encode())
    for plane in range(mask.shape[0]):
        digest.update(_as_mask(mask[plane : plane + 1, :, :]).tobytes())
    return f"nd_boss.boss_push of a mask with the digest {digest.hexdigest()[:32]}"


def _check_held(remote: BossRemote, destination: Destination, box: Box, mask: Volume) -> None:
    """Refuse to replace what is not part of a mask: somebody wrote it there since."""
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


def _silent(done: int, total: int) -> None:
    """Report progress to nobody."""


def _as_mask(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 255 where voxels are not zero, as a new array of uint8."""
    mask: NDArray[np.uint8] = np.multiply(np.not_equal(voxels, 0), FOUND, dtype=np.uint8)
    return mask


def _needs(existing: NDArray[Any], wanted: NDArray[Any]) -> tuple[bool, bool]:
    """Decide whether a block must be erased, and whether it must be written (afterwards)."""
    erase = bool(np.any((wanted == 0) & (existing != 0)))
    differs = wanted != 0 if erase else (wanted != 0) & (existing != wanted)
    return erase, bool(np.any(differs))


def historical_link(destination: Destination) -> str:
    """Return the link of a channel as the historical program wrote it.

    Parameters
    ----------
    destination : Destination
        The channel.

    Returns
    -------
    str
        The link.
    """
    return f"http://ndwt.neurodata.io/channel_detail/{destination}/"


def neuroglancer_link(
    remote: BossRemote,
    images: Sequence[tuple[str, str, str]],
    destination: Destination,
    box: Box,
    voxel_size_nm: Sequence[float],
    *,
    image_url: str | None = None,
) -> str:
    """Return a link that shows a mask over the channels that it was computed from.

    Parameters
    ----------
    remote : BossRemote
        The connection to the BOSS that has the mask; its token does not become part of the link.
    images : sequence of tuple of str
        Collection, experiment and channel of each image.
    destination : Destination
        The mask's channel.
    box : Box
        Where the mask lies; the view opens at its centre.
    voxel_size_nm : sequence of float
        Along z, y, x.
    image_url : str, optional
        URL of the BOSS that has the images, if it is another one.

    Returns
    -------
    str
        The link.
    """
    metres = {axis: [size * 1e-9, "m"] for axis, size in zip("zyx", voxel_size_nm, strict=True)}
    layers = [_layer(name, f"{image_url or url_for(remote)}/{col}/{exp}/{name}", "") for col, exp, name in images]
    # The mask is an image of 0 and 255 to BOSS; the shader lets only what was found be seen.
    shader = (
        "void main() { if (toNormalized(getDataValue()) > 0.0) emitRGB(vec3(1.0, 0.2, 0.2)); else emitTransparent(); }"
    )
    layers.append(_layer(destination.channel, f"{url_for(remote)}/{destination}", shader))
    state = {
        "dimensions": {axis: metres[axis] for axis in "xyz"},
        "position": [(start + stop) / 2 for start, stop in reversed(box.ranges)],
        "layers": layers,
        "layout": "4panel",
    }
    return _NEUROGLANCER + quote(json.dumps(state, separators=(",", ":")), safe="")


def _layer(name: str, source: str, shader: str) -> dict[str, Any]:
    """Describe one image layer."""
    look = {"shader": shader} if shader else {"blend": "additive"}
    return {"type": "image", "name": name, "source": f"boss://{source}", **look}
