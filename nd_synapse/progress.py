"""Progress of the steps of a job: bars on a terminal; elsewhere log lines as a step begins, goes on, and ends."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress", "on_terminal", "reporting", "silent"]

log = logging.getLogger(__name__)

_PAUSE_S = 60.0
"""Time between two log lines of a step."""


class Progress(Protocol):
    """Called as a step goes on."""

    def __call__(self, step: str, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` blocks of a step are done."""


def silent(step: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def on_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def reporting(shown: bool) -> Iterator[Progress]:
    """Report to the user."""
    bar: tqdm | None = None
    watched = shown and on_terminal()
    began, said_s = "", 0.0

    def report(step: str, done: int, total: int, note: str = "") -> None:
        nonlocal bar, began, said_s
        if not shown or total == 0:
            return
        if not watched:
            if step != began and done < total:
                log.info("%s: %d blocks to do", step, total - done)
            elif done == total or time.monotonic() - said_s >= _PAUSE_S:
                log.info("%s: %d of %d blocks%s", step, done, total, f", {note}" if note else "")
            else:
                return
            began, said_s = step, time.monotonic()
            return
        if bar is not None and bar.desc.split(":")[0].strip() != step:
            bar.close()
            bar = None
        if bar is None:
            from tqdm import tqdm  # only a terminal has bars

            # tqdm draws no bar on a terminal of unknown size
            columns, rows = shutil.get_terminal_size((100, 24))
            bar = tqdm(total=total, initial=done, desc=step, unit="block", leave=False, ncols=columns, nrows=rows)
        bar.set_postfix_str(note, refresh=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
