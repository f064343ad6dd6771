"""What earlier runs left in a result folder: what must not be there is refused, the rest is removed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from nd_synapse.errors import StorageError, UsageError, few
from nd_synapse.files import masks as mask_files
from nd_synapse.job.deliverables import GROWING, MARKER, deliverables, entries
from nd_synapse.job.label_files import LABELS
from nd_synapse.job.manifest import outline_in
from nd_synapse.job.results import LINKS, LONG_TABLE, POINTS, TABLE
from nd_synapse.text import system_reason

__all__ = ["clear_results", "refuse_foreign", "refuse_inside", "refuse_other_volume"]

_NAMES = frozenset({MARKER, TABLE, LONG_TABLE, LINKS})
_NAMED = re.compile(rf"PyMeda_[^/]*\.html|figures/[^/]*\.png|{LABELS}/.*|{POINTS}/(info|(by_id|spatial\d+)/0\.shard)")

_FOLDERS = ("figures", LABELS, POINTS)


def refuse_other_volume(root: Path, volume: tuple[str, ...]) -> None:
    """Refuse a folder with results of another volume: a_b/c and a/b_c have the same results key."""
    before = outline_in(root)
    if before is not None and before.volume != volume:
        raise UsageError(
            f"results of {'/'.join(volume)} in {root}",
            f"it has those of {'/'.join(before.volume)}, whose results key is the same",
            "Give another --path",
        )


def refuse_inside(root: Path) -> None:
    """Refuse a result folder that would lie in that of another run."""
    if (root.parent / MARKER).is_file():
        raise UsageError(f"results in {root.parent}", "it is the result folder of a run", "Give --path another folder")


def refuse_foreign(root: Path, masks: Iterable[str]) -> None:
    """Refuse a folder with files that no run left there, or with symbolic links."""
    ours = set(_left(root, masks)) | {root / GROWING}
    foreign = [path for path in entries(root) if path.is_symlink() or path not in ours]
    if foreign:
        names = few([path.relative_to(root).as_posix() for path in foreign])
        raise UsageError(
            f"the result folder {root}",
            f"it has files that no run left there: {names}",
            "Move them elsewhere, or give another --path",
        )


def clear_results(root: Path, masks: Iterable[str]) -> None:
    """Remove the results of an earlier run, except its log and its scratch folder."""
    try:
        # run.json goes first: without it the folder counts as incomplete
        left = sorted(_left(root, masks), key=lambda path: path.name != MARKER)
        for file in left:
            file.unlink()
        # also those that a run emptied before it was killed
        for name in _FOLDERS:
            for path, *_ in os.walk(root / name, topdown=False):
                folder = Path(path)
                if not any(folder.iterdir()):
                    folder.rmdir()
    except OSError as cause:
        raise StorageError(
            f"removing the results of an earlier run in {root}", system_reason(cause), "Remove them by hand"
        ) from cause


def _left(root: Path, masks: Iterable[str]) -> list[Path]:
    """Return the files that an earlier run left, except its log: those of its run.json, or those with our names."""
    here = {path.relative_to(root).as_posix(): path for path in deliverables(root)}
    before = outline_in(root)
    if before is not None:
        names = here.keys() & (before.files | {MARKER})
    else:
        # it did not end
        files = {f"{mask}{suffix}" for mask in masks for suffix in mask_files.SUFFIXES} | _NAMES
        names = {name for name in here if name in files or _NAMED.fullmatch(name)}
    return [here[name] for name in names]
