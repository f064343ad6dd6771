"""Ingest: a stack of slices becomes a channel of a data folder, also while a server serves it."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nd_synapse.console import app
from nd_synapse.errors import DataError, RangeError, UsageError
from nd_synapse.files.stacks import Stack, open_stack
from nd_synapse.geometry import NANOMETRES, VOXEL_SIZES, Box, are_voxel_sizes
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES
from nd_synapse.local_boss.models import Channel, CoordinateFrame
from nd_synapse.local_boss.responses import BossError, MissingError
from nd_synapse.local_boss.schema import LARGEST_INTEGER, LONGEST_NAME, NAME
from nd_synapse.local_boss.voxels import CHUNK

__all__ = ["Ingested", "add_arguments", "catalog_errors", "ingest", "run", "three_integers", "three_numbers"]

logger = logging.getLogger(__name__)

SLAB_BYTES = 64 * 2**20
"""Target size of a slab; two are in memory while the next one is read."""

_TIMES = (0, 1)
_TYPES = ("uint8", "uint16", "uint64")

Triple = tuple[int, int, int]
Size = tuple[float, float, float]
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was stored."""

    channel: Channel
    box: Box
    """Where the stack lies in the experiment."""


def ingest(
    boss: Boss,
    collection: str,
    experiment: str,
    channel: str,
    stack: Stack,
    voxel_size_nm: Size,
    *,
    kind: str | None = None,
    origin: Triple = (0, 0, 0),
    public: bool = False,
    description: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Ingested:
    """Store a stack as a channel; collection, coordinate frame, experiment and channel are made where missing.

    A new coordinate frame is as large as the stack and begins at its origin; it is called
    ``<collection>_<experiment>``. Slices are streamed, some `SLAB_BYTES` at a time.
    """
    stack = _for_boss(stack)
    _check_names(collection, experiment, channel)
    box = _placed(stack, origin)
    _check_voxel_size(voxel_size_nm)
    stack.check_voxel_size(voxel_size_nm)
    wanted = {"type": _channel_type(stack, kind), "datatype": stack.dtype.name}
    fields = {"public": public, "description": description}
    with catalog_errors(f"channel {collection}/{experiment}/{channel}"):
        frame = _frame_of(boss, collection, experiment)
        if frame is None:
            _create_experiment(boss, collection, experiment, box, voxel_size_nm, fields)
        else:
            _check_frame(frame, f"{collection}/{experiment}", box, voxel_size_nm)
        found = _channel(boss, collection, experiment, channel, {**fields, **wanted})
        if public:
            _publish(boss, found)
    _make_room(boss, found, overwrite)
    for z_start, slab in stack.slabs(_slab_depth(stack), box.z[0]):
        part = Box.of_shape(slab.shape, (box.z[0] + z_start, box.y[0], box.x[0]))
        boss.voxels.write(found, 0, part, _TIMES, slab[None])
        if progress is not None:
            progress(len(slab))
    return Ingested(found, box)


def _for_boss(stack: Stack) -> Stack:
    """Return a stack of a type that BOSS holds; bool becomes uint8."""
    if stack.dtype == np.bool_:
        return replace(stack, dtype=np.dtype(np.uint8))
    if stack.dtype.name not in _TYPES:
        wanted = "uint64 (annotation)" if stack.dtype.itemsize > 2 else "uint16"
        found = f"it holds {stack.dtype.name}, and BOSS holds {', '.join(_TYPES)}"
        remedy = f"Save it as {wanted}, after making sure that no value is negative or too large for that"
        raise DataError(stack.name, found, remedy)
    return stack


def _check_names(*names: str) -> None:
    for name in names:
        if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            found = f"a name has letters, digits, _ and -, and at most {LONGEST_NAME} of them"
            raise UsageError(f"name {name[:80]!r}", found, "Choose another name")
    total = len("&".join(names))
    if total > LONGEST_NAME:
        found = f"collection, experiment and channel take {total} characters together, BOSS allows {LONGEST_NAME}"
        raise UsageError(f"channel {'/'.join(names)[:80]}…", found, "Choose shorter names")


def _placed(stack: Stack, origin: Triple) -> Box:
    """Return where the stack lies, or raise RangeError where BOSS has no coordinates."""
    box = Box.of_shape(stack.shape, origin)
    if min(box.start) < 0 or max(box.stop) > LARGEST_INTEGER:
        found = f"it would lie at {box}, and voxels count from 0 to {LARGEST_INTEGER:,}"
        raise RangeError(f"{stack.name} at origin {origin}", found, "Give another --origin Z,Y,X")
    return box


def _check_voxel_size(voxel_size_nm: Size) -> None:
    if not are_voxel_sizes(voxel_size_nm):
        remedy = f"Give {VOXEL_SIZES}, such as 70,100,100"
        raise RangeError(f"voxel size {voxel_size_nm}", "a voxel has a positive size, within limits", remedy)


def _channel_type(stack: Stack, kind: str | None) -> str:
    if kind == "image" and stack.dtype.name == "uint64":
        found = "BOSS keeps uint64 in annotation channels only"
        raise DataError(f"{stack.name} as image", found, "Use --type annotation, or convert it to uint16")
    return kind or ("annotation" if stack.dtype.name == "uint64" else "image")


def _slab_depth(stack: Stack) -> int:
    """Return how many slices to hold: whole chunks, or an even part of one where slices are large."""
    depth = SLAB_BYTES // stack.slice_bytes
    chunk = CHUNK[0]
    if depth >= chunk:
        return depth // chunk * chunk
    return max(divisor for divisor in range(1, chunk) if chunk % divisor == 0 and divisor <= max(depth, 1))


@contextmanager
def catalog_errors(
    requested: str, remedy: str = "Choose another name; one that was deleted stays taken"
) -> Iterator[None]:
    """Turn a refusal of the catalog into a UsageError."""
    try:
        yield
    except BossError as error:
        raise UsageError(requested, error.message.rstrip("."), remedy) from error


def _frame_of(boss: Boss, collection: str, experiment: str) -> CoordinateFrame | None:
    """Return the coordinate frame of an experiment, None if there is no such experiment."""
    try:
        found = boss.catalog.get(EXPERIMENTS, collection, experiment)
    except MissingError:
        return None
    return boss.catalog.get(FRAMES, found.coord_frame)


def _create_experiment(
    boss: Boss, collection: str, experiment: str, box: Box, voxel_size_nm: Size, fields: dict[str, object]
) -> None:
    try:
        boss.catalog.get(COLLECTIONS, collection)
    except MissingError:
        boss.catalog.create(COLLECTIONS, collection, fields=fields)
    name = f"{collection}_{experiment}"
    try:
        # left by an ingest that was stopped right here
        _check_frame(boss.catalog.get(FRAMES, name), f"coordinate frame {name}", box, voxel_size_nm)
    except MissingError:
        boss.catalog.create(FRAMES, name, fields=_frame_fields(box, voxel_size_nm))
    boss.catalog.create(EXPERIMENTS, collection, experiment, fields={**fields, "coord_frame": name})


def _frame_fields(box: Box, voxel_size_nm: Size) -> dict[str, object]:
    fields: dict[str, object] = {"voxel_unit": "nanometers"}
    for axis, (start, stop), size in zip("zyx", box.ranges, voxel_size_nm, strict=True):
        fields |= {f"{axis}_start": start, f"{axis}_stop": stop, f"{axis}_voxel_size": float(size)}
    return fields


def _check_frame(frame: CoordinateFrame, owner: str, box: Box, voxel_size_nm: Size) -> None:
    """Raise RangeError or DataError if the stack does not fit into an existing experiment."""
    extent = Box(*zip(frame.start, frame.stop, strict=True))
    if not extent.contains(box):
        remedy = "Give an --origin within it, a smaller stack, or another --exp for a new experiment"
        raise RangeError(f"the stack at {box}", f"{owner} exists and extends over {extent}", remedy)
    scale = NANOMETRES[frame.voxel_unit]
    there = tuple(size * scale for size in frame.voxel_size)
    if not all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(there, voxel_size_nm, strict=True)):
        found = f"{owner} exists with voxels of {_sizes(there)} nm (z, y, x)"
        remedy = f"Use --voxel-size-nm {_sizes(there)}, or another --exp for a new experiment"
        raise DataError(f"voxel size {_sizes(voxel_size_nm)} nm", found, remedy)


def _sizes(sizes: tuple[float, ...]) -> str:
    return ",".join(f"{size:g}" for size in sizes)


def _channel(boss: Boss, collection: str, experiment: str, name: str, fields: dict[str, object]) -> Channel:
    """Return the channel, made if it is missing."""
    try:
        found = boss.catalog.get(CHANNELS, collection, experiment, name)
    except MissingError:
        return boss.catalog.create(CHANNELS, collection, experiment, name, fields=fields)
    wanted = (fields["type"], fields["datatype"], 0)
    there = (found.type, found.datatype, found.base_resolution)
    if there != wanted:
        has = f"the channel exists as {there[0]} of {there[1]} with base resolution {there[2]}"
        requested = f"{wanted[0]} of {wanted[1]} into {collection}/{experiment}/{name}"
        raise DataError(requested, has, "Choose another --chan, or convert the stack")
    return found


def _publish(boss: Boss, channel: Channel) -> None:
    """Make a channel, its experiment and its collection public, also where they existed before."""
    boss.catalog.update(COLLECTIONS, channel.collection, fields={"public": True})
    boss.catalog.update(EXPERIMENTS, channel.collection, channel.experiment, fields={"public": True})
    # an update of a channel takes away the links that it does not name
    fields = {"public": True, "sources": channel.sources, "related": channel.related}
    boss.catalog.update(CHANNELS, channel.collection, channel.experiment, channel.name, fields=fields)


def _make_room(boss: Boss, channel: Channel, overwrite: bool) -> None:
    """Erase what the channel holds: writing merges, and zeros of the stack would not show."""
    name = f"{channel.collection}/{channel.experiment}/{channel.name}"
    if overwrite:
        boss.voxels.erase(channel, 0, Box.of_shape(channel.frame_stop), _TIMES)
    elif any(data.any() for _, _, data in boss.voxels.chunks(channel, 0)):
        remedy = "Use --overwrite to make it equal to the stack, or another --chan"
        raise UsageError(f"ingest into {name}", "the channel holds data already", remedy)


# --- command line -------------------------------------------------------------------------------------------------


def three_numbers(text: str) -> Size:
    """Parse ``Z,Y,X`` as numbers, for argparse."""
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError("it is not three numbers Z,Y,X, such as 70,100,100") from error
    return (z, y, x)


def three_integers(text: str) -> Triple:
    """Parse ``Z,Y,X`` as whole numbers, for argparse."""
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError("it is not three whole numbers Z,Y,X, such as 24,768,768") from error
    return (z, y, x)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``ingest`` to a parser."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data folder, made if missing")
    parser.add_argument("--col", required=True, help="collection, made if missing")
    parser.add_argument("--exp", required=True, help="experiment, made if missing, as large as the stack")
    parser.add_argument("--chan", required=True, help="channel")
    parser.add_argument(
        "--voxel-size-nm", type=three_numbers, required=True, metavar="Z,Y,X", help="voxel size in nanometres"
    )
    parser.add_argument(
        "--type", choices=["image", "annotation"], help="type of the channel; default: annotation for uint64, or image"
    )
    parser.add_argument(
        "--origin",
        type=three_integers,
        default=(0, 0, 0),
        metavar="Z,Y,X",
        help="where the first voxel lies in the experiment; default: 0,0,0",
    )
    parser.add_argument(
        "--pattern",
        metavar="NAME",
        help="which of the files are the slices, and what counts them: {z} for the number, * for any text",
    )
    parser.add_argument("--public", action="store_true", help="let everybody read it")
    parser.add_argument("--overwrite", action="store_true", help="make a channel that holds data equal to the stack")
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="one multi-page TIFF, Zarr array or .npy file; or one single-page TIFF a slice",
    )


def run(args: argparse.Namespace) -> int:
    """Run ``ingest``."""
    # tifffile logs what it finds wrong with a file; our error follows, in one line
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    stack = open_stack(args.files, args.pattern)
    boss = Boss(args.data)
    try:
        with _shown(stack.shape[0], args.chan) as progress:
            done = ingest(
                boss,
                args.col,
                args.exp,
                args.chan,
                stack,
                args.voxel_size_nm,
                kind=args.type,
                origin=args.origin,
                public=args.public,
                overwrite=args.overwrite,
                progress=progress,
            )
    finally:
        boss.close()
    return app.write_stdout(_summary(done, args.data))


def _summary(done: Ingested, data: Path) -> str:
    channel = done.channel
    ranges = "/".join(f"{start}:{stop}" for start, stop in reversed(done.box.ranges))
    path = f"{channel.collection}/{channel.experiment}/{channel.name}"
    extent = " x ".join(map(str, done.box.shape))
    return (
        f"Stored {extent} voxels (z, y, x) of {channel.datatype} as {channel.type} {path}, {done.box}.\n"
        f"To read them: nd-synapse boss serve --data {data}\n"
        f"and from its address: /v1/cutout/{path}/0/{ranges}/\n"
    )


@contextmanager
def _shown(slices: int, name: str) -> Iterator[Progress]:
    """Show progress as a bar on a terminal, as a log line for every tenth part elsewhere."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=slices, unit="slice", desc=name) as bar:
            yield bar.update
        return
    done = 0

    def log(more: int) -> None:
        nonlocal done
        before, done = done, done + more
        if before * 10 // slices != done * 10 // slices:
            logger.info("%s: %d of %d slices stored", name, done, slices)

    yield log
