"""Functions on blocks that fail, or change what can be changed of the process that runs them; quick to import."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from typing import Any

import numpy as np

__all__ = ["broken", "one", "other", "rude"]


def broken(_: Any) -> Any:
    """Fail."""
    raise ZeroDivisionError("no such block")


def rude(_: Any) -> None:
    """Change much."""
    os.chdir("/")
    os.environ["ND_RUDE"] = "1"
    np.seterr(all="raise")
    np.random.seed(1)  # noqa: NPY002 - the global state is what it changes
    logging.basicConfig(level=logging.DEBUG)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("error")


def one(channels: Any) -> Any:
    """Log a line, and mark what is bright."""
    logging.getLogger(__name__).warning("the log of one's block")
    return channels["PSD95"] > 100


def other(channels: Any) -> Any:
    """Do the same in another job."""
    logging.getLogger(__name__).warning("the log of other's block")
    return channels["PSD95"] > 100
