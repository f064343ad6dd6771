"""The first moments of a command's process: before all that takes a while to import, or may fail to be.

It runs nothing, `shell` does; and it imports nothing but what is there at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

import stopping

__all__ = ["begin"]

_FAILED = os.EX_IOERR


def begin() -> None:
    """Begin the process of a command.

    Call it before anything else is imported: what follows may take a second, be stopped by a signal, or fail for want
    of memory or of files that it may open. All of these end in a sentence. Programs that import our modules do not call
    it, and keep their signals, hooks and environment.
    """
    stopping.end_at_once()
    _open_standard_files()
    # these take some milliseconds, and a signal is heard by now
    import logging
    import threading

    def to_the_log(args: Any) -> None:
        logging.getLogger(__name__).debug("nobody could catch this", exc_info=args.exc_value)

    _settle_environment()
    sys.excepthook = _uncaught
    threading.excepthook = sys.unraisablehook = to_the_log


def _open_standard_files() -> None:
    """Open the standard files that whoever started us has closed: the next file would be taken for one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the least number that is free is the one that is opened
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _settle_environment() -> None:
    """Take out what libraries read while they are imported, and fail on: it was meant for other programs.

    A terminal in Jupyter exports a backend that we have not, and figures are drawn into files here, in a look of ours.
    """
    for name in [name for name in os.environ if name.startswith("TQDM_") or name == "MATPLOTLIBRC"]:
        del os.environ[name]
    os.environ["MPLBACKEND"] = "agg"


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell what nobody caught, and end with its exit code: what was being imported failed."""
    del trace
    try:
        import shell  # it may be what cannot be imported

        code = shell.tell_begun(error)
    except Exception:  # noqa: BLE001 - here nothing is left but to say so
        code = _FAILED
        with suppress(OSError):
            found = f"loading the command: it ended with {kind.__name__}: {error}"
            remedy = "Install what requirements.txt names, and see that memory and open files are not too limited"
            os.write(2, f"{found}. {remedy}.\n".encode(errors="backslashreplace"))
    raise SystemExit(code)
