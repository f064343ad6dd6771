"""How far the steps of a job are, for whoever waits: bars on a terminal, a line at the end of each step elsewhere.

It measures nothing; whoever does a step tells.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

__all__ = ["Progress", "on_terminal", "silent", "told"]

log = logging.getLogger(__name__)


class Progress(Protocol):
    """What is told of every step."""

    def __call__(self, step: str, done: int, total: int, note: str = "") -> None:
        """Hear that so many blocks of a step are done, of so many in all, and what else there is to tell."""


def silent(step: str, done: int, total: int, note: str = "") -> None:
    """Tell nobody."""


def on_terminal() -> bool:
    """Tell whether somebody watches; standard error may be closed, too."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def told(shown: bool) -> Iterator[Progress]:
    """Tell the user."""
    bar: tqdm | None = None
    watched = shown and on_terminal()

    def report(step: str, done: int, total: int, note: str = "") -> None:
        nonlocal bar
        if not shown:
            return
        if not watched:
            if done == total:
                log.info("%s: %d of %d blocks%s", step, done, total, f", {note}" if note else "")
            return
        if bar is not None and bar.desc.split(":")[0].strip() != step:
            bar.close()
            bar = None
        if bar is None:
            # a terminal that does not tell its size would get no bar from tqdm
            columns, rows = shutil.get_terminal_size((100, 24))
            bar = tqdm(total=total, initial=done, desc=step, unit="block", leave=False, ncols=columns, nrows=rows)
        bar.set_postfix_str(note, refresh=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
