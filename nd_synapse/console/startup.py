"""The first moments of a command's process: before all that takes a while to import, or may fail to be.

It runs nothing, `shell` does; and it imports at its top only what Python has by then.
"""

from __future__ import annotations

import os
import sys

__all__ = ["begin"]


def begin() -> None:
    """Begin the process of a command.

    Call it before anything else is imported: what follows may take a second, be stopped by a signal, or fail for want
    of memory or of files that it may open. All of these end in a sentence. Programs that import our modules do not call
    it, and keep their signals, hooks and environment.
    """
    try:
        from nd_synapse.console import signals

        signals.end_at_once()
    except KeyboardInterrupt:
        os._exit(os.EX_TEMPFAIL)
    _open_standard_files()
    _settle_environment()
    _settle_path()
    sys.excepthook = _uncaught
    import logging
    import threading

    def to_the_log(args: threading.ExceptHookArgs | sys.UnraisableHookArgs) -> None:
        logging.getLogger(__name__).debug("nobody could catch this", exc_info=args.exc_value)

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
    # scikit-learn's helper would ask another program for it, and print a traceback if there is none
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(os.cpu_count() or 1))


def _settle_path() -> None:
    """Take the working folder from the front of the path, where ``python -m`` puts it: its modules are not ours."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - pathlib takes 20 ms
    first = os.path.abspath(sys.path[0] or ".")  # noqa: PTH100
    if first == os.getcwd() != home:  # noqa: PTH109
        del sys.path[0]


def _uncaught(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """Tell what nobody caught, and end with its exit code: what was being imported failed."""
    try:
        from nd_synapse.console import app  # it may be what cannot be imported

        code = app.log_startup_error(error)
    except Exception:  # noqa: BLE001 - nothing is left but to say so
        code = os.EX_IOERR
        remedy = "Install what requirements.txt names, and see that memory and open files are not too limited"
        what = " ".join(str(error).split())[:500]
        _write(f"loading the command: it ended with {kind.__name__}: {what}. {remedy}.\n")
    raise SystemExit(code)


def _write(text: str) -> None:
    """Write to standard error, without what may be what failed."""
    try:
        os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        os._exit(os.EX_IOERR)
