"""The delivery to ``--out``: labels, mask and points in another folder or in S3, as they are or as a segmentation.

::

    synapses.ome.zarr/  synapses.annotations/  synapses.csv          a folder, s3://
    info  <level>/  <further mask>/  synapses.annotations/           precomputed://
    nd-synapse.json                                                  whose files these are
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from nd_synapse.errors import StorageError, UnavailableError, UsageError, few
from nd_synapse.files.atomic import replacing
from nd_synapse.geometry import Box
from nd_synapse.job.deliverables import deliverables
from nd_synapse.job.job import Job, label_names
from nd_synapse.job.label_files import LABELS
from nd_synapse.job.places import Place, Target
from nd_synapse.job.results import POINTS, table_file, write_file

__all__ = ["NOTE", "check_out", "claim", "compare_out", "deliver"]

log = logging.getLogger(__name__)

NOTE = "nd-synapse.json"
_SCHEMA = "nd-synapse/out/1"
_MOST_BYTES = 2**28
_ELSEWHERE = "Give a folder or prefix of its own"


def check_out(job: Job, root: Path) -> None:
    """Refuse, before the work, a place with anything that this job did not leave there, or in its result folder."""
    if job.out is None:
        return
    target = Target.of(job.out)
    if not target.is_remote and Path(target.where).resolve().is_relative_to(root.resolve()):
        raise UsageError(f"--out {job.out}", "it lies in the result folder", "Give a folder elsewhere")
    _ours(job, target, target.open())


def claim(job: Job, scratch: Path) -> None:
    """Leave the note that the place is this job's: one that may not write there ends before the work."""
    if job.out is None:
        return
    target = Target.of(job.out)
    place = target.open()
    _write_note(job, place, scratch, _ours(job, target, place), is_whole=False)


def deliver(
    job: Job, root: Path, scratch: Path, masks: Sequence[str], voxel_size_nm: tuple[float, float, float]
) -> str:
    """Make the place hold what the result folder does, read it back, and say what is there."""
    target = Target.of(job.out or "")
    place = target.open()
    before = _ours(job, target, place)
    files = _files(root, scratch, target, masks, job.box, voxel_size_nm)
    _write_note(job, place, scratch, before | files.keys(), is_whole=False)
    for name, file in files.items():
        if place.difference(name, file):
            place.send(file, name)
    for name in sorted(before - files.keys()):
        place.remove(name)
    wrong = compare(place, files)
    if wrong:
        requested = f"reading --out {target.uri} back"
        raise UnavailableError(requested, f"it is not what was written: {wrong}", "Run the same command again")
    _write_note(job, place, scratch, files.keys(), is_whole=True)
    return f"{target.uri}: {len(files)} files, read back and equal"


def compare_out(
    uri: str, root: Path, scratch: Path, masks: Sequence[str], box: Box, size_nm: tuple[float, float, float]
) -> str:
    """Say how a place differs from what a result folder holds; empty if it does not."""
    target = Target.of(uri)
    return compare(target.open(), _files(root, scratch, target, masks, box, size_nm))


def compare(place: Place, files: Mapping[str, Path]) -> str:
    """Say how a place differs from files by their name there; empty if it does not."""
    found = {name: place.difference(name, file) for name, file in files.items()}
    wrong = [f"{name}: {difference}" for name, difference in found.items() if difference]
    return few(
        wrong + [f"{name}: not of this run" for name in sorted(set(place.names()) - files.keys() - {NOTE})], "; "
    )


def _files(
    root: Path, scratch: Path, target: Target, masks: Sequence[str], box: Box, voxel_size_nm: tuple[float, float, float]
) -> dict[str, Path]:
    """Return what is delivered, by its name there; a segmentation is made in the scratch folder."""
    parts = (f"{POINTS}/",) if target.is_precomputed else (f"{LABELS}/", f"{POINTS}/", table_file(root).name)
    files = {path.relative_to(root).as_posix(): path for path in deliverables(root)}
    files = {name: path for name, path in files.items() if name.startswith(parts)}
    if target.is_precomputed:
        made = scratch / "precomputed"
        shutil.rmtree(made, ignore_errors=True)
        _write_segmentations(root / LABELS, made, masks, box, voxel_size_nm)
        files |= {path.relative_to(made).as_posix(): path for path in deliverables(made)}
    return files


def _write_segmentations(
    labels: Path, made: Path, masks: Sequence[str], box: Box, voxel_size_nm: tuple[float, float, float]
) -> None:
    """Write each label image as a segmentation: the first at the top, the others in folders of their names."""
    from nd_synapse.files import multiscale, segmentation  # zarr is imported only where it is used

    pyramid = multiscale.Pyramid(box, voxel_size_nm)
    for place, label in enumerate(label_names(masks).values()):
        folder = made / label if place else made

        def create(name: str, folder: Path = folder) -> AbstractContextManager[BinaryIO]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            return write_file(folder, name)

        levels = [multiscale.open_level(labels, level, label) for level in range(len(pyramid.boxes()))]
        segmentation.write_segmentation(create, levels, pyramid)


def _ours(job: Job, target: Target, place: Place) -> set[str]:
    """Return the files of this job at a place; anything else there is refused."""
    note = _note(place)
    if note is not None and note["job"] != _name_of(job):
        raise UsageError(f"--out {target.uri}", f"it has the results of {note['job']}", "Give another --out")
    # without a note one name suffices: the place may be a whole disk
    there = set(islice(place.names(), 1) if note is None else place.names()) - {NOTE if note is not None else ""}
    # what the note lists and is not there is left alone: a name in it may lead anywhere
    ours = there & set(note["files"] if note is not None else ())
    if there != ours:
        found = f"it has files that no run of this job left there: {few(sorted(there - ours))}"
        raise UsageError(f"--out {target.uri}", found, _ELSEWHERE)
    return ours


def _name_of(job: Job) -> str:
    """Identify the jobs that may replace each other's files: those of one pipeline on one box of one volume."""
    return f"{job.results_key} of {'/'.join(job.volume)}"


def _note(place: Place) -> dict[str, Any] | None:
    """Return the note that says whose files a place has; None if there is none of ours."""
    body = place.read(NOTE, _MOST_BYTES)
    try:
        content = json.loads(body or b"{}")
        is_ours = content.get("schema") == _SCHEMA and isinstance(content["job"], str)
        return content if is_ours and all(isinstance(name, str) for name in content["files"]) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _write_note(job: Job, place: Place, scratch: Path, names: Any, *, is_whole: bool) -> None:
    """Write the note; before the first file it lists what may be there, and at the end what is."""
    content = {"schema": _SCHEMA, "job": _name_of(job), "complete": is_whole, "files": sorted(names)}
    file = scratch / NOTE
    try:
        with replacing(file, sync=False) as written:
            written.write(f"{json.dumps(content, indent=1)}\n".encode())
    except OSError as cause:
        raise StorageError(f"writing {file}", str(cause), "Make room") from cause
    if place.difference(NOTE, file):
        place.send(file, NOTE)
