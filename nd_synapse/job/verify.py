"""A result folder, checked again at any later time: its files, its masks in BOSS, its objects in S3.

It mends nothing and writes nothing; what it computes again, `recomputation` does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nd_synapse.boss import push
from nd_synapse.boss.connection import address_of, is_loopback
from nd_synapse.boss.resource import NeuroDataResource
from nd_synapse.credentials import Token
from nd_synapse.errors import (
    DataError,
    NDSynapseError,
    StorageError,
    UnknownNameError,
    UsageError,
    few,
)
from nd_synapse.files import masks as mask_files
from nd_synapse.geometry import Box
from nd_synapse.job import recompute, table_check
from nd_synapse.job.deliverables import links, sums
from nd_synapse.job.manifest import RunFile, read_run_file
from nd_synapse.job.recompute import Differences
from nd_synapse.pipeline import registry

__all__ = ["Check", "Request", "verify"]

SAMPLE = 4

_MOST = 2000
"""Characters of what a check found that are told."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check came to.

    Parameters
    ----------
    name : str
        What was checked: ``files``, ``mask``, ``table``, ``BOSS``, ``S3`` or ``sample``.
    found : str
        What was found, in words.
    good : bool or None
        Whether that is as it should be; None for a check that was not made, for the reason told.
    error : NDSynapseError or None
        What kept a check from being made.
    """

    name: str
    found: str
    good: bool | None = True
    error: NDSynapseError | None = None

    @property
    def mark(self) -> str:
        """What stands before the check where it is told, three characters."""
        if self.good is None:
            return "-- " if self.error is None else "?? "
        return "ok " if self.good else "BAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to check, and against what.

    Parameters
    ----------
    folder : Path
        The folder of a run that ended.
    token : Token or None
        A token that may read; None leaves BOSS alone.
    host : str or None
        BOSS; None for that of the run, if a secret token would go to the default host or stay on this machine.
    bucket : str or None
        S3 bucket, where the folder was uploaded later; None for that of the run.
    remote : bool
        Whether to ask BOSS and S3 at all.
    pipeline : str or None
        ``package.module:function`` of a run with a function of one's own: a name in a file is not trusted to run code.
    sample : int
        Parts of the masks that are computed again.
    seed : int
        Chooses them.
    """

    folder: Path
    token: Token | None = None
    host: str | None = None
    bucket: str | None = None
    remote: bool = True
    pipeline: str | None = None
    sample: int = SAMPLE
    seed: int = 0


def verify(request: Request) -> Iterator[Check]:
    """Check a result folder."""
    run = read_run_file(request.folder)
    # a name that cannot be meant is the user's, and known before any work
    if request.pipeline is not None and registry.build(request.pipeline, {}).name != run.pipeline:
        found = f"the run was one of {run.pipeline}"
        raise UsageError(f"--pipeline {request.pipeline}", found, "Name the pipeline of the run")
    yield _guarded("files", lambda: _files(request.folder, run))
    masks: dict[str, NDArray[np.uint8]] = {}
    for name in run.masks:
        yield _guarded("mask", lambda name=name: _mask(request.folder, run, name, masks))  # type: ignore[misc]
    yield _guarded("table", lambda: _table(request.folder, run, masks))
    if not request.remote:
        return
    if run.output is None:
        yield Check("BOSS", "the run pushed nothing", good=None)
    else:
        for name in run.masks:
            yield _guarded("BOSS", lambda name=name: _in_boss(request, run, name, masks))  # type: ignore[misc]
    yield _guarded("S3", lambda: _in_s3(request, run))
    yield _guarded("sample", lambda: _sample(request, run, masks))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Make a check; data that cannot be used are what it looks for, and one that cannot be made hides no other."""
    try:
        return check()
    except (DataError, UnknownNameError) as error:
        return Check(name, f"{error.requested}: {error.found}", good=False)
    except NDSynapseError as error:
        return Check(name, f"could not be looked at: {error}", good=None, error=error)


def _files(folder: Path, run: RunFile) -> Check:
    """Compare every file with its sum."""
    held = {name: (one["bytes"], one["sha256"]) for name, one in sums(folder).items()}
    linked = links(folder)
    bad = "; ".join(filter(None, [run.unlike(held), f"symbolic links: {few(linked)}" if linked else ""]))
    return Check("files", bad or f"{len(held)} files are what run.json says", not bad)


def _mask(folder: Path, run: RunFile, name: str, masks: dict[str, NDArray[np.uint8]]) -> Check:
    """Compare the two files of a mask; keep the mapped one for the checks that follow."""
    pickled, tiff = (folder / f"{run.masks[name]}{suffix}" for suffix in mask_files.SUFFIXES)
    total, other, found = Differences(), 0, 0
    try:
        _refuse_special(pickled)
        _refuse_special(tiff)
        mask = mask_files.map_pickle(pickled, run.box.shape)
        for z, plane in enumerate(mask_files.tiff_slices(tiff, run.box.shape)):
            here = Box((run.box.z[0] + z, run.box.z[0] + z + 1), run.box.y, run.box.x)
            total += Differences.between(mask[z : z + 1], plane[None], here)
            found += int(np.count_nonzero(plane))
            other += int(np.count_nonzero((plane != 0) & (plane != 255)))
    except FileNotFoundError as error:
        raise DataError(f"mask {name}", f"there is no {Path(error.filename).name}", "Run the job again") from error
    except OSError as error:
        raise StorageError(f"mask {name} in {folder}", str(error), "Check your right to read it") from error
    masks[name] = mask
    values = f", {other:,} are neither 0 nor 255" if other else ""
    told = run.voxels.get(name)
    contradicted = f", run.json says {told}" if told != found else ""
    return Check(
        "mask",
        f"{pickled.name} and {tiff.name}: {total}{values}; {found:,} found{contradicted}",
        not (total.voxels or other or contradicted),
    )


def _table(folder: Path, run: RunFile, masks: dict[str, NDArray[np.uint8]]) -> Check:
    """Hold the rows of the table against run.json and the first mask."""
    first = next(iter(run.masks))
    rows, voxels = 0, 0
    for number, row in table_check.read(folder / table_check.NAME):
        rows, voxels = number, voxels + table_check.check(row, number, run, masks.get(first))
    in_mask = int(np.count_nonzero(masks[first])) if first in masks else None
    wanted = (run.synapses, run.voxels[first]) if first in run.voxels else None
    good = (rows, voxels) == wanted and in_mask in (None, voxels)
    said = f"; run.json says {wanted}, the mask has {in_mask} voxels" if not good else ", as run.json and the mask have"
    return Check("table", f"{rows:,} synapses of {voxels:,} voxels{said}", good)


def _refuse_special(path: Path) -> None:
    """Refuse what is there and no file, such as a pipe, which would be waited for."""
    if path.exists() and not path.is_file():
        raise DataError(path.name, "it is no file", "Run the job again")


def _in_boss(request: Request, run: RunFile, name: str, masks: dict[str, NDArray[np.uint8]]) -> Check:
    """Pull a mask's channel and compare."""
    assert run.output is not None
    if name in run.not_in_boss:
        return Check("BOSS", f"{name} was to be pushed, and is not there: {run.not_in_boss[name]}", good=False)
    if request.token is None or name not in masks:
        lacking = "token" if request.token is None else "mask"
        return Check("BOSS", f"{name} was not compared: there is no {lacking}", good=None)
    destination = push.Destination(*run.output, f"{run.key}_{name}")
    total = Differences()
    remote = push.connect(_host(request, request.token, run), request.token)
    for block, held in push.held_blocks(remote, destination, run.box):
        total += Differences.between(masks[name][block.slices(run.box.start)], held, block)
    return Check("BOSS", f"{destination}: {total}", not total.voxels)


def _host(request: Request, token: Token, run: RunFile) -> str:
    """Return where BOSS is; a secret goes nowhere by the word of a file alone."""
    if request.host is not None:
        return request.host
    address = address_of(run.host)
    if token.is_secret and address != address_of(push.DEFAULT_HOST) and not is_loopback(address):
        raise UsageError(
            f"BOSS at {address}",
            "only run.json names it, which may come from anybody, and your token is to be sent there",
            f"If the token is for that host, add --host {address}; otherwise --token public, or --offline",
        )
    return run.host


def _in_s3(request: Request, run: RunFile) -> Check:
    """Compare the objects with the files."""
    bucket = request.bucket or run.bucket
    if bucket is None:
        return Check("S3", "the run uploaded nothing, and no --bucket was given", good=None)
    from nd_synapse.aws import upload  # only who asks S3 waits for boto3

    prefix = run.key
    try:
        compared = upload.compare_folder(request.folder, bucket, prefix)
    except UnknownNameError as error:
        if request.bucket is None:
            raise
        # it is not the run that has no such bucket
        return Check("S3", f"could not be looked at: {error}", good=None, error=error)
    faults = [f"{key}: {fault}" for key, fault in compared.items()]
    return Check("S3", few(faults, "; ") or f"s3://{bucket}/{prefix}/ has what the folder has", not faults)


def _sample(request: Request, run: RunFile, masks: dict[str, NDArray[np.uint8]]) -> Check:
    """Compute some parts of the masks again."""
    if request.sample == 0 or request.token is None or len(masks) < len(run.masks):
        return _not_again("that takes a token, masks, and a --sample above 0")
    name = request.pipeline or run.pipeline
    if name not in registry.names() and request.pipeline is None:
        return _not_again(f"{name} is no pipeline of ours; name yours with --pipeline")
    pipeline = recompute.pipeline_of(name, run.parameters, run.roles, run.masks)
    z, y, x = run.box.ranges
    host = _host(request, request.token, run)
    source = NeuroDataResource(host, request.token, run.collection, run.experiment, list(run.roles.values()), x, y, z)
    parts = recompute.parts(run.box, run.failed_blocks)
    chosen = random.Random(request.seed).sample(parts, min(request.sample, len(parts)))  # noqa: S311 - no secret
    total, same = Differences(), 0
    faults: list[str] = []
    rows = _rows_in(request.folder, run, chosen)
    measured = next((table_check.measured(row) for of_part in rows.values() for _, row in of_part), [])
    for part in sorted(chosen):
        again = recompute.recompute(
            source, pipeline, run.roles, run.finding, run.box, masks, part, run.failed_blocks, measured
        )
        total = sum(again.masks.values(), total)
        equal, wrong = table_check.compare(rows[part], again)
        same, faults = same + equal, faults + wrong
    if not total.compared:
        return _not_again(f"of {len(parts)} parts off the holes of the run, {total}")
    told = f"; {few(faults, '; ')}" if faults else f"; {same:,} rows are what was computed"
    found = f"{len(chosen)} of {len(parts)} parts computed again: {total}{told}"
    return Check("sample", found, not (total.voxels or faults))


def _rows_in(folder: Path, run: RunFile, parts: Sequence[Box]) -> dict[Box, list[tuple[int, table_check.Row]]]:
    """Return the rows of the table by the parts that their boxes reach into."""
    found: dict[Box, list[tuple[int, table_check.Row]]] = {part: [] for part in parts}
    for number, row in table_check.read(folder / table_check.NAME):
        table_check.check(row, number, run)
        for part in parts:
            if table_check.lies_in(row, part):
                found[part].append((number, row))
    return found


def _not_again(reason: str) -> Check:
    """Say why there was no sample."""
    return Check("sample", f"nothing was computed again: {reason}", good=None)
