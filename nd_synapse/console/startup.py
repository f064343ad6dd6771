"""The first moments of a command's process, before imports that take a while or may fail.

At its top it imports only what Python has loaded by then.
"""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["begin"]


def begin() -> None:
    """Prepare the process of a command; the doors call it before they import anything else.

    Programs that import our modules do not call it, and keep their signals, hooks and environment.
    """
    _remove_working_folder_from_path()
    try:
        from nd_synapse.console import signals

        signals.end_at_once()
    except KeyboardInterrupt:
        os._exit(os.EX_TEMPFAIL)
    _open_standard_streams()
    # figures are drawn to files; a terminal in Jupyter exports a backend that is not installed here
    os.environ["MPLBACKEND"] = "agg"
    # an idle thread of OpenBLAS costs 0.1 s of a core, and no product here is large enough to need it
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # otherwise joblib starts another program to count cores
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(os.cpu_count() or 1))
    # imports make many objects that stay: looking for garbage among them takes a tenth of their time
    gc.set_threshold(20_000)
    sys.excepthook = _uncaught


def _open_standard_streams() -> None:
    """Open those of the three standard streams that are closed, or the next file would take their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free number is the one that is opened
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - kept open
        elif number:
            # names of files need not be UTF-8
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _remove_working_folder_from_path() -> None:
    """Remove the working folder from the front of the path, where ``python -m`` puts it: its modules are not ours."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - pathlib takes 20 ms
    try:
        here = os.getcwd()  # noqa: PTH109 - as above
    except OSError:  # the folder was removed
        return
    if os.path.abspath(sys.path[0] or ".") == here != home:  # noqa: PTH100 - as above
        del sys.path[0]


def _uncaught(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """Log an error of an import, and end with its exit code."""
    try:
        from nd_synapse.console import app  # it may be what cannot be imported

        code = app.log_startup_error(error)
    except Exception:  # noqa: BLE001 - only a plain message is left
        code = os.EX_IOERR
        remedy = "Install what requirements.txt names, and check the limits of memory and open files"
        what = " ".join(str(error).split())[:500]
        text = f"loading the command: it ended with {kind.__name__}: {what}. {remedy}.\n"
        os.write(2, text.encode(errors="backslashreplace"))
    raise SystemExit(code)
