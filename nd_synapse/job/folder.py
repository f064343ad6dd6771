"""The result folder of one job: masks, tables, links, manifest and log, each written whole or not at all.

It sends nothing anywhere and computes nothing: the numbers come in as arrays, and `s3` carries the folder away.

::

    <path>/<results_key>/
        nomads-unsupervised-predictions.pkl        the mask, a pickled uint8 array (z, y, x)
        nomads-unsupervised-predictions.ome.tiff   the same mask for Fiji and Bio-Formats
        synapses.csv  NDVIS_links.csv  run.json  job.log
        .work/                                     scratch, never delivered
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, StorageError, UsageError, few
from nd_synapse.files import csv_tables, parquet
from nd_synapse.files import masks as mask_files
from nd_synapse.files.atomic import replacing
from nd_synapse.geometry import Box
from nd_synapse.job.deliverables import GROWING, MARKER, deliverables, entries
from nd_synapse.job.manifest import outline_of
from nd_synapse.text import system_reason
from nd_synapse.volumes import Volume

__all__ = ["ResultFolder", "locked"]

_WRITABLE = "Give a --path that you may write to"

_NAMES = frozenset({MARKER, "synapses.csv", "synapses.parquet", "NDVIS_links.csv"})
_PAGES = re.compile(r"PyMeda_[^/]*\.html|figures/[^/]*\.png")
"""What a run leaves beside its masks."""


class ResultFolder:
    """The folder of one request's results.

    Parameters
    ----------
    path : Path
        The folder that holds the results of all requests.
    key : str
        The results key, see `results_key`; it becomes the folder's name.

    Attributes
    ----------
    root : Path
        ``<path>/<key>``; exists once built.
    work : Path
        ``<root>/.work``, scratch for whoever computes; exists once built, is never delivered.

    Raises
    ------
    UsageError
        If `key` is no plain name, so that the folder would lie elsewhere.
    StorageError
        If the folder cannot be created.

    Notes
    -----
    A file appears under its name only when all of it is on disk: it is written beside, flushed to the device and
    renamed. A failed write leaves what was there before. Equal input gives equal bytes.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.root = path / _plain(key)
        self.work = self.root / ".work"
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise self._refused(system_reason(cause)) from cause
        except ValueError as cause:
            raise UsageError(
                f"the result folder {str(self.root)!a}", "no folder can have this name", _WRITABLE
            ) from cause
        if self.work.is_symlink():
            # what it leads to would outlive its removal
            remedy = "Remove it; to work on another disk, give a --path there"
            raise UsageError(f"the scratch folder {self.work}", "it is a symbolic link", remedy)

    def _refused(self, found: str) -> StorageError:
        """Return the error of a folder that cannot be made."""
        return StorageError(f"creating the result folder {self.root}", found, _WRITABLE)

    @classmethod
    def named(cls, path: Path, key: str) -> ResultFolder:
        """Return the folder of a request without making it."""
        folder = cls.__new__(cls)
        folder.root = path / _plain(key)
        folder.work = folder.root / ".work"
        return folder

    def check_place(self) -> None:
        """Refuse what making the folder would be refused for, as far as that can be known without making it."""
        try:
            there = next(folder for folder in (self.work, *self.work.parents) if folder.exists())
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), there)
            if not os.access(there, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), there)
        except OSError as cause:
            raise self._refused(system_reason(cause)) from cause

    def write_mask(
        self,
        name: str,
        mask: Volume,
        *,
        voxel_size_nm: Sequence[float],
        box: Box,
        description: str,
    ) -> tuple[Path, Path]:
        """Write a mask as a pickled array and as a compressed OME-TIFF, one slice in memory at a time."""
        if mask.dtype != np.uint8 or mask.shape != box.shape:
            raise DataError(
                f"mask {name}", f"it is {mask.dtype} of shape {mask.shape}", f"Give uint8 of shape {box.shape}"
            )
        with self._replacing(f"{name}.pkl") as file:
            digest = mask_files.write_pickle(file, name, mask)
        xml = mask_files.ome_xml(name, box, voxel_size_nm, description, digest)
        with self._replacing(f"{name}.ome.tiff") as file:
            mask_files.write_tiff(file, mask, xml)
        return self.root / f"{name}.pkl", self.root / f"{name}.ome.tiff"

    def write_table(self, name: str, columns: Mapping[str, NDArray[Any]]) -> Path:
        """Write columns as CSV: a header, commas, quotes where needed (RFC 4180), lines that end in a line feed.

        Or as Parquet, each column in its own type, if the name ends so.
        """
        csv_tables.check(name, columns)
        with self._replacing(name) as file:
            (parquet.write_parquet if name.endswith(".parquet") else csv_tables.write_csv)(file, columns)
        return self.root / name

    def write_links(self, rows: Mapping[str, str]) -> Path:
        """Write ``NDVIS_links.csv``: what a link shows and the link, without a header, as it always was."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows.items())
        with self._replacing("NDVIS_links.csv") as file:
            file.write(text.getvalue().encode())
        return self.root / "NDVIS_links.csv"

    def write_json(self, name: str, mapping: Mapping[str, Any]) -> Path:
        """Write a mapping as JSON, sorted and indented, with its schema; no secret is looked for."""
        schema = f"nd-synapse/{name.removesuffix('.json')}/1"
        try:
            text = json.dumps(
                {**mapping, "schema": schema}, indent=2, sort_keys=True, allow_nan=False, default=_json_form
            )
        except (TypeError, ValueError) as cause:
            raise DataError(f"writing {name}", str(cause), "Give numbers, text, lists and mappings") from cause
        with self._replacing(name) as file:
            file.write(f"{text}\n".encode())
        return self.root / name

    def files(self) -> list[Path]:
        """Return the files that are meant for the reader, sorted; see `deliverables`."""
        return deliverables(self.root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs out of the folder while the context lasts, see `locked`."""
        with locked(self.root):
            yield

    def refuse_other(self, collection: str, experiment: str) -> None:
        """Refuse a folder that has the results of another experiment: a_b/c and a/b_c have the same key."""
        path = self.root / MARKER
        try:
            before = outline_of(path.read_bytes()) if path.is_file() else None
        except OSError as cause:
            raise StorageError(f"reading {path}", system_reason(cause), "Check your right to read it") from cause
        if before is not None and before.experiment != (collection, experiment):
            raise UsageError(
                f"results of {collection}/{experiment} in {self.root}",
                f"it has those of {'/'.join(before.experiment)}, whose results key is the same",
                "Give another --path",
            )

    def refuse_foreign(self, masks: Iterable[str]) -> None:
        """Refuse a folder with anything that no run left: a run would remove it, follow it, or take it for its own."""
        ours = set(self._left(masks)) | {self.root / GROWING}
        foreign = [path for path in entries(self.root) if path.is_symlink() or path not in ours]
        if foreign:
            names = few([path.relative_to(self.root).as_posix() for path in foreign])
            raise UsageError(
                f"the result folder {self.root}",
                f"it has what no run left there: {names}",
                "Take it elsewhere, or give another --path",
            )

    def clear_results(self, masks: Iterable[str]) -> None:
        """Remove what an earlier run left, but for its log and what it can be resumed from."""
        try:
            # run.json goes first: without it the folder is not complete any more
            for path in sorted(self._left(masks), key=lambda path: path.name != MARKER):
                path.unlink()
        except OSError as cause:
            raise StorageError(
                f"removing the results of an earlier run in {self.root}", system_reason(cause), "Remove them by hand"
            ) from cause

    def _left(self, masks: Iterable[str]) -> list[Path]:
        """Return the files that an earlier run left, but for its log: by its run.json, or by their names."""
        here = {path.relative_to(self.root).as_posix(): path for path in deliverables(self.root)}
        before = outline_of(here[MARKER].read_bytes()) if MARKER in here else None
        if before is not None:
            names = here.keys() & (before.files | {MARKER})
        else:
            # it did not end
            files = {f"{mask}{suffix}" for mask in masks for suffix in mask_files.SUFFIXES} | _NAMES
            names = {name for name in here if name in files or _PAGES.fullmatch(name)}
        return [here[name] for name in names]

    def clear_work(self) -> None:
        """Remove the scratch folder, and what killed processes left half-written."""
        try:
            if self.work.exists():
                # at once: what a kill left half removed would be taken for finished work
                self.work.rename(self.root / f".gone-{secrets.token_hex(4)}")
            for gone in self.root.glob(".gone-*"):
                shutil.rmtree(gone)
            for part in self.root.glob(".*.part"):
                part.unlink()
        except OSError as cause:
            requested = f"removing the scratch folder of {self.root}"
            raise StorageError(requested, system_reason(cause), "Remove .work and .gone-* in it by hand") from cause

    @contextmanager
    def _replacing(self, name: str) -> Iterator[BinaryIO]:
        """Give a file to write that takes the place of `name` once it is whole."""
        try:
            with replacing(self.root / _plain(name)) as file:
                yield file
        except OSError as cause:
            raise StorageError(
                f"writing {name} in {self.root}",
                f"{system_reason(cause)}; the files written before it are kept",
                "Make room and check your right to write there, then run the same command again",
            ) from cause


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other jobs, and uploads, out of a result folder while the context lasts; a process that dies lets go."""
    requested = f"working in {root}"
    # the folder itself is locked: a lock file would have to be left behind
    try:
        folder = os.open(root, os.O_RDONLY)
    except OSError as cause:
        raise StorageError(requested, system_reason(cause), "Give a folder that you may read") from cause
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            remedy = "Wait until it has ended, or give another --path"
            raise UsageError(requested, "another job is at work in it", remedy) from cause
        except OSError as cause:
            remedy = "Give one on a file system with locks, such as a local disk"
            raise StorageError(requested, f"it cannot be locked: {system_reason(cause)}", remedy) from cause
        yield
    finally:
        os.close(folder)


def _plain(name: str) -> str:
    """Return `name` if it names an entry of a folder and nothing else, and refuse it otherwise."""
    if not name or name.startswith(".") or any(c in "/\\" or not c.isprintable() for c in name):
        raise UsageError(
            f"a result named {name!r}",
            "it would lie outside of its folder, or be hidden",
            "Use a name without slashes, control characters and a leading full stop",
        )
    return name


def _json_form(value: object) -> object:
    """Return what JSON holds for a NumPy scalar or a path."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
