"""Checks of a result folder at any later time: its files, its masks in BOSS, its objects in S3, a sample of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nd_synapse.boss.address import DEFAULT_HOST, address_of, is_loopback
from nd_synapse.credentials import Token
from nd_synapse.errors import DataError, NDSynapseError, UnknownNameError, UsageError, few
from nd_synapse.files import masks as mask_files
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import check_voxel_size, shown_size
from nd_synapse.job import rows
from nd_synapse.job.deliverables import checksums, symlinks
from nd_synapse.job.job import label_names, labels_channel
from nd_synapse.job.label_files import LABELS
from nd_synapse.job.labels import compare_labels, mask_in_labels
from nd_synapse.job.manifest import RunFile, read_run_file
from nd_synapse.job.out import compare_out
from nd_synapse.job.recompute import Differences, Known, parts, recompute
from nd_synapse.job.results import table_file
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline
from nd_synapse.sources.source import open_source
from nd_synapse.volumes import Source, Volume

__all__ = ["Check", "Request", "mask_of", "source_of", "verify"]

log = logging.getLogger(__name__)

SAMPLE = 4


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    """``files``, ``labels``, ``BOSS``, ``out``, ``S3`` or ``sample``."""
    found: str
    good: bool | None = True
    """None for a check that was not made."""
    error: NDSynapseError | None = None
    """What kept the check from being made."""

    @property
    def mark(self) -> str:
        """What is printed before the check, three characters."""
        if self.good is None:
            return "-- " if self.error is None else "?? "
        return "ok " if self.good else "BAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to check, and against what."""

    folder: Path
    """The folder of a run that ended."""
    token: Token | None = None
    """A token that may read; None skips BOSS and the sample."""
    host: str | None = None
    """BOSS; None for that of the run, see `_host`."""
    source: str | None = None
    """Where the volume lies, if it is not in BOSS; None for where the run found it."""
    bucket: str | None = None
    """S3 bucket; None for that of the run."""
    remote: bool = True
    """Whether to ask BOSS and S3 at all."""
    pipeline: str | None = None
    """``package.module:function`` of the run: a name in a file must not run code."""
    sample: int = SAMPLE
    """Parts of the masks to compute again."""
    seed: int = 0
    """Chooses them."""


def verify(request: Request) -> Iterator[Check]:
    """Check a result folder; nothing is changed."""
    run = read_run_file(request.folder)
    if request.pipeline is not None and registry.build(request.pipeline, {}).name != run.pipeline:
        found = f"the run was one of {run.pipeline}"
        raise UsageError(f"--pipeline {request.pipeline}", found, "Name the pipeline of the run")
    yield _guarded("files", partial(_files, request.folder, run))
    yield _guarded("labels", partial(_labels, request.folder, run))
    if not request.remote:
        return
    if run.output is None:
        yield Check("BOSS", "the run pushed nothing", good=None)
    else:
        for name in (*run.masks, *([labels_channel(list(run.masks))] if run.has_labels_in_boss else [])):
            yield _guarded("BOSS", partial(_in_boss, request, run, run.output, name))
    if run.out is not None:
        yield _guarded("out", partial(_in_out, request.folder, run, run.out))
    yield _guarded("S3", partial(_in_s3, request, run))
    yield _guarded("sample", partial(_sample, request, run))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Make a check; one that cannot be made does not prevent the others."""
    log.info("checking: %s", name)
    try:
        return check()
    except (DataError, UnknownNameError) as error:
        return Check(name, f"{error.requested}: {error.found}", good=False)
    except NDSynapseError as error:
        return Check(name, f"could not be checked: {error}", good=None, error=error)


def _files(folder: Path, run: RunFile) -> Check:
    """Compare every file with its checksum."""
    held, linked = checksums(folder), symlinks(folder)
    bad = "; ".join(filter(None, [run.unlike(held), f"symbolic links: {few(linked)}" if linked else ""]))
    return Check("files", bad or f"{len(held)} files are as run.json lists them", not bad)


def _labels(folder: Path, run: RunFile) -> Check:
    """Compare the labels with masks and table."""
    if not any(name.startswith(f"{LABELS}/") for name in run.files):
        return Check("labels", f"the run wrote no {LABELS}", good=None)
    return Check("labels", *compare_labels(folder, list(run.masks), partial(mask_of, folder, run)))


def mask_of(folder: Path, run: RunFile, name: str) -> Volume:
    """Open a mask, shape (z, y, x) of the box: its pickle, which is not unpickled, or its labels if it has none."""
    path = folder / f"{run.masks[name]}.pkl"
    if path.name not in run.files and run.box.voxels > mask_files.MOST_VOXELS:
        return mask_in_labels(folder, list(run.masks), name)
    if not path.is_file():
        raise DataError(path.name, "there is no such file", "Run the job again")
    with reading(path):
        return mask_files.map_pickle(path, run.box.shape)


def _in_boss(request: Request, run: RunFile, output: tuple[str, str], name: str) -> Check:
    """Pull a mask's channel and compare."""
    if name in run.not_in_boss:
        return Check("BOSS", f"{name} was to be pushed, and is not there: {run.not_in_boss[name]}", good=False)
    if request.token is None:
        return Check("BOSS", f"{name} was not compared: there is no token", good=None)
    from nd_synapse.boss import push  # intern is imported only where it is used

    pushed = mask_of(request.folder, run, name) if name in run.masks else _first_labels(request.folder, run)
    destination = push.Destination(*output, f"{run.key}_{name}")
    total = Differences()
    remote = push.connect(_host(request, request.token, run), request.token)
    for block, held in push.held_blocks(remote, destination, run.box):
        total += Differences.between(pushed[block.slices(run.box.start)], held, block)
    return Check("BOSS", f"{destination}: {total}", not total.voxels)


def _first_labels(folder: Path, run: RunFile) -> Any:
    """Open the labels of the first mask, shape (z, y, x) of the box."""
    from nd_synapse.files.multiscale import open_level  # zarr is imported only where it is used

    with reading(folder / LABELS):
        return open_level(folder / LABELS, 0, next(iter(label_names(list(run.masks)).values())))


def _host(request: Request, token: Token, run: RunFile) -> str:
    """Return where BOSS is; a secret token is not sent to a host that only run.json names."""
    if request.host is not None:
        return request.host
    address = address_of(run.host)
    if token.is_secret and address != address_of(DEFAULT_HOST) and not is_loopback(address):
        raise UsageError(
            f"BOSS at {address}",
            "only run.json names it, which may come from anybody, and your token would be sent there",
            f"If the token is for that host, add --host {address}; otherwise --token public, or --offline",
        )
    return run.host


def _in_out(folder: Path, run: RunFile, uri: str) -> Check:
    """Compare what was written to ``--out`` with the folder."""
    with TemporaryDirectory() as scratch:
        wrong = compare_out(uri, folder, Path(scratch), list(run.masks), run.box, run.voxel_size_nm)
    return Check("out", f"{uri}: {wrong}" if wrong else f"{uri} has what the folder has", not wrong)


def _in_s3(request: Request, run: RunFile) -> Check:
    """Compare the objects with the files."""
    bucket = request.bucket or run.bucket
    if bucket is None:
        return Check("S3", "the run uploaded nothing, and no --bucket was given", good=None)
    from nd_synapse.job import upload  # boto3 is imported only where it is used

    try:
        compared = upload.compare_folder(request.folder, bucket, run.key)
    except UnknownNameError as error:
        if request.bucket is None:
            raise
        # the user's mistake, not a fault of the run
        return Check("S3", f"could not be checked: {error}", good=None, error=error)
    faults = [f"{key}: {fault}" for key, fault in compared.items()]
    return Check("S3", few(faults, "; ") or f"s3://{bucket}/{run.key}/ has what the folder has", not faults)


def _sample(request: Request, run: RunFile) -> Check:
    """Compute some parts of the masks, and the rows in them, again."""
    if request.sample == 0 or (request.token is None and run.source is None):
        return _nothing("that takes a token and a --sample above 0")
    if run.pipeline not in registry.names() and request.pipeline is None:
        return _nothing(f"{run.pipeline} is not an installed pipeline; name yours with --pipeline")
    masks = {name: mask_of(request.folder, run, name) for name in run.masks}
    all_parts = parts(run.box, run.failed_blocks)
    chosen = random.Random(request.seed).sample(all_parts, min(request.sample, len(all_parts)))  # noqa: S311 - no secret
    headings, in_parts = rows.rows_in(table_file(request.folder), chosen)
    known = Known(
        source=source_of(request, run, list(run.roles.values())),
        pipeline=_pipeline(request.pipeline or run.pipeline, run),
        roles=run.roles,
        finding=run.finding,
        brightness=run.brightness,
        box=run.box,
        failed_blocks=run.failed_blocks,
        measured=rows.measured(headings),
    )
    total, equal = Differences(), 0
    faults: list[str] = []
    for part in sorted(chosen):
        again = recompute(known, masks, part)
        total = sum(again.masks.values(), total)
        same, wrong = rows.compare(in_parts[part], again)
        equal, faults = equal + same, faults + wrong
    if not total.compared:
        return _nothing(f"of {len(all_parts)} parts away from failed blocks, {total}")
    compared_rows = few(faults, "; ") if faults else f"{equal:,} rows are equal"
    found = f"{len(chosen)} of {len(all_parts)} parts computed again: {total}; {compared_rows}"
    return Check("sample", found, not (total.voxels or faults))


def source_of(request: Request, run: RunFile, channels: Sequence[str]) -> Source:
    """Open the volume of a run, with some of its channels, none meaning all."""
    z, y, x = run.box.ranges
    if run.source is not None:
        location = run.source if request.source is None else run.source.of(request.source)
        source = open_source(location).part((z, y, x), channels)
        size = source.frame.voxel_size_nm
        try:
            check_voxel_size(location.uri, size, run.voxel_size_nm)
        except DataError:
            found = f"its voxels have {shown_size(size)} nm (z, y, x), those of the run {shown_size(run.voxel_size_nm)}"
            raise DataError(location.uri, found, "Give the volume of the run with --source") from None
        return source
    from nd_synapse.boss.resource import NeuroDataResource

    assert request.token is not None
    host = _host(request, request.token, run)
    where = (host, request.token, run.collection, run.experiment, channels, x, y, z)
    return NeuroDataResource(*where, resolution=run.resolution)


def _nothing(reason: str) -> Check:
    """Return a sample that was not computed."""
    return Check("sample", f"nothing was computed again: {reason}", good=None)


def _pipeline(name: str, run: RunFile) -> Pipeline:
    """Build the pipeline of a run with its parameters."""
    remedy = "The run was made by another version: run the job again"
    try:
        pipeline = registry.build(name, run.parameters)
    except UnknownNameError:
        raise
    except UsageError as error:
        raise DataError(f"{error.requested} in run.json", error.found, remedy) from error
    masks = pipeline.masks_of(run.roles)
    if set(run.masks) != set(masks):
        found = f"{name} gives {', '.join(masks)}"
        raise DataError(f"masks {', '.join(run.masks)} in run.json", found, remedy)
    return pipeline
