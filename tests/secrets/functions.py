"""Functions of users that print, log and raise all that they know."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from tests.secrets.looked import MARK


def size(data_dict: Mapping[str, object]) -> dict[str, object]:
    """A function that returns a table."""
    return {"channels": np.array([len(data_dict)])}


def fails(data_dict: Mapping[str, object]) -> object:
    """A function that says all that it can find."""
    raise RuntimeError(f"{os.environ} {sys.argv} {data_dict.keys()}")


def says(data_dict: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A pipeline that logs all that it can find."""
    logging.getLogger(__name__).warning("all that I know: %s %s", dict(os.environ), sys.argv)
    return np.asarray(next(iter(data_dict.values())) > 100).astype(np.uint8) * np.uint8(255)


def partly(data_dict: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A pipeline that fails on some blocks."""
    if int(next(iter(data_dict.values())).sum()) % 2:
        raise RuntimeError(f"all that I know: {dict(os.environ)} {sys.argv}")
    return says(data_dict)


def nosy(data_dict: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A pipeline that fails on some blocks with all that it finds, the environment of its parent included."""
    if int(next(iter(data_dict.values())).sum()) % 2:
        parent = Path(f"/proc/{os.getppid()}/environ").read_text().split("\0")
        raise RuntimeError(f"all that I know: {parent} {dict(os.environ)}")
    return says(data_dict)


def confides(secret: str) -> None:
    """Print and log a secret that this process knows of its own, in every way in which a program writes."""
    print("all that I know:", secret, repr(secret), quote(secret), json.dumps({"token": secret}))
    print(f"not the end of a line: {secret}", end="", file=sys.stderr, flush=True)
    log = logging.getLogger(__name__)
    log.warning("all that I know: %s", secret)
    try:
        raise ValueError(secret)  # noqa: TRY301 - what a user writes
    except ValueError:
        log.exception("all that I know", stack_info=True)
    for descriptor in (1, 2):
        os.write(descriptor, f"all that I know: {secret[:20]}".encode())
        os.write(descriptor, f"{secret[20:]}\n".encode())
    repeat = "import sys; print('all that I know:', sys.stdin.read())"
    subprocess.run([sys.executable, "-c", repeat], input=secret, text=True, check=True)
    print("x" * 4_400_000 + secret + "x" * 900_000)
    if os.fork() == 0:
        log.warning("all that I know: %s", secret)
        os._exit(0)
    os.wait()


def confiding(data_dict: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A pipeline whose module holds the token."""
    confides(MARK)
    return says(data_dict)
