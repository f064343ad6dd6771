"""The synthetic sample: a generated experiment in a data folder, and its truth beside it."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nd_synapse.console import app
from nd_synapse.errors import RangeError, StorageError
from nd_synapse.files.atomic import replacing
from nd_synapse.files.stacks import stack_of_array
from nd_synapse.geometry import Box
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import FRAMES
from nd_synapse.local_boss.ingest import catalog_errors, ingest, three_integers
from nd_synapse.local_boss.responses import MissingError
from nd_synapse.local_boss.synthetic import Synapses, generate

__all__ = [
    "COLLECTION",
    "DESCRIPTION",
    "EXPERIMENT",
    "SampleInfo",
    "add_arguments",
    "run",
    "write_sample",
]

logger = logging.getLogger(__name__)

COLLECTION = "synthetic"
EXPERIMENT = "array_tomography"
DESCRIPTION = "Synthetic, not measured"
TRUTH_CSV = "synthetic_synapses.csv"
SHAPE = (24, 768, 768)
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
SEED = 0

_COLUMNS = ("id", "type", "z", "y", "x", "z_um", "y_um", "x_um", "volume_um3", "radius_um")


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """What was written."""

    collection: str
    experiment: str
    channels: tuple[str, ...]
    box: Box
    voxel_size_nm: tuple[float, float, float]
    truth_csv: Path
    """One row a planted synapse; columns as in ``docs/sample.md``."""
    synapses: int


def write_sample(
    boss: Boss,
    shape: tuple[int, int, int] = SHAPE,
    seed: int = SEED,
    *,
    voxel_size_nm: tuple[float, float, float] = VOXEL_SIZE_NM,
) -> SampleInfo:
    """Write the synthetic experiment and its truth; the same arguments give the same voxels, however often."""
    _check_earlier(boss, shape)
    volume = generate(shape, voxel_size_nm, seed)
    # the truth of an earlier sample must not stand beside the voxels of this one if this call is stopped half-way
    truth = boss.data / TRUTH_CSV
    with _storage_errors(truth):
        truth.unlink(missing_ok=True)
    stored = []
    for name, voxels in volume.channels.items():
        one = ingest(
            boss,
            COLLECTION,
            EXPERIMENT,
            name,
            stack_of_array(voxels, f"synthetic channel {name}"),
            voxel_size_nm,
            public=True,
            description=DESCRIPTION,
            overwrite=True,
        )
        stored.append(one)
        logger.info("stored %s", name)
    _write_truth(truth, volume.synapses)
    names = tuple(volume.channels)
    return SampleInfo(COLLECTION, EXPERIMENT, names, stored[0].box, voxel_size_nm, truth, len(volume.synapses))


def _check_earlier(boss: Boss, shape: tuple[int, int, int]) -> None:
    """Raise RangeError if the folder holds a sample of another shape: part of it would stay beside the new one."""
    name = f"{COLLECTION}_{EXPERIMENT}"
    with catalog_errors(f"the sample's coordinate frame {name}", "Use another --data folder"):
        try:
            frame = boss.catalog.get(FRAMES, name)
        except MissingError:
            return
    if (frame.start, frame.stop) != ((0, 0, 0), tuple(shape)):
        found = f"the folder holds a sample of the shape {','.join(map(str, frame.stop))}"
        raise RangeError(f"a sample of the shape {','.join(map(str, shape))}", found, "Use another --data folder")


def _write_truth(path: Path, synapses: Synapses) -> None:
    rows = zip(
        range(1, len(synapses) + 1),
        synapses.types,
        *synapses.centre.T,
        *synapses.centre_um.T,
        synapses.volume_um3,
        synapses.radius_um,
        strict=True,
    )
    lines = [",".join([str(row[0]), row[1], *(f"{value:.6g}" for value in row[2:])]) for row in rows]
    with _storage_errors(path), replacing(path) as file:
        file.write("".join(f"{line}\n" for line in [",".join(_COLUMNS), *lines]).encode())


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError."""
    try:
        yield
    except OSError as error:
        remedy = "Check the disk's space and your rights, then write the sample anew"
        raise StorageError(str(path), error.strerror or str(error), remedy) from error


# --- command line -------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``sample`` to a parser."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data folder, made if missing")
    shape = ",".join(map(str, SHAPE))
    parser.add_argument(
        "--shape", type=three_integers, default=SHAPE, metavar="Z,Y,X", help=f"extents in voxels; default: {shape}"
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"another seed, another volume; default: {SEED}")


def run(args: argparse.Namespace) -> int:
    """Run ``sample``."""
    started = time.monotonic()
    boss = Boss(args.data)
    try:
        info = write_sample(boss, args.shape, args.seed)
    finally:
        boss.close()
    extent = " x ".join(map(str, info.box.shape))
    return app.write_stdout(
        f"{DESCRIPTION}: {info.collection}/{info.experiment}, {extent} voxels (z, y, x), seed {args.seed}, "
        f"{time.monotonic() - started:.1f} s.\n"
        f"Channels: {', '.join(info.channels)}\n"
        f"Planted synapses: {info.synapses:,}, in {info.truth_csv}\n"
        f"To read them: nd-synapse boss serve --data {args.data}\n"
    )
