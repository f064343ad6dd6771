"""A disk of some kilobytes, to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount an empty disk of a size at a path while the context lasts; without the right to, skip, and in CI fail."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    path.mkdir()
    owner = f"uid={os.geteuid()},gid={os.getegid()}"
    mount = [*as_root, "mount", "-t", "tmpfs", "-o", f"size={size},{owner}", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        refused = mounted.stderr if mounted.returncode else ""
    except FileNotFoundError as error:
        refused = str(error)
    if refused:
        why = f"no small disk can be mounted: {refused}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    try:
        yield path
    finally:
        subprocess.run([*as_root, "umount", str(path)], check=True)
